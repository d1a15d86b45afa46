// The rules of a job: who is a member, which generation runs, when and how the job ends. Pure: Step(now, event) -> actions.
//
//                       .------------------- CLOSING <-- RECALLING <---------.
//                       v                                                    |
//   BOOT -> RECOVER -> FORMING -> TAKING -> PREPARING -> COMMITTING -> RUNNING -> SETTLING -> QUIESCING -> CONCLUDING
//                 `--> RESUMING (a generation was running) ----------------^                       DONE | FAILED <---'
//
// Events note what happened; what follows from all that is known is decided by the rows of CONSIDER, which is looked up after
// every event. So evidence may come in any order. TAKING waits until the generation's number is on disk, and only then does a
// Prepare name it; COMMITTING waits until the formed generation is, and only then does a Go leave. So a number is never used
// twice, also over restarts of the coordinator. SETTLING lets workers that noticed a failure end by themselves; QUIESCING ends
// the rest; the verdict is made when every agent has stopped.
//
// A failure that a restart may cure, while restarts are left, does not end the job: RECALLING (from SETTLING) ends the generation on
// all nodes and waits until each has told how its workers ended and that none is left, or is lost itself; CLOSING waits until the
// generation's end and its cause are on disk. All evidence of it is then forgotten, and FORMING waits for lost nodes to come back,
// up to `last_call`, after which `workers_min` suffice; nodes that the generation before went without are taken if they are there,
// and not waited for again. With `nodes` the ones with greater numbers are spares: they join and wait. FORMING waits for the nodes of the
// generation before (of the first: those that are no spares), a restart for `spare_wait`; then each that is away is replaced by a spare,
// which takes its place among the nodes, so that survivors keep their ranks. The table is in membership_table.cc.
#ifndef MUSTER_LAUNCHER_COORDINATOR_MEMBERSHIP_H_
#define MUSTER_LAUNCHER_COORDINATOR_MEMBERSHIP_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launcher/coordinator/refusal_ledger.h"
#include "launcher/coordinator/verdict.h"
#include "muster/v1/agent.pb.h"
#include "muster/v1/record.pb.h"
#include "runtime/base/log.h"
#include "runtime/base/state_table.h"

namespace muster {
namespace membership {

// Where ranks go, for a job that asks for placement.
struct NodeOffer {
  uint32_t node = 0;
  std::string host;
  uint32_t slots = 0;
  v1::NodeTopology topology;
  v1::NetworkPlace network;  // as the agent has told it
  std::string address;       // numeric
  v1::NodeDevices devices;   // as the agent has told them
};
struct Seating {
  struct Rank {
    uint32_t node = 0;  // the number of its offer
    uint32_t local_rank = 0;
    std::string cpus, memory_nodes;  // "0-3,8"; empty: not bound
  };
  std::vector<Rank> ranks;         // by rank
  std::vector<std::string> lines;  // for the user
  std::string plan;                // of OrderFunction; empty: nodes are in the order of their numbers
};
// Pure. Errors: InvalidArgument, ResourceExhausted; the job ends with their sentence.
using PlaceFunction = std::function<absl::StatusOr<Seating>(uint32_t workers, const std::vector<NodeOffer>& offers)>;

// In which order nodes get their ranks, for a job that knows something of its network.
struct NodeOrder {
  std::vector<uint32_t> nodes;     // each of the offers once
  std::string plan;                // a sentence for status and report: whose word was taken, what it gains; empty: nobody said anything
  std::vector<std::string> notes;  // contradictions and doubts, a sentence each
};
// Pure. `former`: nodes of the generation before in their order, which those that are left keep.
using OrderFunction = std::function<NodeOrder(const std::vector<NodeOffer>& offers, const std::vector<uint32_t>& former)>;

// What NCCL is told on each node, for a job that has GPUs and several nodes.
struct NcclDecision {
  std::vector<v1::NcclEnvironment> environments;  // of each offer, in their order
  std::vector<std::string> reasons;               // what was set where and why, a sentence each
  std::vector<std::string> notes;                 // doubts, a sentence each
};
// Pure. `offers`: the nodes that get ranks, in the order of their ranks.
using NcclFunction = std::function<NcclDecision(const std::vector<NodeOffer>& offers)>;

enum class State {
  kBoot,
  kRecover,
  kResuming,
  kForming,
  kTaking,
  kPreparing,
  kCommitting,
  kRunning,
  kSettling,
  kRecalling,
  kClosing,
  kQuiescing,
  kConcluding,
  kDone,
  kFailed,
};
inline constexpr int kStates = 15;

enum class Timer {
  kWarn,  // of the state; the machine sets both on entering it
  kEnd,
  kStep,    // the committed step goes to the record now and then
  kSpares,  // of FORMING: members of the generation before have had their time
};
inline constexpr int kTimers = 4;

// --- Events ---
struct RecordLoaded {
  std::vector<v1::RecordEntry> entries;
};  // empty: a new job
struct Received {
  uint32_t node = 0;
  v1::AgentMessage message;
};  // an agent's first message is Join
struct AgentLost {
  uint32_t node = 0;
  std::string why;
  bool whole_node = false;  // nothing of the node answers; else its agent alone is known to be gone
};
struct AgentSilent {
  uint32_t node = 0;
  absl::Duration silent_for;
};  // nothing was heard of an agent whose session stands
struct Appended {
  uint64_t sequence = 0;
};  // this entry and those before it are durable
struct AppendFailed {
  uint64_t sequence = 0;
  absl::Status status;
};
struct TimerFired {
  Timer timer = Timer::kWarn;
};
struct TurnedAway {
  std::string what, from;
};  // a connection, by the coordinator's own door
// A node cannot be had: whoever starts agents has given it up. With it, and others before, `workers` of those wanted have no place.
struct FewerHopedFor {
  uint32_t workers = 0;
  std::optional<uint32_t> node;
};
struct StopRequested {
  StopKind kind = StopKind::kInterrupt;
  std::string by;                     // who asked; empty: not known
  std::vector<v1::RankState> states;  // of kTimeout: where the ranks were
};
using Event = std::variant<RecordLoaded, Received, AgentLost, AgentSilent, Appended, AppendFailed, TimerFired, TurnedAway,
                           FewerHopedFor, StopRequested>;

// What the table distinguishes: the kinds of events, of messages and of timers in one list.
enum class Kind {
  kConsider,  // after every event: does what is known now suffice to go on?
  kRecordLoaded,
  kAppended,
  kAppendFailed,
  kJoin,
  kReady,
  kPrepareFailed,
  kWorkerEnded,
  kPeerBlamed,
  kStepCommitted,
  kStopped,
  kHeartbeat,
  kMembersRequest,
  kCleared,
  kRefusal,
  kAskedToEnd,
  kTopology,
  kOutputReady,
  kStale,  // a message of another job or generation, or of a node that has not joined
  kAgentLost,
  kAgentSilent,
  kFewerHopedFor,
  kStopRequested,
  kWarn,
  kEnd,
  kStep,
  kSparesCall,
};
inline constexpr int kKinds = 27;

const char* StateName(State state);
const char* KindName(Kind kind);

// --- Actions, to be carried out in order ---
struct AppendRecord {
  uint64_t sequence = 0;
  v1::RecordEntry entry;
};  // answer with Appended or AppendFailed
struct Send {
  uint32_t node = 0;
  v1::CoordinatorMessage message;
};
struct SetTimer {
  Timer timer = Timer::kWarn;
  absl::Duration after;
};  // replaces the same timer
struct CancelTimer {
  Timer timer = Timer::kWarn;
};
struct LogLine {
  LogLevel level = LogLevel::kInfo;
  std::string line;
};
// A generation failed, which is on disk, and the job goes on.
struct Restarting {
  Judgement why;
  uint64_t next_generation = 0;  // or a later one, if a node goes while it is being taken
  uint32_t restarts = 0;         // of the job, this one included
};
struct Happened {
  v1::JobEvent event;
};
// The members are chosen: what the user asked to see of it.
struct Placed {
  std::vector<std::string> lines;
};
struct Finish {
  Judgement judgement;
};  // last action of all
using Action = std::variant<AppendRecord, Send, SetTimer, CancelTimer, LogLine, Restarting, Happened, Placed, Finish>;
using Actions = std::vector<Action>;

// One of several programs; its ranks follow each other.
struct Application {
  uint32_t workers = 0;
  std::string program;  // as typed; sentences have the file's name, numbered where there are several ("train", "serve", "train #3")
};

struct Options {
  std::string job_id;                                     // 16 random bytes; a record's own wins
  std::string command;                                    // for the record
  std::optional<v1::JobSpec> job;                         // for Joined; none where agents know what to run
  uint32_t workers = 1;                                   // wanted
  std::vector<Application> applications;                  // several programs; their workers add up to `workers`, which are all needed
  uint32_t nodes = 0;  // that are to run them: with numbers below this; the others are spares. 0: whichever join
  absl::Duration spare_wait = absl::Seconds(1);           // after a failure, for the nodes of the generation before
  uint32_t workers_min = 0;                               // accepted when nodes do not come back; 0: as many as wanted
  uint32_t max_restarts = 0;                              // without a new checkpoint between them
  absl::Duration last_call = absl::Seconds(30);           // after a failure FORMING waits so long for all wanted workers
  absl::Duration silence_max = absl::Seconds(10);         // a silent agent is given up then, unless steps go on being committed
  std::function<std::string(size_t bytes)> random_bytes;  // generation keys
  bool output_files = false;                              // an agent is counted upon once it has said OutputReady
  PlaceFunction place;                                    // none: workers are spread evenly, ranks of a node follow each other
  OrderFunction order;                                    // none: nodes are in the order of their numbers
  NcclFunction nccl;                                      // none: NCCL is told nothing
  bool show_nccl = false;                                 // the user asked to see it, in Placed
  absl::Duration user_grace = absl::Seconds(5);           // SIGTERM to SIGKILL when asked to stop
  absl::Duration failure_grace = absl::Milliseconds(400);  // the same after a failure
  absl::Duration step_record_every = absl::Seconds(10);
  int stop_signal = 0;       // sent first when asked to stop; 0: SIGTERM
  std::string timeout_text;  // for the sentence: "--timeout 10s"
  // By state. `end` of SETTLING is the time workers have to end by themselves after a failure; of RECALLING and QUIESCING it is
  // added to the grace. FORMING ends with the first generation's here, with `last_call` later.
  std::array<StateLimit, kStates> limits = DefaultLimits();
  static std::array<StateLimit, kStates> DefaultLimits();
  // For tests that prove their checkers.
  bool planted_announce_early = false;  // before the record is durable
  bool planted_reuse_number = false;    // a generation that follows a failure gets its number again
};

// For `muster status`.
struct AgentStatus {
  uint32_t node = 0;
  std::string host;
  uint32_t slots = 0;
  uint32_t workers = 0;    // that it runs in this generation
  const char* state = "";  // "away", "spare", "starting", "ready", "running", "ending", "stopped"
  bool silent = false;
};

}  // namespace membership

// One job's coordinator. Not thread-safe; belongs to whoever steps it.
class Membership {
 public:
  class Core;  // membership_core.h: its inside

  explicit Membership(membership::Options options);
  Membership(Membership&&) noexcept;
  Membership& operator=(Membership&&) noexcept;
  ~Membership();

  // The first event is RecordLoaded. `now` is wall time, which stamps entries and evidence and never decides: timers do.
  membership::Actions Step(absl::Time now, const membership::Event& event);

  membership::State state() const;
  uint64_t generation() const;   // greatest ever taken; 0 before the first
  uint64_t incarnation() const;  // counts starts of the coordinator
  const std::string& job_id() const;
  int64_t committed_step() const;      // greatest reported by any generation; -1: none
  int64_t checkpoint_step() const;     // newest on disk; 0 or -1: none
  uint32_t restarts() const;           // of the job
  uint32_t restarts_used() const;      // since the last new checkpoint: what max_restarts bounds
  const std::string& plan() const;     // how members() came to their order; empty: by the numbers of nodes
  const std::vector<std::string>& nccl() const;        // what NCCL was told for members() and why, a sentence each
  const std::vector<std::string>& nccl_notes() const;  // what is doubtful about it
  const v1::Members& members() const;  // of the generation that runs, or else of the last one that was prepared
  const Evidence& evidence() const;    // of this generation
  const std::vector<v1::GenerationEnded>& failures() const;  // generations that failed before, and why
  std::vector<membership::AgentStatus> agents() const;
  std::string program_of(const v1::Place& place) const;  // its name, where the job has several; else empty
  uint64_t stale_messages() const;  // dropped: another job's or generation's
  const RefusalLedger& refusals() const;  // connections that coordinator, agents and workers have turned away

  // Its states with their default times and its table as text, and what is wrong with the table (nothing).
  static std::string PrintTable();
  static std::string CheckTable();

 private:
  std::unique_ptr<Core> core_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_COORDINATOR_MEMBERSHIP_H_

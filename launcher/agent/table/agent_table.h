// The rules of an agent: when to spawn, signal and report. Pure: Step(now, event) -> actions.
//
//   START -> PREFLIGHT -> JOINING -> SPARE -> SPAWNING(g) -> READY(g) [-> ASKING(g)] -> RUNNING(g) -> STOPPING -> GONE
//                                      ^`---------- RECONFIG(g) <---------------------------'
//
// Workers are spawned at Prepare(g); Ready(g) is sent when each has exec'ed; Go(g) begins the generation at the worker port. Where
// it has several nodes the table of all members is asked for first (ASKING), and checked against the hash that Go names.
// Abandon(g) ends the workers of g (RECONFIG): kindly, then with everything they left behind; their endings are told, then
// Cleared(g), and a Prepare that came meanwhile is taken up. The agent keeps what it has told of g (Ready, endings, blames,
// Cleared, Stopped) until the next generation is spawned, and tells it again to a coordinator that has started anew; that counts
// each once. Without any coordinator for `orphan_after` it ends its workers. The table is in agent_rows.cc.
#ifndef MUSTER_LAUNCHER_AGENT_TABLE_AGENT_TABLE_H_
#define MUSTER_LAUNCHER_AGENT_TABLE_AGENT_TABLE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/log.h"
#include "runtime/base/state_table.h"

namespace muster {
namespace agent {

enum class State { kStart, kPreflight, kJoining, kSpare, kSpawning, kReady, kAsking, kRunning, kReconfig, kStopping, kGone };
inline constexpr int kStates = 11;

enum class Timer {
  kWarn,  // of the state; the machine sets both on entering it
  kEnd,
  kGrace,      // from the kind signal to the hard end
  kOrphan,     // without a coordinator
  kHeartbeat,  // to the next word to the coordinator
};
inline constexpr int kTimers = 5;

// --- Events ---
struct Started {};  // first of all
struct PreflightDone {
  absl::Status status;
  v1::Join join;
};                    // guard and worker port are up, or why not
struct ChannelUp {};  // a stream to the coordinator, the first or a new one
struct ChannelLost {};
struct Received {
  v1::CoordinatorMessage message;
};
// From the guard. `spawn`, here and below, is the number that Spawn gave to the process: what belongs to an earlier process of the
// slot is dropped. 0: whichever the slot has now.
struct Spawned {
  uint32_t slot = 0;
  int64_t pid = 0;
  uint32_t data_port = 0;  // where this worker takes connections of its peers; 0: nowhere (a single node)
  uint32_t spawn = 0;
};
struct SpawnFailed {
  uint32_t slot = 0;
  int error = 0;
  std::string stage;
  uint32_t spawn = 0;
};
// Step this after WorkerPort::WorkerEnded, and fill it from the port.
struct Ended {
  uint32_t slot = 0;
  int wait_status = 0;
  bool had_joined = false;
  bool had_left = false;
  uint64_t last_op_seq = 0;
  std::string last_op;
  std::string out_of_memory;  // not empty: killed by the kernel for memory; which limit
  uint32_t spawn = 0;
  std::string program_error;  // what the program itself has said of it (launcher/agent/program_error.h); empty: nothing
  std::string program_trace;
};
struct TreeEnded {};
struct GuardLost {};  // the tree is ended already
// From the worker port.
struct WorkerJoined {
  uint32_t slot = 0;
  uint32_t spawn = 0;
};
struct WorkerLeft {
  uint32_t slot = 0;
  uint32_t spawn = 0;
};
struct WorkerLost {
  uint32_t slot = 0;
  uint32_t spawn = 0;
};
struct WorkerBlamed {
  uint32_t slot = 0;
  uint32_t blamed_rank = 0;
  uint32_t reason = 0;
  uint64_t op_seq = 0;
  std::string message;
  uint32_t spawn = 0;
  int exit_code = 0;  // that the blamed rank ends with; 0: not known
  bool of_some_ranks = false;  // one communicator made by Split is broken alone
};
struct StepReported {
  uint32_t slot = 0;
  int64_t step = 0;
  int64_t checkpoint_step = -1;  // newest on disk; 0 or -1: none
  uint32_t spawn = 0;
};
struct TimerFired {
  Timer timer = Timer::kWarn;
};
using Event = std::variant<Started, PreflightDone, ChannelUp, ChannelLost, Received, Spawned, SpawnFailed, Ended, TreeEnded,
                           GuardLost, WorkerJoined, WorkerLeft, WorkerLost, WorkerBlamed, StepReported, TimerFired>;

// What the table distinguishes.
enum class Kind {
  kConsider,  // after every event: does what is known now suffice to go on?
  kStarted,
  kPreflightDone,
  kChannelUp,
  kChannelLost,
  kJoined,
  kPrepare,
  kGo,
  kAbandon,
  kAbandonNext,  // of the generation that waits until this one's workers are gone
  kStop,
  kMembers,
  kStale,  // a message of another job, an older generation or a lower incarnation
  kSpawned,
  kSpawnFailed,
  kEnded,
  kTreeEnded,
  kGuardLost,
  kWorkerJoined,
  kWorkerLeft,
  kWorkerLost,
  kWorkerBlamed,
  kStepReported,
  kWarn,
  kEnd,
  kGrace,
  kOrphan,
  kHeartbeat,
};
inline constexpr int kKinds = 28;

const char* StateName(State state);
const char* KindName(Kind kind);

// --- Actions, to be carried out in order ---
struct RunPreflight {};  // start guard and worker port; answer with PreflightDone
struct Send {
  v1::AgentMessage message;
};
// `place` of generation `generation`; the rest of the environment is in `prepare`. `spawn` counts the slot's processes.
struct Spawn {
  uint64_t generation = 0;
  v1::Place place;
  uint32_t spawn = 0;
  std::shared_ptr<const v1::Prepare> prepare;
};
struct ExpectWorker {
  uint32_t slot = 0;
  int64_t pid = 0;
};  // WorkerPort::ExpectWorker
struct SignalWorker {
  uint32_t slot = 0;
  int signal = 0;
};
struct EndTree {};  // answer with TreeEnded, also when nothing runs
// WorkerPort::BeginGeneration with this node's places by local rank.
struct BeginGeneration {
  uint64_t generation = 0;
  std::shared_ptr<const v1::Prepare> prepare;
  std::shared_ptr<const v1::Members> members;  // null on a single node
};
struct EndGeneration {
  std::string reason;
};  // WorkerPort::EndGeneration
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
// Nothing of this agent runs any more; it may exit once what it has sent is delivered. Not OK: it could not start.
struct Gone {
  absl::Status status;
};
using Action = std::variant<RunPreflight, Send, Spawn, ExpectWorker, SignalWorker, EndTree, BeginGeneration, EndGeneration,
                            SetTimer, CancelTimer, LogLine, Gone>;
using Actions = std::vector<Action>;

struct Options {
  std::string job_id;  // 16 bytes
  absl::Duration orphan_after = absl::Seconds(40);
  absl::Duration heartbeat_every = absl::Seconds(1);
  std::array<StateLimit, kStates> limits = DefaultLimits();  // by state; RECONFIG's and STOPPING's come after the grace
  static std::array<StateLimit, kStates> DefaultLimits();
  // For tests that prove their checkers.
  bool planted_cleared_early = false;  // says Cleared before anything has ended
  bool planted_ignore_spawn = false;   // takes what belongs to an earlier process of a slot for the present one's
};

}  // namespace agent

// One node's agent. Not thread-safe; belongs to whoever steps it.
class AgentTable {
 public:
  class Core;  // agent_core.h: its inside

  explicit AgentTable(agent::Options options);
  AgentTable(AgentTable&&) noexcept;
  AgentTable& operator=(AgentTable&&) noexcept;
  ~AgentTable();

  // `now` is wall time, which stamps evidence and never decides: timers do.
  agent::Actions Step(absl::Time now, const agent::Event& event);

  agent::State state() const;
  uint64_t generation() const;  // prepared or running; 0: none
  uint64_t stale_messages() const;
  size_t workers_alive() const;  // spawned or being spawned, end not seen

  // Its states with their default times and its table as text, and what is wrong with the table (nothing).
  static std::string PrintTable();
  static std::string CheckTable();

 private:
  std::unique_ptr<Core> core_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_TABLE_AGENT_TABLE_H_

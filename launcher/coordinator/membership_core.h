// The inside of Membership: what it knows, and the conditions and acts that the rows of membership_table.cc name.
#ifndef MUSTER_LAUNCHER_COORDINATOR_MEMBERSHIP_CORE_H_
#define MUSTER_LAUNCHER_COORDINATOR_MEMBERSHIP_CORE_H_

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "launcher/coordinator/membership.h"

namespace muster {

class Membership::Core {
 public:
  using State = membership::State;
  using Kind = membership::Kind;
  using Event = membership::Event;
  using Row = TableRow<Core, State, Kind, Event>;

  // What a state is called, what it waits for, and what is done on entering it.
  struct StateRow {
    const char* name;
    const char* waits_for;
    void (Core::*enter)();  // null: nothing
  };

  explicit Core(membership::Options options);
  membership::Actions Step(absl::Time now, const Event& event);

  static std::span<const Row> Rows();
  static const StateRow& RowOf(State state);

 private:
  friend class Membership;

  template <typename T>
  static const T& As(const Event& event) {
    return std::get<T>(event);
  }
  static const v1::AgentMessage& MessageOf(const Event& event) { return As<membership::Received>(event).message; }

  // One that has joined and was not lost since.
  struct Agent {
    v1::Join join;
    std::optional<v1::NodeTopology> topology;
    bool output_ready = false;
    uint64_t generation = 0;  // that it named on joining
    bool member = false;      // holds the node's places of generation_
    bool greeted = false;
    bool stopped = false;  // nothing of it runs, and it takes nothing any more
    bool silent = false;   // given up until it is heard again
    bool silence_said = false;
    uint64_t steps_seen = 0;        // steps_ when it was heard, or when its silence was reported
    absl::Duration silent_at_step;  // how long it had been silent when the last step was committed
  };

  // A node's part in generation_.
  struct Seat {
    std::string host;
    bool returned = true;  // its agent is there: false until it comes back to a coordinator that started anew
    bool ready = false;
    bool cleared = false;  // nothing of the generation runs there, and all endings were told
    bool lost = false;
  };

  struct Loss {
    std::string host;
    std::string why;
  };

  Kind KindOf(const Event& event) const;
  bool IsStale(const membership::Received& received) const;
  void Observe(const Event& event);
  bool Dispatch(Kind kind, const Event& event);
  void Enter(State state);
  void StartTimers(State state);
  absl::Duration EndAfter(State state) const;

  // Facts.
  bool Durable() const { return durable_ >= awaited_; }
  bool IsUsable(const Agent& agent) const {
    return !agent.stopped && !agent.silent && (!options_.place || agent.topology) &&
           (!options_.output_files || agent.output_ready);
  }
  uint64_t Slots() const;
  std::vector<uint32_t> Expected() const;  // nodes that the next generation is to have, as they stand among each other
  bool SparesMayFill() const;
  std::vector<uint32_t> NodesInOrder() const;  // that are there, as the next generation takes them
  uint32_t WorkersMin() const;
  bool Enough() const;
  uint32_t ApplicationOf(uint32_t rank) const;
  std::string NameOfApplication(uint32_t application) const;  // empty where there is one program
  bool AllReady() const;
  bool AllReturned() const;
  bool AllEnded() const;
  bool AllCleared() const;
  bool AllStopped() const;
  bool SomethingFailed() const;
  bool EndedUnasked() const;
  bool MayRestart() const;
  bool CannotWriteAgain() const;
  bool StopWanted() const { return stop_requests_ > 0 || asked_by_agent_; }
  absl::Duration Grace() const;
  std::string HostOf(uint32_t node) const;
  std::vector<membership::AgentStatus> Agents() const;
  const char* StateOf(uint32_t node, const Agent& agent) const;

  // Conditions of rows.
  bool RecordedWell(const Event& event) const;
  bool RecordedBadly(const Event& event) const;
  bool IfDurable(const Event&) const { return Durable(); }
  bool IfDurableAndFormed(const Event&) const { return Durable() && formed_; }
  bool IfDurableAndEnough(const Event&) const { return Durable() && Enough(); }
  bool IfDurableAndAllEnded(const Event&) const { return Durable() && AllEnded(); }
  bool IfDurableAndWell(const Event&) const { return Durable() && judgement_.verdict.exit_code() == 0; }
  bool IfWell(const Event&) const { return judgement_.verdict.exit_code() == 0; }
  bool IfEnough(const Event&) const { return Enough(); }
  bool IfAllReady(const Event&) const { return AllReady(); }
  bool IfAllReturned(const Event&) const { return AllReturned(); }
  bool IfAllEnded(const Event&) const { return AllEnded(); }
  bool IfAllStopped(const Event&) const { return AllStopped(); }
  bool IfEndedUnasked(const Event&) const { return EndedUnasked(); }
  bool IfEndedUnaskedAndMayRestart(const Event&) const { return EndedUnasked() && MayRestart(); }
  bool IfMayRestart(const Event&) const { return MayRestart(); }
  bool IfNeverRestarts(const Event&) const { return options_.max_restarts == 0; }
  bool IfAllEndedAndMayRestart(const Event&) const { return AllEnded() && MayRestart(); }
  bool IfAllCleared(const Event&) const { return AllCleared(); }
  bool IfAllClearedAndMayRestart(const Event&) const { return AllCleared() && MayRestart(); }
  bool IfEnoughForMin(const Event&) const { return Slots() >= WorkersMin(); }
  bool IfSilentTooLong(const Event& event) const;
  bool IfFatal(const Event&) const { return evidence_.fault && !evidence_.fault->curable; }
  bool IfFaulted(const Event&) const { return evidence_.fault.has_value(); }
  bool IfFailed(const Event&) const { return SomethingFailed(); }
  bool IfStopWanted(const Event&) const { return StopWanted(); }
  bool IfOnlyAgentsWereAsked(const Event&) const { return asked_by_agent_ && stop_requests_ == 0; }

  // Acts of rows.
  void Load(const Event& event);
  void LoadVerdict(const Event& event);
  void NoteDurable(const Event& event);
  void NoteWriteError(const Event& event);
  void FailToWrite(const Event& event);
  void NoteJoin(const Event& event);
  void Greet(const Event& event);
  void GreetAndStop(const Event& event);
  void NoteReady(const Event& event);
  void NoteSpawnFailure(const Event& event);
  void NoteEnding(const Event& event);
  void NoteBlame(const Event& event);
  void NoteStep(const Event& event);
  void RecordStep(const Event& event);
  void NoteStopped(const Event& event);
  void NoteStoppedEarly(const Event& event);
  void AnswerMembers(const Event& event);
  void CountStale(const Event& event);
  void NoteAbsence(const Event& event);
  void Mourn(const Event& event);
  void WarnOfSilence(const Event& event);
  void LeaveOutSilent(const Event& event);
  void NoteFewerHopedFor(const Event& event);
  void GiveUpSilent(const Event& event);
  void NoteCleared(const Event& event);
  void NeverCleared(const Event& event);
  void StartOver(const Event& event);
  void NoteLastCall(const Event& event);
  void NoteSparesCall(const Event&) { spares_call_over_ = true; }
  void NoteRefusal(const Event& event);
  void NoteTopology(const Event& event);
  void NoteOutputReady(const Event& event);
  void NoteStop(const Event& event);
  void StopNow(const Event& event);
  void StopWithAgent(const Event& event);
  void LoseAsked(const Event& event);
  void Warn(const Event& event);
  void RecordSilent(const Event& event);
  void NotEnough(const Event& event);
  void NeverReady(const Event& event);
  void NeverReturned(const Event& event);
  void NeverStopped(const Event& event);

  // On entering a state.
  void GreetPending();
  void TakeGeneration();
  void SendPrepares();
  void RecordFormed();
  void SendGo();
  void SendAbandons();
  void RecordEnded();
  void SendStops();
  void Conclude();
  void Publish();

  // Small things the acts share.
  void Log(LogLevel level, std::string line);
  void Append(v1::RecordEntry entry, bool wait);
  void Tell(uint32_t node, v1::CoordinatorMessage message);
  void SendStop(uint32_t node, absl::Duration grace);
  void SendAbandon(uint32_t node, uint64_t generation, const std::string& reason, absl::Duration grace);
  void SendGoTo(uint32_t node);
  void Happen(const char* kind, std::string text, int32_t node = -1, int32_t rank = -1);
  void GreetAgent(uint32_t node, Agent& agent);
  std::vector<std::pair<uint32_t, uint32_t>> Shares() const;  // node, workers
  membership::NodeOffer OfferOf(uint32_t node) const;
  std::vector<uint32_t> Arranged(const std::vector<uint32_t>& nodes, std::string* plan);
  absl::StatusOr<membership::Seating> ChooseSeats();
  absl::Status ChooseMembers();
  void DecideNccl(const std::vector<uint32_t>& order, std::vector<std::string>* lines);
  void SayPlan(const std::vector<uint32_t>& former, const std::vector<uint32_t>& order, std::string plan);
  void Adopt(const v1::GenerationFormed& formed);
  v1::Prepare PrepareFor(uint32_t node, uint32_t group_rank, const std::string& key, const std::string& digest) const;
  // `always`: also if its workers have ended.
  void LoseSeat(uint32_t node, const std::string& why, bool whole_node = false, bool always = false);
  void ForgetGeneration();
  Judgement JudgeNow() const;
  void AddRestarts();
  void SetFault(int exit_code, std::string failure_class, std::string sentence);

  membership::Options options_;
  std::vector<std::string> application_names_;  // as many as there are applications
  State state_ = State::kBoot;
  std::string job_id_;
  uint64_t incarnation_ = 0;
  uint64_t generation_ = 0;
  bool formed_ = false;  // generation_ is on disk as formed
  uint64_t next_sequence_ = 1;
  uint64_t awaited_ = 0;
  uint64_t durable_ = 0;
  std::map<uint32_t, Agent> agents_;                      // by node
  std::map<uint32_t, Seat> seats_;                        // by node
  std::map<uint32_t, Loss> losses_;                       // by node: nodes that went and are not back
  std::string plan_;                                      // of members_
  std::map<uint32_t, v1::NcclEnvironment> nccl_;          // by node, of members_
  std::vector<std::string> nccl_reasons_, nccl_notes_;
  std::set<std::string> notes_said_;                      // of OrderFunction and NcclFunction: each once a job
  v1::Members members_;                                   // of generation_, or of the last one before it that had any
  std::set<std::pair<uint32_t, uint32_t>> endings_seen_;  // slot, spawn
  std::set<uint32_t> slots_over_;                         // ended, or never started
  std::map<uint32_t, int> blames_of_;                     // by rank that says it
  Evidence evidence_;
  int stop_requests_ = 0;
  bool asked_by_agent_ = false;  // an agent was asked to end, which ends the job
  bool last_call_over_ = false;
  bool spares_call_over_ = false;
  std::set<uint32_t> given_up_;  // nodes: nobody will bring them
  uint32_t never_come_ = 0;  // of the wanted workers: nobody will bring their nodes
  int64_t committed_step_ = -1;  // of all generations; the evidence has this one's
  uint64_t steps_ = 0;           // committed in this generation
  int64_t recorded_step_ = -1;
  bool step_timer_runs_ = false;
  Judgement judgement_;
  uint64_t stale_messages_ = 0;
  RefusalLedger refusals_;
  uint32_t restarts_ = 0;
  uint32_t restarts_used_ = 0;
  int64_t checkpoint_step_ = -1;
  std::vector<v1::GenerationEnded> failures_;
  membership::Actions actions_;
  absl::Time now_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_COORDINATOR_MEMBERSHIP_CORE_H_

// The inside of AgentTable: what it knows, and the conditions and acts that the rows of agent_table.cc name.
#ifndef MUSTER_LAUNCHER_AGENT_TABLE_AGENT_CORE_H_
#define MUSTER_LAUNCHER_AGENT_TABLE_AGENT_CORE_H_

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "launcher/agent/table/agent_table.h"

namespace muster {

inline constexpr int kTerminateSignal =
    15;  // as Linux numbers it; this room includes nothing of the system. Source: signal(7).

class AgentTable::Core {
 public:
  using State = agent::State;
  using Kind = agent::Kind;
  using Event = agent::Event;
  using Row = TableRow<Core, State, Kind, Event>;

  // What a state is called, what it waits for, and what is done on entering it.
  struct StateRow {
    const char* name;
    const char* waits_for;
    void (Core::*enter)();  // null: nothing
  };

  explicit Core(agent::Options options) : options_(std::move(options)) {}
  agent::Actions Step(absl::Time now, const Event& event);

  static std::span<const Row> Rows();
  static const StateRow& RowOf(State state);

 private:
  friend class AgentTable;

  template <typename T>
  static const T& As(const Event& event) {
    return std::get<T>(event);
  }
  static const v1::CoordinatorMessage& MessageOf(const Event& event) { return As<agent::Received>(event).message; }

  enum class Phase { kSpawning, kAlive, kNotStarted, kOver };
  struct Worker {
    v1::Place place;
    uint32_t spawn = 0;
    int64_t pid = 0;
    uint32_t data_port = 0;
    Phase phase = Phase::kSpawning;
    bool lost_unasked = false;  // its session ended without leaving, before it was asked to end
    bool left_unasked = false;  // it closed its session before it was asked to end
    std::set<int> signals;      // that we sent
    int blames = 0;
    int blames_of_some_ranks = 0;  // a program may live on with them, and they must not use up the others
  };

  Kind KindOf(const Event& event) const;
  Kind KindOfMessage(const v1::CoordinatorMessage& message) const;
  bool Dispatch(Kind kind, const Event& event);
  void Enter(State state);
  void StartTimers(State state);

  // Conditions of rows.
  bool IfPreflightOk(const Event& event) const { return std::get<agent::PreflightDone>(event).status.ok(); }
  bool IfAllStarted(const Event& event) const;
  bool IfOtherNodes(const Event&) const { return prepare_->nodes() > 1; }
  bool IfMembersAsAnnounced(const Event& event) const;
  bool IfAllOverAndTreeStands(const Event&) const { return !tree_ending_ && Alive() == 0; }
  bool IfTreeEndedAndNext(const Event&) const { return tree_ended_ && next_ != nullptr; }
  bool IfTreeEnded(const Event&) const { return tree_ended_; }
  bool IfHard(const Event&) const { return grace_ == absl::ZeroDuration() && !tree_ending_; }
  size_t Alive() const;

  // Acts of rows.
  void NotePreflight(const Event& event);
  void FailPreflight(const Event& event);
  void NoteGuardLostEarly(const Event& event);
  void ConnectFirst(const Event& event);
  void Connect(const Event& event);
  void Disconnect(const Event& event);
  void DisconnectFirst(const Event& event);
  void NoteCoordinator(const Event& event);
  void TakePrepare(const Event& event);
  void HoldPrepare(const Event& event);
  void NoteGo(const Event& event);
  void AskAgain(const Event& event);
  void TakeMembers(const Event& event);
  void RefuseMembers(const Event& event);
  void NoteAbandon(const Event& event);
  void AbandonAgain(const Event& event);
  void DropNext(const Event& event);
  void NoteStop(const Event& event);
  void StopAgain(const Event& event);
  void StopAsOrphan(const Event& event);
  void StopUnjoined(const Event& event);
  void StopWithoutMembers(const Event& event);
  void NoteSpawned(const Event& event);
  void NoteSpawnedLate(const Event& event);
  void NoteSpawnFailed(const Event& event);
  void NoteNeverStarted(const Event& event);
  void NoteEnded(const Event& event);
  void NoteTreeEnded(const Event& event);
  void NoteGuardLost(const Event& event);
  void NoteLost(const Event& event);
  void NoteLeft(const Event& event);
  void NoteBlame(const Event& event);
  void NoteStep(const Event& event);
  void EndTreeNow(const Event& event);
  void ReportCleared(const Event& event);
  void ReportStopped(const Event& event);
  void GiveUp(const Event& event);
  void Beat(const Event& event);
  void Warn(const Event& event);
  void CountStale(const Event& event);

  // On entering a state.
  void StartPreflight();
  void SendJoin();
  void StartSpare();
  void SpawnWorkers();
  void SendReady();
  void AskMembers();
  void BeginGeneration();
  void Abandon();
  void EndWorkersKindly();
  void Finish();

  // Small things the acts share.
  void Log(LogLevel level, std::string line);
  v1::AgentMessage Message() const;
  void Tell(v1::AgentMessage message);
  void SendNow(v1::AgentMessage message);
  uint64_t Stamp();
  void StartHeartbeat();
  void Signal(uint32_t slot, Worker& worker, int signal);
  void EndTree(const std::string& reason);
  void TellEnded(const Worker& worker, v1::Ending ending, bool expected, const agent::Ended* ended);
  void TellStep(uint32_t rank);
  void TellNotStarted(Worker& worker, v1::Ending::Kind kind, int error, const std::string& detail);
  void CloseUnreported(v1::Ending::Kind kind, const std::string& detail);
  bool Stopping() const { return state_ == State::kStopping || state_ == State::kReconfig; }

  agent::Options options_;
  State state_ = State::kStart;
  v1::Join join_;
  bool connected_ = false;
  uint64_t incarnation_ = 0;
  uint64_t generation_ = 0;
  bool begun_ = false;  // the worker port has generation_
  std::shared_ptr<const v1::Prepare> prepare_;
  std::string members_sha256_;                          // that Go named
  std::shared_ptr<const v1::Members> members_;          // of generation_; null: not asked for, or not there
  std::shared_ptr<const v1::CoordinatorMessage> next_;  // a Prepare that waits until the tree has ended
  std::map<uint32_t, Worker> workers_;                  // by slot, of generation_
  std::map<uint32_t, uint32_t> spawns_;                 // by slot, over all generations
  std::vector<v1::AgentMessage> told_;                  // of generation_, for a coordinator that starts anew
  int64_t step_ = -1;
  int64_t checkpoint_step_ = -1;
  std::string reason_;
  absl::Duration grace_;
  int stop_signal_ = 0;
  bool tree_ending_ = false;
  bool tree_ended_ = false;
  absl::Status status_;
  uint64_t last_stamp_ = 0;
  uint64_t stale_messages_ = 0;
  agent::Actions actions_;
  absl::Time now_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_TABLE_AGENT_CORE_H_

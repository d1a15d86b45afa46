// The agent's table, and its conditions.
#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "launcher/agent/table/agent_core.h"

namespace muster {

using agent::Kind;
using agent::State;

namespace {

std::string Sha256(const std::string& bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

constexpr uint32_t kStart = In(State::kStart), kPreflight = In(State::kPreflight), kJoining = In(State::kJoining),
                   kSpare = In(State::kSpare), kSpawning = In(State::kSpawning), kReady = In(State::kReady),
                   kAsking = In(State::kAsking), kRunning = In(State::kRunning), kReconfig = In(State::kReconfig),
                   kStopping = In(State::kStopping), kGone = In(State::kGone);
constexpr uint32_t kAll = (1u << agent::kStates) - 1;
constexpr uint32_t kEarly = kStart | kPreflight;  // no guard yet
constexpr uint32_t kWithWorkers = kSpawning | kReady | kAsking | kRunning;
constexpr uint32_t kEnding = kReconfig | kStopping;  // workers may be ending
constexpr uint32_t kIdle = kJoining | kSpare;        // no worker

}  // namespace

const AgentTable::Core::StateRow& AgentTable::Core::RowOf(State state) {
  static const std::array<StateRow, agent::kStates> rows = {{
      {"START", "the shell", nullptr},
      {"PREFLIGHT", "guard and worker port to be up", &Core::StartPreflight},
      {"JOINING", "the coordinator to take this node in", &Core::SendJoin},
      {"SPARE", "a generation with a place for this node", &Core::StartSpare},
      {"SPAWNING", "all workers of this node to be started", &Core::SpawnWorkers},
      {"READY", "the generation to be formed", &Core::SendReady},
      {"ASKING", "the table of all members", &Core::AskMembers},
      {"RUNNING", "the workers to end", &Core::BeginGeneration},
      {"RECONFIG", "the workers of a generation that is over to be gone", &Core::Abandon},
      {"STOPPING", "the workers to be gone", &Core::EndWorkersKindly},
      {"GONE", "nothing", &Core::Finish},
  }};
  return rows[static_cast<size_t>(state)];
}

std::span<const AgentTable::Core::Row> AgentTable::Core::Rows() {
  using C = Core;
  // clang-format off
  static const Row rows[] = {
      // What follows from what is known.
      {kSpawning, Kind::kConsider, &C::IfAllStarted, State::kReady, nullptr, "every place is filled"},
      {kEnding, Kind::kConsider, &C::IfHard, {}, &C::EndTreeNow, "no grace: end the whole tree"},
      {kEnding, Kind::kConsider, &C::IfAllOverAndTreeStands, {}, &C::EndTreeNow,
       "workers are over: end what they left behind"},
      {kReconfig, Kind::kConsider, &C::IfTreeEndedAndNext, State::kSpawning, &C::ReportCleared,
       "nothing of the old generation runs; the next was waiting"},
      {kReconfig, Kind::kConsider, &C::IfTreeEnded, State::kSpare, &C::ReportCleared, "free for the next generation"},
      {kStopping, Kind::kConsider, &C::IfTreeEnded, State::kGone, &C::ReportStopped, "nothing of this node runs any more"},
      {kAll, Kind::kConsider, nullptr, {}, nullptr, "goes on waiting"},

      // Starting.
      {kStart, Kind::kStarted, nullptr, State::kPreflight, nullptr, "begin"},
      {kAll & ~kStart, Kind::kStarted, nullptr, {}, nullptr, "ignored: it has begun"},
      {kPreflight, Kind::kPreflightDone, &C::IfPreflightOk, State::kJoining, &C::NotePreflight, "guard and worker port are up"},
      {kPreflight, Kind::kPreflightDone, nullptr, State::kGone, &C::FailPreflight, "this node cannot run workers"},
      {kAll & ~kPreflight, Kind::kPreflightDone, nullptr, {}, nullptr, "ignored: it was given up, or is done"},

      // The stream to the coordinator.
      {kEarly, Kind::kChannelUp, nullptr, {}, &C::ConnectFirst, "Join follows when this node is ready for it"},
      {kAll & ~kEarly, Kind::kChannelUp, nullptr, {}, &C::Connect, "Join, then all that was told before"},
      {kEarly | kStopping | kGone, Kind::kChannelLost, nullptr, {}, &C::DisconnectFirst, "nothing can become an orphan"},
      {kAll & ~(kEarly | kStopping | kGone), Kind::kChannelLost, nullptr, {}, &C::Disconnect,
       "the time without a coordinator runs"},
      {kAll & ~(kEarly | kStopping | kGone), Kind::kOrphan, nullptr, State::kStopping, &C::StopAsOrphan,
       "no coordinator for too long: workers may be duplicated elsewhere"},
      {kEarly | kStopping | kGone, Kind::kOrphan, nullptr, {}, nullptr, "ignored: nothing runs or is about to end"},
      {kJoining, Kind::kJoined, nullptr, State::kSpare, &C::NoteCoordinator, "taken in"},
      {kAll & ~kJoining, Kind::kJoined, nullptr, {}, &C::NoteCoordinator, "taken in again: the coordinator started anew"},
      {kAll, Kind::kStale, nullptr, {}, &C::CountStale, "dropped and counted"},

      // Generations.
      {kSpare, Kind::kPrepare, nullptr, State::kSpawning, &C::TakePrepare, "places for this node"},
      {kReconfig, Kind::kPrepare, nullptr, {}, &C::HoldPrepare, "taken up when the old workers are gone"},
      {kWithWorkers, Kind::kPrepare, nullptr, State::kReconfig, &C::HoldPrepare, "the old generation is over with it"},
      {kEarly | kJoining, Kind::kPrepare, nullptr, {}, &C::CountStale, "impossible before Joined: counted"},
      {kStopping | kGone, Kind::kPrepare, nullptr, {}, nullptr, "ignored: this node goes"},
      {kReady, Kind::kGo, &C::IfOtherNodes, State::kAsking, &C::NoteGo, "the generation is formed: who and where are the others?"},
      {kReady, Kind::kGo, nullptr, State::kRunning, &C::NoteGo, "the generation is formed"},
      {kAsking, Kind::kGo, nullptr, {}, &C::AskAgain, "said again by a new coordinator, which has to be asked"},
      {kRunning, Kind::kGo, nullptr, {}, &C::NoteCoordinator, "ignored: said again by a new coordinator"},
      {kAll & ~(kReady | kAsking | kRunning), Kind::kGo, nullptr, {}, &C::CountStale,
       "impossible before Ready or too late: counted"},
      {kAsking, Kind::kMembers, &C::IfMembersAsAnnounced, State::kRunning, &C::TakeMembers, "all members are known"},
      {kAsking, Kind::kMembers, nullptr, {}, &C::RefuseMembers, "not the table that Go named: said, counted"},
      {kAll & ~kAsking, Kind::kMembers, nullptr, {}, nullptr, "ignored: it is known, or not needed any more"},
      {kWithWorkers, Kind::kAbandon, nullptr, State::kReconfig, &C::NoteAbandon, "this generation is over"},
      {kReconfig, Kind::kAbandon, nullptr, {}, &C::AbandonAgain, "perhaps with less grace"},
      {kSpare, Kind::kAbandon, nullptr, {}, &C::ReportCleared, "asked again: nothing of it runs here"},
      {kEarly | kJoining | kStopping | kGone, Kind::kAbandon, nullptr, {}, nullptr,
       "ignored: it has no workers, or they are ending and Stopped says so"},
      {kReconfig, Kind::kAbandonNext, nullptr, {}, &C::DropNext, "over before it began here"},
      {kAll & ~kReconfig, Kind::kAbandonNext, nullptr, {}, nullptr, "ignored: no generation waits"},
      {kIdle | kWithWorkers | kReconfig, Kind::kStop, nullptr, State::kStopping, &C::NoteStop, "end the workers"},
      {kStopping, Kind::kStop, nullptr, {}, &C::StopAgain, "perhaps with less grace"},
      {kEarly | kGone, Kind::kStop, nullptr, {}, nullptr, "ignored: nothing runs"},

      // The guard.
      {kSpawning, Kind::kSpawned, nullptr, {}, &C::NoteSpawned, "noted, and the port may let it join"},
      {kEnding, Kind::kSpawned, nullptr, {}, &C::NoteSpawnedLate, "it has to end like the others"},
      {kAll & ~(kSpawning | kEnding), Kind::kSpawned, nullptr, {}, &C::CountStale, "impossible: nothing is being spawned"},
      {kSpawning | kEnding, Kind::kSpawnFailed, nullptr, {}, &C::NoteSpawnFailed, "told to the coordinator"},
      {kAll & ~(kSpawning | kEnding), Kind::kSpawnFailed, nullptr, {}, &C::CountStale, "impossible: nothing is being spawned"},
      {kWithWorkers | kEnding, Kind::kEnded, nullptr, {}, &C::NoteEnded, "told to the coordinator"},
      {kEarly | kIdle | kGone, Kind::kEnded, nullptr, {}, &C::CountStale, "no worker of ours: counted"},
      {kEnding, Kind::kTreeEnded, nullptr, {}, &C::NoteTreeEnded, "noted"},
      {kAll & ~kEnding, Kind::kTreeEnded, nullptr, {}, &C::CountStale, "not asked for: counted"},
      {kEarly, Kind::kGuardLost, nullptr, State::kGone, &C::NoteGuardLostEarly, "this node cannot run workers"},
      {kIdle | kWithWorkers | kEnding, Kind::kGuardLost, nullptr, State::kGone, &C::NoteGuardLost, "its workers went with it"},
      {kGone, Kind::kGuardLost, nullptr, {}, nullptr, "ignored: nothing of it runs"},

      // The worker port.
      {kAll, Kind::kWorkerJoined, nullptr, {}, nullptr, "ignored: the port has answered it"},
      {kWithWorkers, Kind::kWorkerLeft, nullptr, {}, &C::NoteLeft, "it left before anybody asked it to"},
      {kAll & ~kWithWorkers, Kind::kWorkerLeft, nullptr, {}, nullptr, "ignored: it is asked to end"},
      {kWithWorkers, Kind::kWorkerLost, nullptr, {}, &C::NoteLost, "it went before anybody asked it to"},
      {kAll & ~kWithWorkers, Kind::kWorkerLost, nullptr, {}, nullptr, "ignored: it is asked to end"},
      {kWithWorkers | kEnding, Kind::kWorkerBlamed, nullptr, {}, &C::NoteBlame, "told to the coordinator"},
      {kAll & ~(kWithWorkers | kEnding), Kind::kWorkerBlamed, nullptr, {}, nullptr, "ignored: no generation of ours"},
      {kRunning | kEnding, Kind::kStepReported, nullptr, {}, &C::NoteStep, "told to the coordinator"},
      {kAll & ~(kRunning | kEnding), Kind::kStepReported, nullptr, {}, nullptr, "ignored: no generation of ours"},

      // Time.
      {kAll, Kind::kWarn, nullptr, {}, &C::Warn, "says what is waited for"},
      {kPreflight, Kind::kEnd, nullptr, State::kGone, &C::GiveUp, "this node cannot run workers"},
      {kJoining, Kind::kEnd, nullptr, State::kStopping, &C::StopUnjoined, "no coordinator took this node in"},
      {kSpawning, Kind::kEnd, nullptr, {}, &C::NoteNeverStarted, "told to the coordinator"},
      {kAsking, Kind::kEnd, nullptr, State::kStopping, &C::StopWithoutMembers, "the workers cannot find each other"},
      {kEnding, Kind::kEnd, nullptr, State::kGone, &C::GiveUp, "the guard does not answer: said, not hidden"},
      {kAll & ~(kPreflight | kJoining | kSpawning | kAsking | kEnding), Kind::kEnd, nullptr, {}, nullptr,
       "ignored: this state has no end"},
      {kEnding, Kind::kGrace, nullptr, {}, &C::EndTreeNow, "the grace is over"},
      {kAll & ~kEnding, Kind::kGrace, nullptr, {}, nullptr, "ignored: it ended in time"},
      {kAll & ~kGone, Kind::kHeartbeat, nullptr, {}, &C::Beat, "the coordinator hears that this agent lives"},
      {kGone, Kind::kHeartbeat, nullptr, {}, nullptr, "ignored: it does not"},
  };
  // clang-format on
  return rows;
}

// --- Conditions ---

bool AgentTable::Core::IfMembersAsAnnounced(const Event& event) const {
  return Sha256(MessageOf(event).members().SerializeAsString()) == members_sha256_;
}

bool AgentTable::Core::IfAllStarted(const Event&) const {
  return std::all_of(workers_.begin(), workers_.end(), [](const auto& entry) {
    return entry.second.phase == Phase::kAlive || entry.second.phase == Phase::kOver;
  });
}

size_t AgentTable::Core::Alive() const {
  return static_cast<size_t>(std::count_if(workers_.begin(), workers_.end(), [](const auto& entry) {
    return entry.second.phase == Phase::kAlive || entry.second.phase == Phase::kSpawning;
  }));
}

std::string AgentTable::PrintTable() {
  const auto states = AllOf<State, agent::kStates>();
  const auto kinds = AllOf<Kind, agent::kKinds>();
  const auto limits = agent::Options::DefaultLimits();
  std::string text;
  for (const State state : states) {
    const Core::StateRow& row = Core::RowOf(state);
    text += PrintState(row.name, row.waits_for, limits[static_cast<size_t>(state)]);
  }
  return text + muster::PrintTable<Core::Row, State, Kind>(Core::Rows(), states, kinds, agent::StateName, agent::KindName);
}

std::string AgentTable::CheckTable() {
  const auto states = AllOf<State, agent::kStates>();
  const auto kinds = AllOf<Kind, agent::kKinds>();
  return muster::CheckTable<Core::Row, State, Kind>(Core::Rows(), states, kinds, agent::StateName, agent::KindName);
}

namespace agent {

const char* StateName(State state) { return AgentTable::Core::RowOf(state).name; }

const char* KindName(Kind kind) {
  static constexpr const char* kNames[kKinds] = {
      "CONSIDER",     "Started",      "PreflightDone", "ChannelUp", "ChannelLost",  "Joined",      "Prepare",
      "Go",           "Abandon",      "Abandon next",  "Stop",      "Members",      "stale",       "Spawned",
      "SpawnFailed",  "Ended",        "TreeEnded",     "GuardLost", "WorkerJoined", "WorkerLeft",  "WorkerLost",
      "WorkerBlamed", "StepReported", "warning time",  "end time",  "grace time",   "orphan time", "heartbeat time"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace agent
}  // namespace muster

// How the coordinator ends a generation that failed and goes on with the next, and when it gives up a silent agent.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "launcher/coordinator/membership_core.h"

namespace muster {

namespace {

// What a program ends with that cannot write its files, as muster itself does. Source: EX_CANTCREAT of sysexits(3).
constexpr int kCannotCreate = 73;

}  // namespace

bool Membership::Core::MayRestart() const {
  return restarts_used_ < options_.max_restarts && !StopWanted() && IsCurable(evidence_) && !CannotWriteAgain();
}

// A disk that is full when a step is to be saved is full the next time too.
bool Membership::Core::CannotWriteAgain() const {
  if (failures_.empty()) return false;
  const v1::Verdict& before = failures_.back().verdict();
  return before.worker_exit_code() == kCannotCreate && before.committed_step() == committed_step_ &&
         Judge(evidence_).verdict.worker_exit_code() == kCannotCreate;
}

bool Membership::Core::AllCleared() const {
  return std::all_of(seats_.begin(), seats_.end(), [](const auto& entry) { return entry.second.cleared || entry.second.lost; });
}

// --- RECALLING ---

void Membership::Core::SendAbandons() {
  for (const auto& [node, agent] : agents_) {
    if (agent.member && !seats_.at(node).cleared) SendAbandon(node, generation_, "a worker failed", Grace());
  }
}

void Membership::Core::SendAbandon(uint32_t node, uint64_t generation, const std::string& reason, absl::Duration grace) {
  v1::CoordinatorMessage message;
  message.set_generation(generation);
  message.mutable_abandon()->set_reason(reason);
  message.mutable_abandon()->set_grace_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(grace)));
  Tell(node, std::move(message));
}

void Membership::Core::NoteCleared(const Event& event) {
  const auto& received = As<membership::Received>(event);
  const auto agent = agents_.find(received.node);
  if (agent->second.member && received.message.generation() == generation_) seats_.at(received.node).cleared = true;
}

// What may still run there is cut off: it has no part in the next generation, and the agent is told to stop.
void Membership::Core::NeverCleared(const Event&) {
  for (const auto& [node, seat] : seats_) {
    if (seat.cleared || seat.lost) continue;
    Log(LogLevel::kError,
        absl::StrCat("the agent of node ", node, " (", seat.host, ") did not end its workers: look for processes left there"));
    if (const auto agent = agents_.find(node); agent != agents_.end()) {
      SendStop(node, absl::ZeroDuration());
      agent->second.stopped = true;
    }
    LoseSeat(node, "it did not end its workers when it was told to", false, true);
    losses_[node] = {seat.host, "it did not end its workers when it was told to"};
  }
}

// --- CLOSING ---

void Membership::Core::RecordEnded() {
  judgement_ = JudgeNow();
  ++restarts_;
  ++restarts_used_;
  v1::RecordEntry entry;
  v1::GenerationEnded* ended = entry.mutable_generation_ended();
  ended->set_generation(generation_);
  *ended->mutable_verdict() = judgement_.verdict;
  ended->set_restarts(restarts_);
  ended->set_restarts_used(restarts_used_);
  failures_.push_back(*ended);
  Append(std::move(entry), true);
}

void Membership::Core::StartOver(const Event&) {
  Happen("failed", judgement_.verdict.sentence());
  ForgetGeneration();
  actions_.push_back(membership::Restarting{judgement_, generation_ + 1, restarts_});
  Happen("restarting",
         absl::StrCat("restart ", restarts_, " of the job, ", restarts_used_, " of --max-restarts ", options_.max_restarts));
  judgement_ = {};
}

// Nothing that is known of a generation may be taken for the next one's.
void Membership::Core::ForgetGeneration() {
  formed_ = last_call_over_ = spares_call_over_ = false;
  evidence_ = {};
  endings_seen_.clear();
  slots_over_.clear();
  blames_of_.clear();
  seats_.clear();
  steps_ = 0;
  for (auto& [node, agent] : agents_) {
    agent.member = false;
    agent.steps_seen = 0;
  }
}

// --- Silence ---

// With no step committed for as long: while steps are, nobody whose part they need can be dead.
bool Membership::Core::IfSilentTooLong(const Event& event) const {
  const auto& silent = As<membership::AgentSilent>(event);
  return silent.silent_for - agents_.at(silent.node).silent_at_step > options_.silence_max;
}

void Membership::Core::WarnOfSilence(const Event& event) {
  const auto& silent = As<membership::AgentSilent>(event);
  Agent& agent = agents_.at(silent.node);
  if (agent.silence_said) return;
  agent.silence_said = true;
  std::string text =
      absl::StrCat("nothing was heard of host ", HostOf(silent.node), " for ", absl::FormatDuration(silent.silent_for));
  Log(LogLevel::kWarning, text);
  Happen("silent", std::move(text), static_cast<int32_t>(silent.node));
}

void Membership::Core::LeaveOutSilent(const Event& event) {
  WarnOfSilence(event);
  agents_.at(As<membership::AgentSilent>(event).node).silent = true;
}

// Its session may come back. It is told then to abandon what it had, and is free for a later generation.
void Membership::Core::GiveUpSilent(const Event& event) {
  const auto& silent = As<membership::AgentSilent>(event);
  LeaveOutSilent(event);
  if (!agents_.at(silent.node).member) return;
  LoseSeat(silent.node, absl::StrCat("nothing was heard of it for ", absl::FormatDuration(silent.silent_for)), true);
  SendAbandon(silent.node, generation_, "nothing was heard of this node", absl::ZeroDuration());
}

}  // namespace muster

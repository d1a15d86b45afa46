// How the coordinator ends a job: it collects evidence, stops the agents and concludes.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "launcher/coordinator/membership_core.h"

namespace muster {

using membership::State;
using membership::Timer;

namespace {

constexpr int kBlamesPerRankMax = 16;  // a worker may not fill our memory

}  // namespace

// --- Evidence ---

std::string Membership::Core::HostOf(uint32_t node) const {
  const auto agent = agents_.find(node);
  return agent == agents_.end() ? std::string() : agent->second.join.host();
}

void Membership::Core::NoteSpawnFailure(const Event& event) {
  const auto& received = As<membership::Received>(event);
  const v1::PrepareFailed& failed = received.message.prepare_failed();
  if (!slots_over_.insert(failed.slot()).second) return;
  evidence_.spawn_failures.push_back({failed.slot(), received.node, failed.ending()});
}

void Membership::Core::NoteEnding(const Event& event) {
  const v1::WorkerEnded& ended = MessageOf(event).worker_ended();
  if (!endings_seen_.emplace(ended.slot(), ended.spawn()).second) return;
  slots_over_.insert(ended.slot());
  evidence_.endings.push_back(ended);
  if (IsFailure(ended)) {
    // Users read it in the verdict.
    Log(LogLevel::kInfo, absl::StrCat("rank ", ended.rank(), " ended: kind=", v1::Ending::Kind_Name(ended.ending().kind()),
                                      " code=", ended.ending().code(), " pid=", ended.pid()));
  }
}

void Membership::Core::NoteBlame(const Event& event) {
  const v1::PeerBlamed& blame = MessageOf(event).peer_blamed();
  for (const v1::PeerBlamed& known : evidence_.blames) {
    if (known.rank() == blame.rank() && known.blamed_rank() == blame.blamed_rank() && known.reason() == blame.reason() &&
        known.op_seq() == blame.op_seq()) {
      return;
    }
  }
  if (++blames_of_[blame.rank()] > kBlamesPerRankMax) return;
  evidence_.blames.push_back(blame);
}

void Membership::Core::NoteStep(const Event& event) {
  evidence_.committed_step = std::max(evidence_.committed_step, MessageOf(event).step_committed().step());
  if (!step_timer_runs_) RecordStep(event);
}

void Membership::Core::RecordStep(const Event&) {
  step_timer_runs_ = evidence_.committed_step > recorded_step_;
  if (!step_timer_runs_) return;
  recorded_step_ = evidence_.committed_step;
  v1::RecordEntry entry;
  entry.mutable_step()->set_generation(generation_);
  entry.mutable_step()->set_committed_step(recorded_step_);
  Append(std::move(entry), false);
  actions_.push_back(membership::SetTimer{Timer::kStep, options_.step_record_every});
}

void Membership::Core::CountStale(const Event&) { ++stale_messages_; }

// --- Ending ---
void Membership::Core::NoteStopped(const Event& event) {
  const uint32_t node = As<membership::Received>(event).node;
  Agent& agent = agents_.at(node);
  // All endings came before this; a place without one was never filled.
  const bool left_places = std::any_of(evidence_.members.begin(), evidence_.members.end(), [&](const Evidence::Member& member) {
    return member.node == node && !slots_over_.contains(member.slot);
  });
  if (agent.member && left_places) LoseAgent(node, agent, "it stopped before its workers were started");
  agent.stopped = true;
}

void Membership::Core::NoteStoppedEarly(const Event& event) {
  NoteStopped(event);
  SetFault(70, "agent lost",
           absl::StrCat("the agent on host ", HostOf(As<membership::Received>(event).node),
                        " stopped before its workers were started: look at its guard process"));
}

void Membership::Core::NoteStop(const Event& event) {
  ++stop_requests_;
  // Once the job ends for another reason, asking only makes it end sooner.
  if (SomethingFailed() || evidence_.stop || state_ == State::kQuiescing) return;
  evidence_.stop = As<membership::StopRequested>(event).kind;
  evidence_.stop_detail = options_.timeout_text;
}

void Membership::Core::StopNow(const Event& event) {
  NoteStop(event);
  for (const auto& [node, agent] : agents_) SendStop(node, absl::ZeroDuration());
}

absl::Duration Membership::Core::Grace() const {
  if (stop_requests_ > 1) return absl::ZeroDuration();
  if (evidence_.stop) return options_.user_grace;
  return SomethingFailed() ? options_.failure_grace : absl::ZeroDuration();
}

void Membership::Core::SendStops() {
  for (const auto& [node, agent] : agents_) SendStop(node, Grace());
}

void Membership::Core::SendStop(uint32_t node, absl::Duration grace) {
  const Agent& agent = agents_.at(node);
  if (!agent.greeted || agent.lost || agent.stopped) return;
  v1::CoordinatorMessage message;
  message.mutable_stop()->set_grace_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(grace)));
  message.mutable_stop()->set_reason(evidence_.stop      ? "asked to stop"
                                     : SomethingFailed() ? "a worker failed"
                                                         : "the job is over");
  Tell(node, std::move(message));
}

void Membership::Core::NeverStopped(const Event&) {
  for (auto& [node, agent] : agents_) {
    if (agent.stopped || agent.lost) continue;
    Log(LogLevel::kError,
        absl::StrCat("the agent of node ", node, " (", HostOf(node), ") did not stop: look for processes left there"));
    LoseAgent(node, agent, "it did not stop when it was told to");
  }
}

void Membership::Core::Warn(const Event&) {
  Log(LogLevel::kWarning,
      absl::StrCat("still waiting for ", RowOf(state_).waits_for, " (", RowOf(state_).name, ", generation ", generation_, ")"));
}

void Membership::Core::Conclude() {
  judgement_ = Judge(evidence_);
  v1::RecordEntry entry;
  *entry.mutable_verdict()->mutable_verdict() = judgement_.verdict;
  Append(std::move(entry), true);
}

void Membership::Core::Publish() { actions_.push_back(membership::Finish{judgement_}); }

}  // namespace muster

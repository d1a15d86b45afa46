// How the coordinator ends a job: it collects evidence, stops the agents and concludes.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "launcher/coordinator/cause.h"
#include "launcher/coordinator/membership_core.h"

namespace muster {

using membership::State;
using membership::Timer;

namespace {

constexpr int kBlamesPerRankMax = 16;  // a worker may not fill our memory
// As POSIX and Linux number them; this room includes nothing of the system. Source: signal(7).
constexpr uint32_t kHangupSignal = 1, kInterruptSignal = 2;

}  // namespace

// --- Evidence ---

std::string Membership::Core::HostOf(uint32_t node) const {
  const auto agent = agents_.find(node);
  if (agent != agents_.end()) return agent->second.join.host();
  const auto seat = seats_.find(node);
  return seat == seats_.end() ? std::string() : seat->second.host;
}

void Membership::Core::NoteSpawnFailure(const Event& event) {
  const auto& received = As<membership::Received>(event);
  const v1::PrepareFailed& failed = received.message.prepare_failed();
  if (!slots_over_.insert(failed.slot()).second) return;
  evidence_.spawn_failures.push_back({failed.slot(), received.node, failed.ending()});
  Happen("ended", absl::StrCat("a worker could not be started: ", failed.ending().detail()),
         static_cast<int32_t>(received.node));
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
    Cause cause;
    cause.host = HostOf(As<membership::Received>(event).node);
    cause.rank = static_cast<int32_t>(ended.rank());
    for (const Evidence::Member& member : evidence_.members) {
      if (member.rank == ended.rank()) cause.program = member.program;
    }
    DescribeEnding(ended.ending(), NameRank(ended.rank(), cause.program, cause.host), AtStep(evidence_.committed_step), cause);
    Happen("ended", cause.sentence, static_cast<int32_t>(As<membership::Received>(event).node),
           static_cast<int32_t>(ended.rank()));
  }
}

void Membership::Core::NoteBlame(const Event& event) {
  const v1::PeerBlamed& blame = MessageOf(event).peer_blamed();
  for (const v1::PeerBlamed& known : evidence_.blames) {
    if (known.rank() == blame.rank() && known.blamed_rank() == blame.blamed_rank() && known.reason() == blame.reason() &&
        known.op_seq() == blame.op_seq() && known.of_some_ranks() == blame.of_some_ranks()) {
      return;
    }
  }
  // With those of communicators of some ranks a program may live on: the last one counts, and they do not use up the others.
  if (blame.of_some_ranks()) {
    std::erase_if(evidence_.blames,
                  [&blame](const v1::PeerBlamed& known) { return known.of_some_ranks() && known.rank() == blame.rank(); });
  } else if (++blames_of_[blame.rank()] > kBlamesPerRankMax) {
    return;
  }
  evidence_.blames.push_back(blame);
  Log(LogLevel::kInfo, absl::StrCat("rank ", blame.rank(), " says: ", blame.message()));
}

void Membership::Core::NoteStep(const Event& event) {
  const v1::StepCommitted& told = MessageOf(event).step_committed();
  if (told.step() > evidence_.committed_step) ++steps_;
  evidence_.committed_step = std::max(evidence_.committed_step, told.step());
  committed_step_ = std::max(committed_step_, told.step());
  if (!step_timer_runs_) RecordStep(event);
  if (told.checkpoint_step() <= std::max<int64_t>(checkpoint_step_, 0)) return;
  checkpoint_step_ = told.checkpoint_step();
  restarts_used_ = 0;
  v1::RecordEntry entry;
  entry.mutable_checkpoint()->set_generation(generation_);
  entry.mutable_checkpoint()->set_step(checkpoint_step_);
  Append(std::move(entry), false);
  Happen("checkpoint", absl::StrCat("the checkpoint of step ", checkpoint_step_, " is on disk"));
}

void Membership::Core::RecordStep(const Event&) {
  step_timer_runs_ = committed_step_ > recorded_step_;
  if (!step_timer_runs_) return;
  recorded_step_ = committed_step_;
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
  agent.stopped = true;
  if (!agent.member) {
    losses_[node] = {HostOf(node), "its agent stopped: look at its guard process"};
    return;
  }
  seats_.at(node).cleared = true;
  // All endings came before this; a place without one was never filled.
  const bool left_places = std::any_of(evidence_.members.begin(), evidence_.members.end(), [&](const Evidence::Member& member) {
    return member.node == node && !slots_over_.contains(member.slot);
  });
  if (left_places) LoseSeat(node, "it stopped before its workers were started");
}

void Membership::Core::NoteStoppedEarly(const Event& event) {
  NoteStopped(event);
  SetFault(70, "agent lost",
           absl::StrCat("the agent on host ", HostOf(As<membership::Received>(event).node),
                        " stopped before its workers were started: look at its guard process"));
}

void Membership::Core::NoteStop(const Event& event) {
  const auto& asked = As<membership::StopRequested>(event);
  ++stop_requests_;
  // A batch system asks all at once; whoever asks the job itself goes before.
  const bool heard_from_agents = asked_by_agent_ && stop_requests_ == 1;
  // Once the job ends for another reason, asking only makes it end sooner.
  if (!heard_from_agents && (SomethingFailed() || evidence_.stop || state_ == State::kQuiescing)) return;
  if (!heard_from_agents) {
    Happen("stopping", asked.by.empty() ? "the job was asked to stop" : absl::StrCat("the job was asked to stop by ", asked.by));
  }
  evidence_.stop = asked.kind;
  evidence_.stop_by = asked.by;
  evidence_.stop_detail = options_.timeout_text;
  evidence_.rank_states = asked.states;
  evidence_.ranks_were_asked = asked.kind == StopKind::kTimeout;
}

// Where no restart can replace the node, the job ends with it, as kindly as if it had been asked itself.
void Membership::Core::StopWithAgent(const Event& event) {
  const auto& received = As<membership::Received>(event);
  if (SomethingFailed() || evidence_.stop) return;
  const v1::AskedToEnd& asked = received.message.asked_to_end();
  asked_by_agent_ = true;
  evidence_.stop = asked.signal() == kInterruptSignal ? StopKind::kInterrupt
                   : asked.signal() == kHangupSignal  ? StopKind::kHangup
                                                      : StopKind::kTerminate;
  evidence_.stop_by = absl::StrCat("the agent on host ", HostOf(received.node), ", which was asked",
                                   asked.by().empty() ? "" : " by ", asked.by());
  Happen("stopping", absl::StrCat("the agent on host ", HostOf(received.node), " was asked to end"),
         static_cast<int32_t>(received.node));
}

// The node goes and the job may go on: its workers are lost to this generation, however long they take to end.
void Membership::Core::LoseAsked(const Event& event) {
  const auto& received = As<membership::Received>(event);
  Agent& agent = agents_.at(received.node);
  agent.stopped = true;
  const v1::AskedToEnd& asked = received.message.asked_to_end();
  const std::string why = absl::StrCat("it was asked to end with ", SignalName(static_cast<int>(asked.signal())),
                                       asked.by().empty() ? "" : " by ", asked.by());
  losses_[received.node] = {HostOf(received.node), why};
  if (agent.member) LoseSeat(received.node, why);
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
  if (!agent.greeted || agent.stopped) return;
  v1::CoordinatorMessage message;
  message.mutable_stop()->set_grace_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(grace)));
  if (evidence_.stop) message.mutable_stop()->set_signal(static_cast<uint32_t>(options_.stop_signal));
  message.mutable_stop()->set_reason(evidence_.stop      ? "asked to stop"
                                     : SomethingFailed() ? "a worker failed"
                                                         : "the job is over");
  Tell(node, std::move(message));
}

void Membership::Core::NeverStopped(const Event&) {
  for (const auto& [node, agent] : agents_) {
    if (agent.stopped) continue;
    Log(LogLevel::kError,
        absl::StrCat("the agent of node ", node, " (", HostOf(node), ") did not stop: look for processes left there"));
    if (agent.member) LoseSeat(node, "it did not stop when it was told to");
  }
  for (const auto& [node, seat] : seats_) {
    if (!seat.returned) LoseSeat(node, "it did not come back to the new coordinator");
  }
}

void Membership::Core::Warn(const Event&) {
  Log(LogLevel::kWarning,
      absl::StrCat("still waiting for ", RowOf(state_).waits_for, " (", RowOf(state_).name, ", generation ", generation_, ")"));
}

void Membership::Core::Conclude() {
  judgement_ = JudgeNow();
  AddRestarts();
  v1::RecordEntry entry;
  *entry.mutable_verdict()->mutable_verdict() = judgement_.verdict;
  Append(std::move(entry), true);
}

// A failure that might have been tried again says why it was not.
void Membership::Core::AddRestarts() {
  if (options_.max_restarts == 0 || judgement_.causes.empty()) return;
  v1::Verdict& verdict = judgement_.verdict;
  if (restarts_ > 0) {
    const uint32_t used = restarts_used_;
    verdict.set_sentence(absl::StrCat(
        verdict.sentence(), "; the job had been restarted ", restarts_, restarts_ == 1 ? " time" : " times",
        used == restarts_ ? "" : absl::StrCat(", ", used, " since the last new checkpoint"),
        used >= options_.max_restarts ? absl::StrCat(", and --max-restarts ", options_.max_restarts, " allows no more") : ""));
  }
  if (CannotWriteAgain()) {
    verdict.set_sentence(absl::StrCat(verdict.sentence(), "; it could not write at the same step the last time either, so it is not ",
                                      "restarted: free some space there"));
  }
  if (evidence_.fault && !evidence_.fault->curable) {
    verdict.set_sentence(absl::StrCat(verdict.sentence(), "; it cannot be restarted: ", evidence_.fault->sentence));
  }
}

Judgement Membership::Core::JudgeNow() const {
  Judgement judgement = Judge(evidence_);
  judgement.verdict.set_committed_step(committed_step_);
  return judgement;
}

void Membership::Core::Publish() {
  Happen("verdict", judgement_.verdict.exit_code() == 0 ? "all went well" : judgement_.verdict.sentence());
  actions_.push_back(membership::Finish{judgement_});
}

}  // namespace muster

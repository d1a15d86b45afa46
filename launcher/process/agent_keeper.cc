#include "launcher/process/agent_keeper.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

constexpr absl::Duration kStartAgainFirst = absl::Milliseconds(100);  // doubled with each start in vain
constexpr absl::Duration kStartAgainLast = absl::Seconds(5);
constexpr absl::Duration kLookAgain = absl::Milliseconds(20);
constexpr uint32_t kStartsInVainMax = 3;
constexpr absl::Duration kOthersFail = absl::Seconds(3);       // from the first host that cannot be had
constexpr absl::Duration kTicketForChild = absl::Minutes(10);  // many logins wait for each other
constexpr absl::Duration kTicketForPerson = absl::Hours(24);
constexpr size_t kReasonsTold = 5;

}  // namespace

std::string AgentEndText(const std::string& why) {
  if (absl::StartsWith(why, "killed by ")) return absl::StrCat("its process was ", why);
  return absl::StrCat(absl::StartsWith(why, "exited with ") ? "its process " : "", why);
}

AgentKeeper::AgentKeeper(EventLoop* loop, const Starter* starter, const NodeSlots* slots, Options options, Callbacks callbacks)
    : loop_(loop),
      starter_(starter),
      slots_(slots),
      options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      nodes_(options_.names.size()) {}

AgentKeeper::~AgentKeeper() {
  for (const Node& node : nodes_) {
    if (node.timer) loop_->Cancel(*node.timer);
  }
  if (conclusion_) loop_->Cancel(*conclusion_);
}

void AgentKeeper::StartAll() {
  for (uint32_t node = 0; node < nodes(); ++node) Start(node);
}

bool AgentKeeper::any_session() const {
  return std::any_of(nodes_.begin(), nodes_.end(), [](const Node& node) { return node.has_session; });
}

void AgentKeeper::Hopeless(uint32_t node, const std::string& why) {
  nodes_[node].last_end = why;
  GiveUp(node, why);
}

void AgentKeeper::Release(uint32_t node) {
  nodes_[node].given_up = true;
  nodes_[node].has_session = false;
}

void AgentKeeper::Start(uint32_t node) {
  ++nodes_[node].starts_in_vain;
  const absl::Status started = callbacks_.start(node, starter_->sees_ends(node) ? kTicketForChild : kTicketForPerson);
  if (started.ok()) return;
  nodes_[node].last_end = std::string(started.message());
  Replace(node);
}

// Unless it ends again and again before it could do anything.
void AgentKeeper::Replace(uint32_t node) {
  Node& state = nodes_[node];
  if (callbacks_.want() == Want::kNo || state.given_up || state.timer) return;
  if (starter_->sees_ends(node) && state.starts_in_vain >= kStartsInVainMax) {
    return GiveUp(node, absl::StrCat("the agent of ", options_.names[node], " was started ", state.starts_in_vain,
                                     " times in vain; the last time ", AgentEndText(state.last_end)));
  }
  const absl::Duration delay = kStartAgainFirst * (1 << std::min(state.starts_in_vain, 10u));
  state.timer = loop_->After(std::min(delay, kStartAgainLast), [this, node] { StartIfWanted(node); });
}

void AgentKeeper::StartIfWanted(uint32_t node) {
  nodes_[node].timer.reset();
  switch (callbacks_.want()) {
    case Want::kNo:
      return;
    case Want::kUndecided:
      nodes_[node].timer = loop_->After(kLookAgain, [this, node] {
        nodes_[node].timer.reset();
        Replace(node);
      });
      return;
    case Want::kYes:
      return Start(node);
  }
}

void AgentKeeper::GiveUp(uint32_t node, const std::string& why) {
  if (callbacks_.want() == Want::kNo || std::exchange(nodes_[node].given_up, true)) return;
  uint32_t left = 0;
  for (uint32_t other = 0; other < nodes(); ++other) left += nodes_[other].given_up ? 0 : slots_->of(other);
  if (left >= options_.workers_min) {
    Log(LogLevel::kWarning, absl::StrCat(why, "; the job goes on without it"));
    return callbacks_.fewer_hoped_for(options_.workers - std::min(options_.workers, left), node);
  }
  reasons_.push_back(why);
  if (reasons_.size() > 1) return;
  // Who has several hosts to mend wants to know all of them.
  not_enough_deadline_ns_ = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(kOthersFail);
  ConcludeNotEnough();
}

void AgentKeeper::ConcludeNotEnough() {
  conclusion_.reset();
  if (callbacks_.want() == Want::kNo) return;
  const bool undecided =
      std::any_of(nodes_.begin(), nodes_.end(), [](const Node& node) { return !node.given_up && !node.has_session; });
  if (undecided && MonotonicNanoseconds() < not_enough_deadline_ns_) {
    conclusion_ = loop_->After(kLookAgain, [this] { ConcludeNotEnough(); });
    return;
  }
  for (size_t i = 1; i < std::min(reasons_.size(), kReasonsTold); ++i) Log(LogLevel::kError, reasons_[i]);
  std::string sentence = reasons_[0];
  if (reasons_.size() > kReasonsTold) {
    absl::StrAppend(&sentence, "; and ", reasons_.size() - kReasonsTold, " more hosts could not be started");
  }
  callbacks_.not_enough(sentence);
}

}  // namespace muster

#include "launcher/simulator/simulated_coordinator.h"

#include <algorithm>
#include <type_traits>

namespace muster {

// --- Checks ---

void CoordinatorChecker::OnSend(uint32_t node, const v1::CoordinatorMessage& message) {
  const uint64_t generation = message.generation();
  if (message.has_prepare()) {
    const auto [known, is_new] = incarnation_of_.emplace(generation, message.incarnation());
    if (!is_new && known->second != message.incarnation()) {
      world_->Violate(absl::StrCat("I1: generation ", generation, " was announced by incarnations ", known->second, " and ",
                                   message.incarnation()));
    }
    const auto [members, first] = members_of_.emplace(generation, message.prepare().members_sha256());
    if (!first && members->second != message.prepare().members_sha256()) {
      world_->Violate(absl::StrCat("I1: generation ", generation, " has two memberships"));
    }
    if (!taken_.contains(generation))
      world_->Violate(absl::StrCat("I1: Prepare of generation ", generation, " before its number is durable"));
    const bool is_member = message.prepare().places_size() > 0 && message.prepare().places(0).node() == node;
    if (!is_member)
      world_->Violate(absl::StrCat("I5: node ", node, " got the key of generation ", generation, " without a place in it"));
  }
  if (message.has_go() && !formed_.contains(generation)) {
    world_->Violate(absl::StrCat("I1: Go of generation ", generation, " before it is durable"));
  }
}

void CoordinatorChecker::OnDurable(const v1::RecordEntry& entry) {
  if (entry.has_generation_taken()) taken_.insert(entry.generation_taken().generation());
  if (entry.has_generation_formed()) formed_.insert(entry.generation_formed().generation());
  if (entry.has_step()) recorded_step_ = std::max(recorded_step_, entry.step().committed_step());
}

void CoordinatorChecker::OnStep(int64_t committed_step) {
  if (committed_step < step_)
    world_->Violate(absl::StrCat("I4: committed step went back from ", step_, " to ", committed_step));
  step_ = committed_step;
}

void CoordinatorChecker::OnRecovered(int64_t committed_step) {
  if (committed_step < recorded_step_) {
    world_->Violate(absl::StrCat("I4: step ", recorded_step_, " was durable and is lost: ", committed_step));
  }
  step_ = committed_step;
}

// --- The coordinator ---

void SimulatedCoordinator::Start() {
  ++starts_;
  membership::Options options;
  options.job_id = std::string(16, 'j');
  options.workers = world_->plan.workers;
  options.step_record_every = absl::Milliseconds(50);
  options.random_bytes = [world = world_](size_t bytes) {
    std::string key;
    for (size_t i = 0; i < bytes; ++i) key.push_back(static_cast<char>(world->chance.Below(256)));
    return key;
  };
  options.planted_announce_early = world_->plan.planted_announce_early;
  membership_.emplace(std::move(options));
  world_->Trace("coordinator starts");
  Step(membership::RecordLoaded{disk_});
  checker_.OnRecovered(membership_->committed_step());
}

void SimulatedCoordinator::Kill() {
  if (!alive()) return;
  world_->Trace("coordinator is killed");
  for (uint64_t kept = world_->chance.Below(pending_.size() + 1); kept > 0; --kept) {
    disk_.push_back(pending_.front().entry);
    checker_.OnDurable(disk_.back());
    pending_.pop_front();
  }
  pending_.clear();
  for (const auto& [timer, id] : timers_) world_->time.Cancel(id);
  timers_.clear();
  membership_.reset();
}

void SimulatedCoordinator::Step(const membership::Event& event) {
  if (!alive()) return;
  const membership::State before = membership_->state();
  const membership::Actions actions = membership_->Step(world_->time.wall(), event);
  if (membership_->state() != before) {
    world_->Trace(absl::StrCat("coordinator ", membership::StateName(before), " -> ",
                               membership::StateName(membership_->state()), " g", membership_->generation()));
  }
  if (before != membership::State::kBoot) checker_.OnStep(membership_->committed_step());
  for (const membership::Action& action : actions) Do(action);
}

void SimulatedCoordinator::Do(const membership::Action& action) {
  std::visit(
      [this](const auto& a) {
        using T = std::decay_t<decltype(a)>;
        if constexpr (std::is_same_v<T, membership::AppendRecord>) Append(a);
        if constexpr (std::is_same_v<T, membership::Send>) {
          checker_.OnSend(a.node, a.message);
          deliver_(a.node, a.message);
        }
        if constexpr (std::is_same_v<T, membership::SetTimer> || std::is_same_v<T, membership::CancelTimer>) {
          if (const auto old = timers_.find(a.timer); old != timers_.end()) {
            world_->time.Cancel(old->second);
            timers_.erase(old);
          }
        }
        if constexpr (std::is_same_v<T, membership::SetTimer>) {
          timers_[a.timer] = world_->time.After(a.after, [this, timer = a.timer] {
            timers_.erase(timer);
            Step(membership::TimerFired{timer});
          });
        }
        if constexpr (std::is_same_v<T, membership::LogLine>) world_->Trace(absl::StrCat("coordinator: ", a.line));
        if constexpr (std::is_same_v<T, membership::Finish>) {
          if (judgement_ && judgement_->verdict.SerializeAsString() != a.judgement.verdict.SerializeAsString()) {
            world_->Violate("I1: two verdicts were announced");
          }
          judgement_ = a.judgement;
          world_->Trace(absl::StrCat("verdict ", a.judgement.verdict.exit_code(), ": ", a.judgement.verdict.sentence()));
        }
      },
      action);
}

void SimulatedCoordinator::Append(const membership::AppendRecord& append) {
  pending_.push_back(append);
  disk_free_at_ = std::max(disk_free_at_, world_->time.now()) +
                  world_->chance.Between(absl::Microseconds(50),
                                         world_->chance.Happens(0.1) ? absl::Milliseconds(80) : absl::Milliseconds(2));
  world_->time.After(disk_free_at_ - world_->time.now(), [this, start = starts_, sequence = append.sequence] {
    if (start != starts_ || pending_.empty() || pending_.front().sequence != sequence) return;
    disk_.push_back(pending_.front().entry);
    checker_.OnDurable(disk_.back());
    pending_.pop_front();
    Step(membership::Appended{sequence});
  });
}

}  // namespace muster

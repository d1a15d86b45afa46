#include "launcher/simulator/simulated_coordinator.h"

#include <algorithm>
#include <type_traits>

#include "absl/strings/str_join.h"

namespace muster {

uint64_t PlannedPlace(uint64_t seed, uint32_t node) {
  Chance chance(seed * 1'000'003 + node);
  return chance.Below(uint64_t{1} << 32) * 64 + node;
}

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
    if (!formed_.empty() && *formed_.rbegin() < generation && !ended_.contains(*formed_.rbegin())) {
      world_->Violate(
          absl::StrCat("I1: Prepare of generation ", generation, " before the end of ", *formed_.rbegin(), " is durable"));
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
  if (entry.has_generation_taken()) {
    const uint64_t number = entry.generation_taken().generation();
    if (!taken_.emplace(number, world_->time.now()).second) {
      world_->Violate(absl::StrCat("I1: the number ", number, " was taken twice"));
    }
  }
  if (entry.has_checkpoint()) restarts_since_checkpoint_ = 0;
  if (entry.has_generation_ended()) OnEnded(entry.generation_ended(), entry.incarnation());
  if (entry.has_generation_formed()) {
    formed_.insert(entry.generation_formed().generation());
    CheckOrder(entry.generation_formed());
  }
  if (entry.has_step()) recorded_step_ = std::max(recorded_step_, entry.step().committed_step());
}

// Nodes stand as the plan says, if there is one, and ranks follow them.
void CoordinatorChecker::CheckOrder(const v1::GenerationFormed& formed) {
  const auto place = [this](uint32_t node) { return PlannedPlace(world_->plan.seed, node); };
  std::vector<uint32_t> nodes, by_rank;
  for (const v1::Node& node : formed.members().nodes()) nodes.push_back(node.node());
  for (const v1::Place& rank : formed.members().places()) {
    if (by_rank.empty() || by_rank.back() != rank.node()) by_rank.push_back(rank.node());
  }
  const bool sorted = std::is_sorted(nodes.begin(), nodes.end(), [&](uint32_t a, uint32_t b) { return place(a) < place(b); });
  if ((world_->plan.ordered && !sorted) || nodes != by_rank) {
    world_->Violate(absl::StrCat("order: the nodes of generation ", formed.generation(), " are ", absl::StrJoin(nodes, " "),
                                 " and its ranks run on ", absl::StrJoin(by_rank, " ")));
  }
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

void CoordinatorChecker::OnEnded(const v1::GenerationEnded& ended, uint64_t incarnations) {
  ended_.insert(ended.generation());
  ++restarts_since_checkpoint_;
  if (ended.restarts() != ++restarts_) {
    world_->Violate(absl::StrCat("restarts: ", restarts_, " were made, but the record says ", ended.restarts()));
  }
  if (restarts_since_checkpoint_ > world_->plan.max_restarts) {
    world_->Violate(absl::StrCat("restarts: ", restarts_since_checkpoint_, " without a new checkpoint, but only ",
                                 world_->plan.max_restarts, " are allowed"));
  }
  if (!IsTrue(ended.verdict(), ended.generation(), incarnations)) {
    world_->Violate(absl::StrCat("verdict: generation ", ended.generation(),
                                 " ended because of what did not break in it: ", ended.verdict().sentence()));
  }
}

bool CoordinatorChecker::IsTrue(const v1::Verdict& verdict, uint64_t generation, uint64_t incarnations) const {
  if (world_->stop_requested && verdict.exit_code() == 130) return true;
  // What a coordinator knew and had not written dies with it: that it was asked to stop, that a worker failed, that all was done.
  // The next one finds workers or agents that have stopped, or finds none, and says so.
  const bool found_stopped = verdict.failure_class() == "stopped" || verdict.failure_class() == "agent lost" ||
                             verdict.failure_class() == "not enough nodes";
  if (incarnations > 1 && found_stopped) return true;
  const auto taken = taken_.find(generation);
  return std::any_of(world_->truths.begin(), world_->truths.end(), [&](const Truth& truth) {
    // A node may break before it hears of the generation, which is noticed only when it is silent for long, or heard again.
    const bool in_it = truth.generation == generation ||
                       (truth.rank < 0 && taken != taken_.end() && truth.at + absl::Seconds(45) >= taken->second);
    if (verdict.rank() >= 0) return in_it && truth.rank == verdict.rank();
    const bool names_node = verdict.host().empty() ? verdict.exit_code() == 69 || verdict.failure_class() == "agent lost"
                                                   : in_it && verdict.host() == truth.host;
    return truth.rank < 0 && names_node;
  });
}

// --- The coordinator ---

void SimulatedCoordinator::Start() {
  ++starts_;
  membership::Options options;
  options.job_id = std::string(16, 'j');
  options.workers = world_->plan.workers;
  options.workers_min = world_->plan.workers_min;
  if (world_->plan.spares > 0) options.nodes = world_->plan.nodes - world_->plan.spares;
  options.max_restarts = world_->plan.max_restarts;
  options.last_call = world_->plan.last_call;
  options.silence_max = absl::Seconds(5);
  options.step_record_every = absl::Milliseconds(50);
  options.planted_reuse_number = world_->plan.planted_reuse_number;
  options.random_bytes = [world = world_](size_t bytes) {
    std::string key;
    for (size_t i = 0; i < bytes; ++i) key.push_back(static_cast<char>(world->chance.Below(256)));
    return key;
  };
  options.planted_announce_early = world_->plan.planted_announce_early;
  if (world_->plan.ordered) {
    options.order = [plan = world_->plan](const std::vector<membership::NodeOffer>& offers,
                                          const std::vector<uint32_t>& former) {
      membership::NodeOrder order;
      for (const membership::NodeOffer& offer : offers) order.nodes.push_back(offer.node);
      std::sort(order.nodes.begin(), order.nodes.end(),
                [&](uint32_t a, uint32_t b) { return PlannedPlace(plan.seed, a) < PlannedPlace(plan.seed, b); });
      if (plan.planted_forget_order && !former.empty()) std::reverse(order.nodes.begin(), order.nodes.end());
      order.plan = "ranks follow a plan";
      return order;
    };
  }
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
        if constexpr (std::is_same_v<T, membership::Restarting>) {
          restarts_ = a.restarts;
          world_->Trace(absl::StrCat("restart ", a.restarts, ": ", a.why.verdict.sentence()));
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

#include "launcher/coordinator/coordinator.h"

#include <type_traits>
#include <utility>

#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Create(EventLoop* loop, CoordinatorOptions options,
                                                                 Callbacks callbacks) {
  std::unique_ptr<Record> record;
  if (!options.record_folder.empty()) {
    FileSystem* const files = options.files != nullptr ? options.files : &PosixFileSystem();
    MUSTER_ASSIGN_OR_RETURN(record, Record::Open(files, options.record_folder, options.durability));
  }
  std::unique_ptr<Coordinator> coordinator(
      new Coordinator(loop, std::move(record), std::move(options.membership), std::move(callbacks)));
  membership::RecordLoaded loaded;
  if (coordinator->record_ != nullptr) {
    loaded.entries = coordinator->record_->entries();
    if (coordinator->record_->torn_bytes() > 0) {
      coordinator->callbacks_.log(LogLevel::kWarning, "the job's record ended in the middle of an entry, which was cut off");
    }
  }
  coordinator->Post(std::move(loaded));
  return coordinator;
}

Coordinator::Coordinator(EventLoop* loop, std::unique_ptr<Record> record, membership::Options options, Callbacks callbacks)
    : loop_(loop), record_(std::move(record)), callbacks_(std::move(callbacks)), membership_(std::move(options)) {}

Coordinator::~Coordinator() {
  *alive_ = false;
  for (const auto& timer : timers_) {
    if (timer) loop_->Cancel(*timer);
  }
}

void Coordinator::OnMessage(uint32_t node, v1::AgentMessage message) {
  if (ExchangeTable::Takes(message)) {
    loop_->Post([this, alive = alive_, node, message = std::move(message)] {
      if (*alive) Exchange(node, message);
    });
    return;
  }
  Post(membership::Received{node, std::move(message)});
}

// What passes between nodes is none of the membership's business; it only says who they are.
void Coordinator::Exchange(uint32_t node, const v1::AgentMessage& message) {
  if (message.job_id() != membership_.job_id() || message.generation() != membership_.generation()) return;
  const std::shared_ptr<bool> alive = alive_;
  for (ExchangeTable::Send& send : exchange_.Take(node, membership_.generation(), membership_.members(), message)) {
    if (!*alive) return;
    send.message.set_job_id(membership_.job_id());
    send.message.set_incarnation(membership_.incarnation());
    callbacks_.send(send.node, send.message);
  }
}

void Coordinator::AgentLost(uint32_t node, std::string why, bool whole_node) {
  Post(membership::AgentLost{node, std::move(why), whole_node});
}
void Coordinator::AgentSilent(uint32_t node, absl::Duration silent_for) { Post(membership::AgentSilent{node, silent_for}); }
void Coordinator::FewerHopedFor(uint32_t workers, uint32_t node) { Post(membership::FewerHopedFor{workers, node}); }
void Coordinator::TurnedAway(std::string what, std::string from) {
  Post(membership::TurnedAway{std::move(what), std::move(from)});
}
void Coordinator::RequestStop(StopKind kind, std::string by, std::vector<v1::RankState> states) {
  Post(membership::StopRequested{kind, std::move(by), std::move(states)});
}

void Coordinator::Post(membership::Event event) {
  loop_->Post([this, alive = alive_, event = std::move(event)] {
    if (*alive) Step(event);
  });
}

void Coordinator::Step(const membership::Event& event) {
  const std::shared_ptr<bool> alive = alive_;  // a callback may destroy this object
  for (membership::Action& action : membership_.Step(absl::Now(), event)) {
    if (*alive) Do(action);
  }
}

void Coordinator::Do(membership::Action& action) {
  std::visit(
      [this](auto& a) {
        using T = std::decay_t<decltype(a)>;
        if constexpr (std::is_same_v<T, membership::AppendRecord>) Append(a);
        if constexpr (std::is_same_v<T, membership::Send>) callbacks_.send(a.node, a.message);
        if constexpr (std::is_same_v<T, membership::LogLine>) callbacks_.log(a.level, a.line);
        if constexpr (std::is_same_v<T, membership::SetTimer>) {
          auto& timer = timers_[static_cast<size_t>(a.timer)];
          if (timer) loop_->Cancel(*timer);
          timer = loop_->After(a.after, [this, which = a.timer] {
            timers_[static_cast<size_t>(which)].reset();
            Step(membership::TimerFired{which});
          });
        }
        if constexpr (std::is_same_v<T, membership::CancelTimer>) {
          auto& timer = timers_[static_cast<size_t>(a.timer)];
          if (timer) loop_->Cancel(*timer);
          timer.reset();
        }
        if constexpr (std::is_same_v<T, membership::Restarting>) {
          if (callbacks_.restarting) callbacks_.restarting(a.why, a.next_generation, a.restarts);
        }
        if constexpr (std::is_same_v<T, membership::Happened>) {
          if (callbacks_.happened) callbacks_.happened(a.event);
        }
        if constexpr (std::is_same_v<T, membership::Placed>) {
          if (callbacks_.placed) callbacks_.placed(a.lines);
        }
        if constexpr (std::is_same_v<T, membership::Finish>) callbacks_.finished(a.judgement);
      },
      action);
}

void Coordinator::Append(const membership::AppendRecord& append) {
  const absl::Status status = record_ == nullptr ? absl::OkStatus() : record_->Append(append.entry);
  if (status.ok()) {
    Post(membership::Appended{append.sequence});
  } else {
    Post(membership::AppendFailed{append.sequence, status});
  }
}

}  // namespace muster

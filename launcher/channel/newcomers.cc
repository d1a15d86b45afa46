#include "launcher/channel/newcomers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>

#include "runtime/base/status.h"

namespace muster {

Newcomers::~Newcomers() {
  for (auto& [from, newcomer] : newcomers_) {
    loop_->Remove(newcomer.connection.get());
    loop_->Cancel(newcomer.deadline);
  }
}

absl::Status Newcomers::Admit(int connection, const std::string& from) {
  if (newcomers_.contains(from)) Leave(from);
  UniqueFd ours(::fcntl(connection, F_DUPFD_CLOEXEC, 0));
  if (!ours) return ErrnoToStatus(errno, "no room for a connection");
  MUSTER_RETURN_IF_ERROR(loop_->Add(ours.get(), EPOLLRDHUP, [this, from](uint32_t) { OnClosed(from); }));
  // An agent calls as soon as TLS stands, and answers at once.
  const EventLoop::TimerId deadline = loop_->After(within_, [this, from] { Leave(from); });
  newcomers_.emplace(from, Newcomer{.connection = std::move(ours), .deadline = deadline});
  PauseWhenCrowded();
  return absl::OkStatus();
}

void Newcomers::NoteCall(const std::string& from) {
  const auto found = newcomers_.find(from);
  if (found == newcomers_.end() || std::exchange(found->second.called, true) || found->second.closed) return;
  loop_->Cancel(found->second.deadline);
  found->second.deadline = loop_->After(2 * within_, [this, from] { Leave(from); });
}

void Newcomers::NoteProof(const std::string& from) {
  if (newcomers_.contains(from)) Forget(from);
}

void Newcomers::StreamBegan() {
  ++streams_;
  PauseWhenCrowded();
}

void Newcomers::StreamDecided() {
  --streams_;
  PauseWhenCrowded();
}

// Its last call may still be on the way here: gRPC's threads post it, and have done so before they answer.
void Newcomers::OnClosed(const std::string& from) {
  Newcomer& newcomer = newcomers_.at(from);
  newcomer.closed = true;
  loop_->Remove(newcomer.connection.get());
  loop_->Cancel(newcomer.deadline);
  newcomer.deadline = loop_->After(absl::ZeroDuration(), [this, from] { Leave(from); });  // after what is posted
}

void Newcomers::Leave(std::string from) {
  const bool called = newcomers_.at(from).called;
  ::shutdown(newcomers_.at(from).connection.get(), SHUT_RDWR);
  Forget(from);
  if (!called) callbacks_.refused("TLS that was broken off, or used for no call of ours", from);
}

void Newcomers::Forget(const std::string& from) {
  const auto entry = newcomers_.extract(from);
  loop_->Remove(entry.mapped().connection.get());
  loop_->Cancel(entry.mapped().deadline);
  PauseWhenCrowded();
}

void Newcomers::PauseWhenCrowded() {
  const bool crowded = newcomers_.size() >= kMax || streams_ >= kMax;
  if (std::exchange(crowded_, crowded) != crowded) callbacks_.pause(crowded);
}

}  // namespace muster

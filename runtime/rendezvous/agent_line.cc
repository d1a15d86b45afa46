#include "runtime/rendezvous/agent_line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/rendezvous/worker_codec.h"

namespace muster {
namespace {

constexpr size_t kQueuedBytesMax = 1 << 20;

int PollMilliseconds(absl::Time deadline) {
  if (deadline == absl::InfiniteFuture()) return -1;
  const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
  if (left < 0) return 0;
  return left >= std::numeric_limits<int>::max() ? std::numeric_limits<int>::max() : static_cast<int>(left) + 1;
}

absl::StatusOr<UniqueFd> Connect(const std::string& name, absl::Time deadline) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (name.empty() || name.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat("MUSTER_SOCKET=", name, " is no name of an agent's socket"));
  }
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // abstract: a leading zero byte
  const socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return ErrnoToStatus(errno, "socket");
  if (deadline != absl::InfiniteFuture()) {  // bounds connect(2) too, which waits while the agent's backlog is full
    const timeval timeout = absl::ToTimeval(std::max(deadline - absl::Now(), absl::Milliseconds(1)));
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  }
  int result;
  do {
    result = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EAGAIN)
    return absl::DeadlineExceededError(absl::StrCat("the agent at ", name, " does not accept"));
  if (result != 0) {
    return absl::UnavailableError(
        absl::StrCat("no agent answers at MUSTER_SOCKET=", name, " (", std::strerror(errno),
                     "): its job has ended. Start the program with `muster run`, or unset MUSTER_SOCKET "
                     "to run it alone"));
  }
  if (::fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0) return ErrnoToStatus(errno, "fcntl O_NONBLOCK");
  return socket;
}

muster_v1_WorkerMessage Hello(const JoinRequest& request) {
  muster_v1_WorkerMessage message = NewWorkerMessage(request.job_id, 0);
  message.which_kind = muster_v1_WorkerMessage_hello_tag;
  message.kind.hello.protocol_version = 1;
  message.kind.hello.slot = request.slot;
  message.kind.hello.pid = ::getpid();
  message.kind.hello.applied_step = -1;
  CopyText(request.muster_version, message.kind.hello.muster_version, sizeof message.kind.hello.muster_version);
  return message;
}

absl::Status RefusedStatus(const muster_v1_Refused& refused) {
  const auto code = refused.code == 0 ? absl::StatusCode::kUnavailable : static_cast<absl::StatusCode>(refused.code);
  return absl::Status(code, absl::StrCat("the agent refused this process: ", refused.message));
}

absl::StatusOr<Membership> ToMembership(const muster_v1_AgentToWorker& message, Frame& frame) {
  const muster_v1_Generation& begin = message.kind.begin;
  if (frame.fds.size() != 1 || begin.local_world_size == 0 || begin.local_world_size > v1::kLocalRanksMax ||
      begin.local_rank >= begin.local_world_size || begin.rank >= begin.world_size) {
    return absl::InternalError("the agent's answer makes no sense");
  }
  Membership membership;
  membership.generation = message.generation;
  membership.rank = begin.rank;
  membership.world_size = begin.world_size;
  membership.local_rank = begin.local_rank;
  membership.local_world_size = begin.local_world_size;
  membership.restarts = begin.restarts;
  membership.key.assign(reinterpret_cast<const char*>(begin.key), sizeof begin.key);
  membership.memory_limit_bytes = begin.memory_limit_bytes;
  membership.memory_limit_source = begin.memory_limit_source;
  membership.host = begin.host;
  membership.control = std::move(frame.fds[0]);
  return membership;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AgentLine>> AgentLine::Join(const JoinRequest& request, absl::Time deadline,
                                                           Membership* membership) {
  MUSTER_ASSIGN_OR_RETURN(UniqueFd socket, Connect(request.socket, deadline));
  UniqueFd wakeup(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeup) return ErrnoToStatus(errno, "eventfd");
  std::unique_ptr<AgentLine> line(new AgentLine(std::move(socket), std::move(wakeup), request.job_id));
  const muster_v1_WorkerMessage hello = Hello(request);
  absl::Status sent = line->Send(&hello, {request.life_page_fd});
  // A refusal may have overtaken the Hello; it says more than the failed write.
  absl::Status joined = line->AwaitGeneration(deadline, membership);
  if (!joined.ok()) return joined;
  MUSTER_RETURN_IF_ERROR(sent);
  return line;
}

AgentLine::AgentLine(UniqueFd socket, UniqueFd wakeup, std::string job_id)
    : socket_(std::move(socket)), wakeup_(std::move(wakeup)), job_id_(std::move(job_id)), writer_(kQueuedBytesMax) {}

AgentLine::~AgentLine() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
  thread_.join();
}

absl::Status AgentLine::AwaitGeneration(absl::Time deadline, Membership* membership) {
  while (true) {
    pollfd ready{socket_.get(), POLLIN, 0};
    const int count = ::poll(&ready, 1, PollMilliseconds(deadline));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoToStatus(errno, "poll the agent's socket");
    if (count == 0) {
      return absl::DeadlineExceededError("the job did not begin in time: not all of its ranks were started");
    }
    auto frame = reader_.Read(socket_.get());
    if (!frame.ok()) return Annotate(frame.status(), "the job ended before it began on this rank");
    if (!frame->has_value()) continue;
    MUSTER_ASSIGN_OR_RETURN(const muster_v1_AgentToWorker message, DecodeAgentToWorker((*frame)->bytes));
    if (message.which_kind == muster_v1_AgentToWorker_refused_tag) return RefusedStatus(message.kind.refused);
    if (message.which_kind == muster_v1_AgentToWorker_over_tag) {
      return absl::UnavailableError(absl::StrCat("the job is over: ", message.kind.over.message));
    }
    if (message.which_kind != muster_v1_AgentToWorker_begin_tag) continue;
    MUSTER_ASSIGN_OR_RETURN(*membership, ToMembership(message, **frame));
    generation_ = message.generation;
    return absl::OkStatus();
  }
}

absl::Status AgentLine::Listen(Events events) {
  events_ = std::move(events);
  // The user's signal handlers must not run on our thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  absl::Status started;
  try {
    thread_ = std::thread([this] { ReadAll(); });
  } catch (const std::system_error& error) {
    started = ErrnoToStatus(error.code().value(), "start the thread that listens to the agent");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

void AgentLine::ReadAll() {
  while (true) {
    bool unsent;
    {
      MutexLock lock(mutex_);
      if (stop_) return;
      unsent = !writer_.idle();
    }
    const short wanted = static_cast<short>(POLLIN | (unsent ? POLLOUT : 0));
    pollfd ready[2] = {{socket_.get(), wanted, 0}, {wakeup_.get(), POLLIN, 0}};
    if (::poll(ready, 2, -1) < 0) {
      MUSTER_CHECK(errno == EINTR || errno == ENOMEM, "poll");
      continue;
    }
    if (ready[1].revents != 0) {
      uint64_t count;
      [[maybe_unused]] const ssize_t bytes = ::read(wakeup_.get(), &count, sizeof count);
    }
    if ((ready[0].revents & POLLOUT) != 0) {
      MutexLock lock(mutex_);
      // A broken line shows up as an error of the reading side as well.
      [[maybe_unused]] const absl::Status flushed = writer_.Flush(socket_.get());
    }
    if ((ready[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    const absl::Status read = ReadReady();
    if (read.ok()) continue;
    {
      MutexLock lock(mutex_);
      if (stop_) return;  // we are leaving anyhow
    }
    events_.over(read);
    return;
  }
}

absl::Status AgentLine::ReadReady() {
  while (true) {
    auto frame = reader_.Read(socket_.get());
    if (!frame.ok())
      return absl::UnavailableError(absl::StrCat("the agent of this node is gone (", frame.status().message(), ")"));
    if (!frame->has_value()) return absl::OkStatus();
    MUSTER_RETURN_IF_ERROR(Dispatch(std::move(**frame)));
  }
}

absl::Status AgentLine::Dispatch(Frame frame) {
  auto message = DecodeAgentToWorker(frame.bytes);
  if (!message.ok())
    return absl::UnavailableError(absl::StrCat("the agent cannot be understood: ", message.status().message()));
  if (message->generation != generation_) return absl::OkStatus();
  switch (message->which_kind) {
    case muster_v1_AgentToWorker_window_shared_tag: {
      const muster_v1_WindowShared& shared = message->kind.window_shared;
      if (frame.fds.size() == 1) events_.window_shared(shared.window, shared.local_rank, shared.bytes, std::move(frame.fds[0]));
      return absl::OkStatus();
    }
    case muster_v1_AgentToWorker_over_tag:
      return absl::AbortedError(message->kind.over.message);
    default:
      return absl::OkStatus();
  }
}

absl::Status AgentLine::Send(const void* worker_message, const std::vector<int>& fds) {
  MUSTER_ASSIGN_OR_RETURN(const std::string bytes,
                          EncodeWorkerMessage(*static_cast<const muster_v1_WorkerMessage*>(worker_message)));
  MutexLock lock(mutex_);
  MUSTER_RETURN_IF_ERROR(writer_.Send(socket_.get(), bytes, fds));
  if (!writer_.idle()) {  // the reading thread sends the rest
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
  }
  return absl::OkStatus();
}

absl::Status AgentLine::OfferWindow(uint32_t window, int fd, int64_t bytes) {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_window_offer_tag;
  message.kind.window_offer.window = window;
  message.kind.window_offer.bytes = static_cast<uint64_t>(bytes);
  return Annotate(Send(&message, {fd}), "offer a window to the agent");
}

void AgentLine::ReleaseWindow(uint32_t window) {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_window_release_tag;
  message.kind.window_release.window = window;
  Send(&message).IgnoreError();
}

void AgentLine::ReportStep(int64_t committed_step) {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_step_tag;
  message.kind.step.committed_step = committed_step;
  Send(&message).IgnoreError();
}

void AgentLine::ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& text) {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_blame_tag;
  message.kind.blame.rank = rank;
  message.kind.blame.reason = static_cast<uint32_t>(reason);
  message.kind.blame.op_seq = op_seq;
  CopyText(text, message.kind.blame.message, sizeof message.kind.blame.message);
  Send(&message).IgnoreError();
}

void AgentLine::SayLeave() {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_leave_tag;
  Send(&message).IgnoreError();
}

}  // namespace muster

#include "runtime/rendezvous/agent_line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/rendezvous/worker_codec.h"

namespace muster {
namespace {

constexpr size_t kQueuedBytesMax = 1 << 20;
constexpr int64_t kRefusalPauseNanoseconds = 1'000'000'000;
constexpr int kStallLookMilliseconds = 1;  // how soon to try again what FrameWriter::stalled() keeps back

absl::StatusOr<UniqueFd> ConnectTo(const std::string& name, absl::Time deadline) {
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

absl::Status RefusedStatus(const muster_v1_Refused& refused) {
  const auto code = refused.code == 0 ? absl::StatusCode::kUnavailable : static_cast<absl::StatusCode>(refused.code);
  return absl::Status(code, refused.message);
}

absl::StatusOr<Membership> ToMembership(const muster_v1_AgentToWorker& message, Frame& frame) {
  const muster_v1_Generation& begin = message.kind.begin;
  const size_t descriptors = begin.nodes > 1 ? 2 : 1;
  if (frame.fds.size() != descriptors || begin.local_world_size == 0 || begin.local_world_size > v1::kLocalRanksMax ||
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
  membership.spawn = begin.spawn;
  membership.nodes = std::max(1u, begin.nodes);
  membership.checkpoint_path = begin.checkpoint_path;
  membership.checkpoint_every_steps = begin.checkpoint_every_steps;
  membership.checkpoint_keep = begin.checkpoint_keep;
  membership.control = std::move(frame.fds[0]);
  if (descriptors > 1) membership.listener = std::move(frame.fds[1]);
  return membership;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AgentLine>> AgentLine::Connect(const std::string& socket, std::string job_id,
                                                              absl::Time deadline) {
  MUSTER_ASSIGN_OR_RETURN(UniqueFd connected, ConnectTo(socket, deadline));
  UniqueFd wakeup(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeup) return ErrnoToStatus(errno, "eventfd");
  return std::unique_ptr<AgentLine>(new AgentLine(std::move(connected), std::move(wakeup), std::move(job_id)));
}

AgentLine::AgentLine(UniqueFd socket, UniqueFd wakeup, std::string job_id)
    : socket_(std::move(socket)), wakeup_(std::move(wakeup)), job_id_(std::move(job_id)), writer_(kQueuedBytesMax) {}

AgentLine::~AgentLine() {
  Stop();
  if (thread_.joinable()) thread_.join();
}

void AgentLine::Stop() {
  stop_ = true;
  Wake();
}

void AgentLine::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
}

absl::Status AgentLine::SayHello(uint32_t slot, int life_page_fd, absl::string_view muster_version) {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, 0);
  message.which_kind = muster_v1_WorkerMessage_hello_tag;
  message.kind.hello.protocol_version = 1;
  message.kind.hello.slot = slot;
  message.kind.hello.pid = ::getpid();
  message.kind.hello.applied_step = -1;
  CopyText(muster_version, message.kind.hello.muster_version, sizeof message.kind.hello.muster_version);
  return Send(&message, {life_page_fd});
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
  while (!stop_) {
    if (!PollOnce()) continue;
    const absl::Status read = ReadReady();
    if (read.ok() || stop_) continue;
    events_.closed(read);
    return;
  }
}

// Sends what waits. True: there is something to read.
bool AgentLine::PollOnce() {
  bool unsent, stalled;
  int timeout = -1;
  {
    MutexLock lock(mutex_);
    TellRefusals(/*all=*/false);
    unsent = !writer_.idle();
    stalled = unsent && writer_.stalled();
    if (!refusals_.empty()) {
      const int64_t wait = std::max<int64_t>(0, next_refusals_at_ - MonotonicNanoseconds());
      timeout = static_cast<int>(wait / 1'000'000) + 1;
    }
  }
  if (stalled) timeout = kStallLookMilliseconds;
  const short wanted = static_cast<short>(POLLIN | (unsent && !stalled ? POLLOUT : 0));
  pollfd ready[2] = {{socket_.get(), wanted, 0}, {wakeup_.get(), POLLIN, 0}};
  if (::poll(ready, 2, timeout) < 0) {
    MUSTER_CHECK(errno == EINTR || errno == ENOMEM, "poll");
    return false;
  }
  if (ready[1].revents != 0) {
    uint64_t count;
    [[maybe_unused]] const ssize_t bytes = ::read(wakeup_.get(), &count, sizeof count);
  }
  if (stalled || (ready[0].revents & POLLOUT) != 0) {
    MutexLock lock(mutex_);
    writer_.Flush(socket_.get()).IgnoreError();  // a broken line shows when it is read
  }
  return (ready[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
}

absl::Status AgentLine::ReadReady() {
  while (!stop_) {
    auto frame = reader_.Read(socket_.get());
    if (!frame.ok()) return frame.status();
    if (!frame->has_value()) return absl::OkStatus();
    MUSTER_RETURN_IF_ERROR(Dispatch(std::move(**frame)));
  }
  return absl::OkStatus();
}

absl::Status AgentLine::Dispatch(Frame frame) {
  MUSTER_ASSIGN_OR_RETURN(const muster_v1_AgentToWorker message, DecodeAgentToWorker(frame.bytes));
  switch (message.which_kind) {
    case muster_v1_AgentToWorker_begin_tag: {
      MUSTER_ASSIGN_OR_RETURN(Membership membership, ToMembership(message, frame));
      generation_ = message.generation;
      events_.begun(std::move(membership));
      break;
    }
    case muster_v1_AgentToWorker_window_shared_tag: {
      const muster_v1_WindowShared& shared = message.kind.window_shared;
      if (message.generation != generation_ || frame.fds.size() != 1) break;
      events_.window_shared(shared.communicator, shared.window, shared.local_rank, shared.bytes, std::move(frame.fds[0]));
      break;
    }
    case muster_v1_AgentToWorker_refused_tag:
      events_.refused(RefusedStatus(message.kind.refused));
      break;
    case muster_v1_AgentToWorker_over_tag:
      events_.over(message.generation, message.kind.over.message);
      break;
    default:
      break;  // of a newer agent
  }
  return absl::OkStatus();
}

absl::Status AgentLine::Send(const void* worker_message, const std::vector<int>& fds) {
  MutexLock lock(mutex_);
  return SendLocked(worker_message, fds);
}

absl::Status AgentLine::SendLocked(const void* worker_message, const std::vector<int>& fds) {
  MUSTER_ASSIGN_OR_RETURN(const std::string bytes,
                          EncodeWorkerMessage(*static_cast<const muster_v1_WorkerMessage*>(worker_message)));
  MUSTER_RETURN_IF_ERROR(writer_.Send(socket_.get(), bytes, fds));
  if (!writer_.idle()) Wake();  // the reading thread sends the rest
  return absl::OkStatus();
}

absl::Status AgentLine::OfferWindow(uint32_t window, int fd, int64_t bytes, uint64_t communicator,
                                    std::span<const uint32_t> members) {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_window_offer_tag;
  message.kind.window_offer.window = window;
  message.kind.window_offer.bytes = static_cast<uint64_t>(bytes);
  message.kind.window_offer.communicator = communicator;
  MUSTER_CHECK(members.size() <= std::size(message.kind.window_offer.members), "members of one node");
  std::copy(members.begin(), members.end(), message.kind.window_offer.members);
  message.kind.window_offer.members_count = static_cast<pb_size_t>(members.size());
  return Annotate(Send(&message, {fd}), "offer a window to the agent");
}

void AgentLine::ReleaseWindow(uint32_t window) {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_window_release_tag;
  message.kind.window_release.window = window;
  Send(&message).IgnoreError();
}

void AgentLine::ReportStep(int64_t committed_step, int64_t checkpoint_step) {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_step_tag;
  message.kind.step.committed_step = committed_step;
  message.kind.step.checkpoint_step = checkpoint_step;
  Send(&message).IgnoreError();
}

void AgentLine::ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& text,
                            bool of_some_ranks) {
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_blame_tag;
  message.kind.blame.rank = rank;
  message.kind.blame.reason = static_cast<uint32_t>(reason);
  message.kind.blame.op_seq = op_seq;
  message.kind.blame.of_some_ranks = of_some_ranks;
  CopyText(text, message.kind.blame.message, sizeof message.kind.blame.message);
  Send(&message).IgnoreError();
}

void AgentLine::ReportRefusal(std::string what, std::string from) {
  MutexLock lock(mutex_);
  refusals_.Add(std::move(what), std::move(from));
  TellRefusals(/*all=*/false);
  if (!refusals_.empty()) Wake();  // the reading thread tells the rest when it is time
}

void AgentLine::TellRefusals(bool all) {
  if (refusals_.empty()) return;
  const int64_t now = MonotonicNanoseconds();
  if (!all && now < next_refusals_at_) return;
  next_refusals_at_ = now + kRefusalPauseNanoseconds;
  while (!refusals_.empty()) {
    const RefusalCount refused = refusals_.Take();
    muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
    message.which_kind = muster_v1_WorkerMessage_refusals_tag;
    CopyText(refused.what, message.kind.refusals.what, sizeof message.kind.refusals.what);
    CopyText(refused.from, message.kind.refusals.from, sizeof message.kind.refusals.from);
    message.kind.refusals.count = refused.count;
    SendLocked(&message, {}).IgnoreError();
  }
}

void AgentLine::SayLeave() {
  MutexLock lock(mutex_);
  TellRefusals(/*all=*/true);
  muster_v1_WorkerMessage message = NewWorkerMessage(job_id_, generation_);
  message.which_kind = muster_v1_WorkerMessage_leave_tag;
  SendLocked(&message, {}).IgnoreError();
}

}  // namespace muster

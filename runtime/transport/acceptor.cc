#include "runtime/transport/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/library_thread.h"
#include "runtime/base/status.h"
#include "runtime/transport/frame.h"
#include "runtime/transport/socket.h"

namespace muster {
namespace {

// Accepted in a row before half-open connections are read again.
constexpr int kAcceptedAtOnce = 16;
// After accept(2) failed for want of descriptors or memory: the listener stays readable, so do not ask at once.
constexpr int kPauseMilliseconds = 100;

// How long the kernel keeps a connection that says nothing to itself: one second, a retransmission of its own SYN.
constexpr int kDeferSeconds = 1;

void Bump(int event) {
  const uint64_t one = 1;
  (void)!::write(event, &one, sizeof one);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Create(AcceptorOptions options) {
  std::unique_ptr<Acceptor> acceptor(new Acceptor(std::move(options)));
  // Where the kernel cannot, silence takes a place in the table.
  (void)::setsockopt(acceptor->options_.listener.get(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &kDeferSeconds, sizeof kDeferSeconds);
  const int flags = ::fcntl(acceptor->options_.listener.get(), F_GETFL);
  if (flags < 0 || ::fcntl(acceptor->options_.listener.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
      ::fcntl(acceptor->options_.listener.get(), F_SETFD, FD_CLOEXEC) != 0 ||
      ::listen(acceptor->options_.listener.get(), SOMAXCONN) != 0) {
    return ErrnoToStatus(errno, "listen for peers");
  }
  for (UniqueFd* const event : {&acceptor->arrived_event_, &acceptor->stop_event_}) {
    event->Reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!*event) return ErrnoToStatus(errno, "eventfd");
  }
  MUSTER_ASSIGN_OR_RETURN(acceptor->thread_, StartLibraryThread("the thread that takes connections",
                                                                [acceptor = acceptor.get()] { acceptor->Loop(); }));
  acceptor->thread_process_ = ::getpid();
  return acceptor;
}

Acceptor::~Acceptor() {
  if (thread_ == nullptr) return;
  if (::getpid() != thread_process_) {
    // Destroying a joinable std::thread would end the child; the descriptors' numbers may be others' by now.
    thread_.release();
    for (HalfOpen& half_open : half_open_) half_open.fd.Release();
    for (Arrival& arrival : arrivals_) arrival.fd.Release();
    for (UniqueFd* const fd : {&arrived_event_, &stop_event_, &options_.listener}) fd->Release();
    return;
  }
  Bump(stop_event_.get());
  thread_->join();
  for (HalfOpen& half_open : half_open_) ShutDown(&half_open.fd);
}

std::vector<Acceptor::Arrival> Acceptor::TakeArrivals() {
  uint64_t count;
  (void)!::read(arrived_event_.get(), &count, sizeof count);
  MutexLock lock(mutex_);
  return std::exchange(arrivals_, {});
}

void Acceptor::AppendDescriptors(std::vector<int>* descriptors) const {
  for (const UniqueFd* const fd : {&options_.listener, &arrived_event_, &stop_event_}) descriptors->push_back(fd->get());
}

void Acceptor::Loop() {
  int64_t paused_until = 0;
  for (;;) {
    std::array<pollfd, kHalfOpenMax + 2> polled;
    std::array<HalfOpen*, kHalfOpenMax> polled_half_open;
    const int64_t now = MonotonicNanoseconds();
    int64_t next = INT64_MAX;
    polled[0] = {stop_event_.get(), POLLIN, 0};
    const int64_t listen_at = std::max(paused_until, NextPlaceAt());
    polled[1] = {now < listen_at ? -1 : options_.listener.get(), POLLIN, 0};
    if (now < listen_at) next = listen_at;
    nfds_t count = 2;
    for (HalfOpen& half_open : half_open_) {
      if (!half_open.fd) continue;
      next = std::min(next, half_open.deadline);
      polled_half_open[count - 2] = &half_open;
      polled[count++] = {half_open.fd.get(), POLLIN, 0};
    }
    const int timeout = next == INT64_MAX ? -1 : static_cast<int>(std::max<int64_t>(0, (next - now + 999'999) / 1'000'000));
    if (::poll(polled.data(), count, timeout) < 0 && errno != EINTR) continue;
    if (polled[0].revents != 0) return;
    for (nfds_t i = 2; i < count; ++i) {
      if (polled[i].revents != 0) Read(polled_half_open[i - 2]);
    }
    Overdue();
    if (polled[1].revents != 0 && !AcceptSome())
      paused_until = MonotonicNanoseconds() + int64_t{kPauseMilliseconds} * 1'000'000;
  }
}

// False where the machine has no room for another connection now.
bool Acceptor::AcceptSome() {
  for (int i = 0; i < kAcceptedAtOnce; ++i) {
    const int64_t now = MonotonicNanoseconds();
    if (NextPlaceAt() > now) return true;
    sockaddr_storage from = {};
    socklen_t length = sizeof from;
    UniqueFd fd(::accept4(options_.listener.get(), reinterpret_cast<sockaddr*>(&from), &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
    HalfOpen* const place = PlaceToTake();
    if (place->fd) Refuse(place, absl::StrCat(place->handshake.Unfinished("silent"), ", and ", kHalfOpenMax, " more came"));
    place->fd = std::move(fd);
    place->since = now;
    place->deadline = now + absl::ToInt64Nanoseconds(options_.handshake_max);
    place->from = FromSockaddr(from);
    place->handshake = AcceptHandshake();
    Read(place);
  }
  return true;
}

// A free one; else the oldest that has not said a good HELLO, else the oldest.
Acceptor::HalfOpen* Acceptor::PlaceToTake() {
  HalfOpen* leaves = nullptr;
  for (HalfOpen& half_open : half_open_) {
    if (!half_open.fd) return &half_open;
    const auto order = [](const HalfOpen& each) { return std::pair(each.handshake.greeted(), each.since); };
    if (leaves == nullptr || order(half_open) < order(*leaves)) leaves = &half_open;
  }
  return leaves;
}

// From when on another connection may be taken.
int64_t Acceptor::NextPlaceAt() {
  const HalfOpen* const place = PlaceToTake();
  return place->fd ? place->since + absl::ToInt64Nanoseconds(kPlaceMin) : 0;
}

void Acceptor::Read(HalfOpen* half_open) {
  while (!half_open->handshake.proven()) {
    char bytes[kHelloBytes];
    const ssize_t received = ::recv(half_open->fd.get(), bytes, half_open->handshake.wanted(), 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (received <= 0) return Refuse(half_open, half_open->handshake.Unfinished("closed"));
    Nonce nonce;
    if (::RAND_bytes(reinterpret_cast<unsigned char*>(nonce.data()), static_cast<int>(nonce.size())) != 1) {
      return Refuse(half_open, "no randomness for a WELCOME");
    }
    const absl::StatusOr<absl::string_view> reply =
        half_open->handshake.Take(options_.party, nonce, {bytes, static_cast<size_t>(received)});
    if (!reply.ok()) return Refuse(half_open, std::string(reply.status().message()));
    // A fresh connection takes a hundred bytes whole, or is no peer's.
    if (!reply->empty() &&
        ::send(half_open->fd.get(), reply->data(), reply->size(), MSG_NOSIGNAL) != static_cast<ssize_t>(reply->size())) {
      return Refuse(half_open, half_open->handshake.Unfinished("closed"));
    }
  }
  Admit(half_open);
}

void Acceptor::Admit(HalfOpen* half_open) {
  const int rank = half_open->handshake.rank(), stream = half_open->handshake.stream();
  if (taken_.count({rank, stream}) != 0) {
    return Refuse(half_open, absl::StrCat("stream ", stream, " of rank ", rank, " a second time"));
  }
  char open[kMeshHeaderBytes];
  StoreMeshFrame({.type = MeshFrameType::kOpen, .generation = options_.party.generation}, open);
  if (!PrepareConnection(half_open->fd.get(), options_.silence_max).ok() ||
      ::send(half_open->fd.get(), open, sizeof open, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof open)) {
    return Refuse(half_open, absl::StrCat("rank ", rank, " closed after its PROOF"));
  }
  taken_.insert({rank, stream});
  {
    MutexLock lock(mutex_);
    arrivals_.push_back({rank, stream, std::move(half_open->fd)});
  }
  Bump(arrived_event_.get());
}

void Acceptor::Refuse(HalfOpen* half_open, std::string what) {
  ShutDown(&half_open->fd);
  refusals_.fetch_add(1, std::memory_order_relaxed);
  if (options_.refused) options_.refused({std::move(what), ToString(half_open->from)});
}

void Acceptor::Overdue() {
  const int64_t now = MonotonicNanoseconds();
  for (HalfOpen& half_open : half_open_) {
    if (!half_open.fd || now < half_open.deadline) continue;
    Refuse(&half_open,
           half_open.handshake.Unfinished(absl::StrCat("silent for ", absl::FormatDuration(options_.handshake_max))));
  }
}

}  // namespace muster

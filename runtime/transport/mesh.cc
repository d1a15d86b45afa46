#include "runtime/transport/mesh.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status.h"
#include "runtime/transport/acceptor.h"
#include "runtime/transport/dial_plan.h"
#include "runtime/transport/dialer.h"
#include "runtime/transport/frame.h"
#include "runtime/transport/handshake.h"
#include "runtime/transport/socket.h"
#include "runtime/transport/stream.h"

namespace muster {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
// Below the 5 ms within which interrupted() is promised to be asked.
constexpr int kLookMilliseconds = 4;
// A stream of a peer has ended and another has not: what that one says about the end may still be on the way.
constexpr int64_t kNewsMayFollow = 1000 * kMillisecond;
// Rounds of moving bytes between two looks at epoll, which tells of other streams.
constexpr int kRoundsBetweenLooks = 4;
// So many streams are asked directly while spinning; more are left to epoll.
constexpr size_t kProbedMax = 2;
constexpr int kEvents = 64;
// How long a try counts among those on the way: who answers late keeps the others waiting no longer.
constexpr int64_t kDialIsYoung = 200 * kMillisecond;

constexpr char kBlamedRankPayload[] = "muster/blamed_rank";
absl::Status Blaming(int rank, absl::Status error) {
  error.SetPayload(kBlamedRankPayload, absl::Cord(absl::StrCat(rank)));
  return error;
}

absl::Status CheckOptions(const MeshOptions& options) {
  const auto wrong = [](const auto&... what) { return absl::InvalidArgumentError(absl::StrCat("mesh: ", what...)); };
  if (options.job_id.size() != 16) return wrong("a job id has 16 bytes, not ", options.job_id.size());
  if (options.key.size() != 32) return wrong("a key has 32 bytes, not ", options.key.size());
  if (options.rank < 0) return wrong("rank ", options.rank);
  if (options.streams < 1 || options.streams > kMeshStreamsMax) {
    return wrong(options.streams, " streams; 1 to ", kMeshStreamsMax, " are possible");
  }
  if (options.silence_max < absl::Milliseconds(1)) return wrong("silence_max of ", absl::FormatDuration(options.silence_max));
  for (size_t i = 0; i < options.peers.size(); ++i) {
    const MeshPeer& peer = options.peers[i];
    if (peer.rank < 0 || peer.rank == options.rank) return wrong("rank ", options.rank, " with rank ", peer.rank, " as a peer");
    if (i > 0 && options.peers[i - 1].rank == peer.rank) return wrong("rank ", peer.rank, " as a peer twice");
    if (peer.rank > options.rank && !options.listener) return wrong("no listener, but rank ", peer.rank, " is to dial it");
  }
  return absl::OkStatus();
}

// Brings a mesh's connections about.
class Connecting {
 public:
  Connecting(const MeshOptions& options, const HandshakeParty& party, Acceptor* acceptor)
      : options_(options),
        per_peer_(party.streams),
        acceptor_(acceptor),
        fds_(options.peers.size() * party.streams),
        gone_since_(options.peers.size(), 0) {
    std::vector<int> ranks;
    for (const MeshPeer& peer : options.peers) ranks.push_back(peer.rank);
    for (const size_t place : DialOrder(options.rank, ranks)) {
      for (int stream = 0; stream < per_peer_; ++stream) {
        dials_.emplace_back(&party, options.peers[place], stream, options.silence_max);
      }
    }
  }

  absl::Status Run(int64_t deadline, absl::FunctionRef<bool()> interrupted) {
    for (;;) {
      if (missing_ == 0) return absl::OkStatus();
      if (interrupted()) return absl::AbortedError("interrupted while connecting to other nodes");
      const int64_t now = MonotonicNanoseconds();
      if (now >= deadline) return TooLate();
      MUSTER_RETURN_IF_ERROR(Step(now));
    }
  }

  std::vector<UniqueFd> Take() { return std::move(fds_); }

 private:
  absl::Status Step(int64_t now) {
    polled_.clear();
    for (const Dial& dial : dials_) polled_.push_back(dial.Polled());
    polled_.push_back({acceptor_ != nullptr ? acceptor_->arrivals_fd() : -1, POLLIN, 0});
    for (size_t i = 0; i < fds_.size(); ++i) {
      const size_t peer = i / static_cast<size_t>(per_peer_);
      polled_.push_back({gone_since_[peer] != 0 || IsComplete(peer) ? -1 : fds_[i].get(), POLLRDHUP, 0});
    }
    bool due = false;
    int young = 0;
    for (const Dial& dial : dials_) young += dial.IsYoung(now, kDialIsYoung) ? 1 : 0;
    DialBudget budget(young);
    for (const Dial& dial : dials_) {
      due = due || (!dial.open() && dial.wake() <= now && !(dial.idle() && budget.is_spent()));
    }
    if (::poll(polled_.data(), polled_.size(), due ? 0 : kLookMilliseconds) < 0 && errno != EINTR) {
      return ErrnoToStatus(errno, "poll while connecting to other nodes");
    }
    for (size_t i = 0; i < dials_.size(); ++i) {
      Dial& dial = dials_[i];
      if (dial.open()) continue;
      if (dial.idle() && dial.wake() <= now && !budget.Take()) continue;
      if (absl::Status status = dial.Advance(polled_[i].revents != 0, now); !status.ok()) {
        return Blaming(dial.peer().rank, std::move(status));
      }
      if (dial.open()) Keep(dial.peer().rank, dial.stream(), dial.Take());
    }
    if (polled_[dials_.size()].revents != 0) {
      for (Acceptor::Arrival& arrival : acceptor_->TakeArrivals()) Keep(arrival.rank, arrival.stream, std::move(arrival.fd));
    }
    return JudgeGone(now);
  }

  // A peer that has closed a connection while others are missing. It may have all of them, have had nothing to do and have left,
  // while the news of the last is still on the way: then it is for who waits for it to mind.
  absl::Status JudgeGone(int64_t now) {
    for (size_t i = 0; i < fds_.size(); ++i) {
      int64_t& since = gone_since_[i / static_cast<size_t>(per_peer_)];
      if (since == 0 && polled_[dials_.size() + 1 + i].revents != 0) since = now;
    }
    for (size_t peer = 0; peer < gone_since_.size(); ++peer) {
      if (gone_since_[peer] == 0 || now - gone_since_[peer] < kNewsMayFollow || IsComplete(peer)) continue;
      const MeshPeer& gone = options_.peers[peer];
      return Blaming(gone.rank, absl::UnavailableError(
                                    absl::StrCat(Describe(gone), ": closed a connection while others were still being made")));
    }
    return absl::OkStatus();
  }

  bool IsComplete(size_t peer) const {
    const auto first = fds_.begin() + static_cast<std::ptrdiff_t>(peer) * per_peer_;
    return std::all_of(first, first + per_peer_, [](const UniqueFd& fd) { return fd.valid(); });
  }

  void Keep(int rank, int stream, UniqueFd fd) {
    const auto peer =
        std::find_if(options_.peers.begin(), options_.peers.end(), [rank](const MeshPeer& p) { return p.rank == rank; });
    fds_[static_cast<size_t>(peer - options_.peers.begin()) * per_peer_ + stream] = std::move(fd);
    --missing_;
  }

  absl::Status TooLate() const {
    for (const Dial& dial : dials_) {
      if (!dial.open() && !dial.trouble().empty()) {
        return Blaming(dial.peer().rank,
                       absl::UnavailableError(absl::StrCat(Describe(dial.peer()), " cannot be reached: ", dial.trouble())));
      }
    }
    std::vector<std::string> late;
    uint32_t first_late = v1::kNoRank;
    for (size_t i = 0; i < options_.peers.size(); ++i) {
      if (IsComplete(i)) continue;
      if (late.empty()) first_late = static_cast<uint32_t>(options_.peers[i].rank);
      late.push_back(absl::StrCat("rank ", options_.peers[i].rank, " (", options_.peers[i].host, ")"));
    }
    return Blaming(static_cast<int>(first_late),
                   absl::DeadlineExceededError(absl::StrCat("not connected in time: ", absl::StrJoin(late, ", "))));
  }

  const MeshOptions& options_;
  const int per_peer_;
  Acceptor* const acceptor_;
  std::vector<UniqueFd> fds_;  // by peer, by stream
  size_t missing_ = fds_.size();
  std::vector<int64_t> gone_since_;  // by peer, 0: it is there
  std::deque<Dial> dials_;
  std::vector<pollfd> polled_;
};

class TcpMesh : public Mesh {
 public:
  explicit TcpMesh(MeshOptions options) : options_(std::move(options)) {
    for (const MeshPeer& peer : options_.peers) {
      index_of_rank_[peer.rank] = ranks_.size();
      ranks_.push_back(peer.rank);
    }
  }

  ~TcpMesh() override {
    if (::getpid() != owner_) {  // the numbers of the descriptors may be others' by now
      for (MeshStream& stream : streams_) stream.mutable_fd()->Release();
      epoll_.Release();
      return;
    }
    acceptor_.reset();
    for (MeshStream& stream : streams_) ShutDown(stream.mutable_fd());
  }

  absl::Status Open(int64_t deadline, absl::FunctionRef<bool()> interrupted) {
    HandshakeParty party{options_.job_id, options_.generation, options_.key, options_.rank,
                         options_.spawn,  per_peer(),          {},           options_.communicator};
    for (const MeshPeer& peer : options_.peers) party.peers.push_back({peer.rank, peer.spawn});
    epoll_.Reset(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_) return ErrnoToStatus(errno, "epoll_create1");
    if (options_.listener) {
      MUSTER_ASSIGN_OR_RETURN(acceptor_, Acceptor::Create({.party = party,
                                                           .listener = std::move(options_.listener),
                                                           .silence_max = options_.silence_max,
                                                           .refused = options_.refused}));
    }
    Connecting connecting(options_, party, acceptor_.get());
    MUSTER_RETURN_IF_ERROR(connecting.Run(deadline, interrupted));
    for (UniqueFd& fd : connecting.Take()) {
      const auto index = static_cast<uint32_t>(streams_.size());
      epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u32 = index}};
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) return ErrnoToStatus(errno, "epoll_ctl");
      if (!IsForAborts(index)) MUSTER_RETURN_IF_ERROR(AllowFullWindow(fd.get()));
      streams_.emplace_back(std::move(fd), options_.generation);
    }
    is_hot_.assign(streams_.size(), false);
    stale_told_.assign(streams_.size(), 0);
    return absl::OkStatus();
  }

  void Send(int peer, MeshTag tag, const void* data, int64_t bytes, MeshTransfer* transfer) override {
    MUSTER_CHECK(bytes >= 0, "a message has a length");
    *transfer = {};
    if (failure_) return;
    const size_t index = IndexOf(peer, tag);
    MeshStream& stream = streams_[index];
    const bool first = !stream.sending();
    stream.PostSend(tag, data, bytes, transfer);
    if (first) stream.MoveOut();  // now, not at the next Progress: the peer waits
    Notice(index);
  }

  void Receive(int peer, MeshTag tag, void* data, int64_t bytes, MeshTransfer* transfer) override {
    MUSTER_CHECK(bytes >= 0, "a message has a length");
    *transfer = {};
    if (failure_) return;
    const size_t index = IndexOf(peer, tag);
    streams_[index].PostReceive(tag, data, bytes, transfer);
    Notice(index);
  }

  std::optional<MeshFailure> Progress(absl::FunctionRef<bool()> ready, absl::FunctionRef<bool()> interrupted, int64_t deadline,
                                      absl::Duration spin) override {
    const int64_t spin_for = absl::ToInt64Nanoseconds(spin);
    int64_t moved_at = MonotonicNanoseconds();
    int rounds = 0;
    FindProbed();
    for (;;) {
      if (ready()) return std::nullopt;
      if (failure_) return failure_;
      if (interrupted()) return MeshFailure{};
      const int64_t now = MonotonicNanoseconds();
      if (now >= deadline) return Fail(LateFailure());
      const bool moved = MoveHot();
      if (!faulty_.empty()) JudgeFaults(now);
      if (moved) {
        moved_at = now;
        if (++rounds % kRoundsBetweenLooks == 0) {
          Look(0);
          FindProbed();
        }
        continue;
      }
      if (failure_) continue;
      if (now - moved_at >= spin_for) {
        Look(static_cast<int>(std::clamp<int64_t>((deadline - now + kMillisecond - 1) / kMillisecond, 1, kLookMilliseconds)));
      } else if (probed_.empty() || ++rounds % kRoundsBetweenLooks == 0) {
        Look(0);
      } else {
        for (const size_t index : probed_) {
          streams_[index].SetReadable();
          Heat(index);
        }
      }
    }
  }

  void Abort(const MeshFailure& failure) override {
    const bool leave = failure.reason == v1::AbortReason::kPeerLeft;
    MutexLock lock(abort_mutex_);
    if (abort_sent_ || (leave && leave_sent_)) return;
    (leave ? leave_sent_ : abort_sent_) = true;
    SendToAll(leave ? Leave() : MeshAbortBytes(options_.generation, failure));
  }

  const std::vector<int>& peers() const override { return ranks_; }
  int streams() const override { return options_.streams; }
  uint64_t refusals() const override { return acceptor_ == nullptr ? 0 : acceptor_->refusals(); }
  uint64_t stale_frames() const override {
    uint64_t sum = 0;
    for (const MeshStream& stream : streams_) sum += stream.stale_frames();
    return sum;
  }
  std::vector<int> descriptors() const override {
    std::vector<int> all = {epoll_.get()};
    if (acceptor_ != nullptr) acceptor_->AppendDescriptors(&all);
    for (const MeshStream& stream : streams_) all.push_back(stream.fd());
    return all;
  }

 private:
  int per_peer() const { return options_.streams + 1; }
  size_t PeerOf(size_t stream) const { return stream / static_cast<size_t>(per_peer()); }
  bool IsForAborts(size_t stream) const { return (stream + 1) % static_cast<size_t>(per_peer()) == 0; }
  MeshStream& AbortStreamOf(size_t peer) { return streams_[(peer + 1) * static_cast<size_t>(per_peer()) - 1]; }

  size_t IndexOf(int peer, MeshTag tag) const {
    const auto found = index_of_rank_.find(peer);
    MUSTER_CHECK(found != index_of_rank_.end(), absl::StrCat("rank ", peer, " is no peer"));
    return found->second * static_cast<size_t>(per_peer()) + tag.segment % static_cast<uint32_t>(options_.streams);
  }

  std::string Leave() const {
    std::string bytes(kMeshHeaderBytes, '\0');
    StoreMeshFrame({.type = MeshFrameType::kLeave, .generation = options_.generation}, bytes.data());
    return bytes;
  }

  // On the streams for aborts, which take the two frames that are ever sent there whole.
  void SendToAll(const std::string& frame) {
    if (streams_.size() < ranks_.size() * static_cast<size_t>(per_peer())) return;  // Open failed
    for (size_t peer = 0; peer < ranks_.size(); ++peer) {
      (void)!::send(AbortStreamOf(peer).fd(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
  }

  void Heat(size_t index) {
    if (is_hot_[index] || !streams_[index].movable()) return;
    is_hot_[index] = true;
    hot_.push_back(index);
  }

  // After anything that may have changed a stream.
  void Notice(size_t index) {
    MeshStream& stream = streams_[index];
    if (stream.stale_frames() != stale_told_[index]) TellStale(index);
    if (stream.abort() && !failure_) {
      failure_ = *stream.abort();
      if (failure_->rank == v1::kNoRank) failure_->rank = static_cast<uint32_t>(ranks_[PeerOf(index)]);
    }
    if (IsForAborts(index) && stream.silent()) {
      // It is always empty, so its kernel had no reason to be silent.
      for (size_t other = index + 1 - static_cast<size_t>(per_peer()); other < index; ++other) {
        streams_[other].End("fell silent: nothing that is sent there is acknowledged");
        NoticeFault(other);
      }
    }
    NoticeFault(index);
    Heat(index);
  }

  void NoticeFault(size_t index) {
    if (!streams_[index].faulty() || std::find(faulty_.begin(), faulty_.end(), index) != faulty_.end()) return;
    faulty_.push_back(index);
    faulty_since_ = MonotonicNanoseconds();
  }

  void TellStale(size_t index) {
    const MeshPeer& peer = options_.peers[PeerOf(index)];
    if (options_.refused) {
      for (uint64_t told = stale_told_[index]; told < streams_[index].stale_frames(); ++told) {
        options_.refused(
            {absl::StrCat("a frame of a generation before ", options_.generation, ", on a connection of rank ", peer.rank),
             ToString(peer.address)});
      }
    }
    stale_told_[index] = streams_[index].stale_frames();
  }

  // A round over the streams that may move bytes. False: none did.
  bool MoveHot() {
    bool moved = false;
    hot_now_.swap(hot_);
    for (const size_t index : hot_now_) {
      is_hot_[index] = false;
      moved = streams_[index].Move() || moved;
      Notice(index);
    }
    hot_now_.clear();
    return moved;
  }

  void Look(int timeout_ms) {
    epoll_event events[kEvents];
    const int count = ::epoll_wait(epoll_.get(), events, kEvents, timeout_ms);
    for (int i = 0; i < count; ++i) {
      const size_t index = events[i].data.u32;
      if ((events[i].events & ~static_cast<uint32_t>(EPOLLOUT)) != 0) streams_[index].SetReadable();
      if ((events[i].events & ~static_cast<uint32_t>(EPOLLIN | EPOLLRDHUP)) != 0) streams_[index].SetWritable();
      Heat(index);
    }
  }

  // Which streams are worth asking without epoll while spinning.
  void FindProbed() {
    probed_.clear();
    for (size_t index = 0; index < streams_.size(); ++index) {
      if (!streams_[index].receiving()) continue;
      if (probed_.size() == kProbedMax) return probed_.clear();
      probed_.push_back(index);
    }
  }

  // Streams of a peer have ended while something is posted on them. Who ended for a reason that it knows has told everyone;
  // whoever heard of it and ended too must not be taken for the cause.
  void JudgeFaults(int64_t now) {
    for (size_t peer = 0; peer < ranks_.size(); ++peer) {
      MeshStream& stream = AbortStreamOf(peer);
      stream.SetReadable();
      while (stream.Move()) {
      }
      Notice((peer + 1) * static_cast<size_t>(per_peer()) - 1);
    }
    if (failure_) return;
    for (const size_t index : faulty_) {
      const std::optional<MeshStream::Fault> fault = streams_[index].fault();
      if (!fault) continue;
      const size_t peer = PeerOf(index);
      MeshFailure failure{fault->reason, static_cast<uint32_t>(ranks_[peer]), 0,
                          absl::StrCat(Describe(options_.peers[peer]), ": ", fault->text)};
      if (fault->reason == v1::AbortReason::kPeerLost) {
        if (AbortStreamOf(peer).left()) {
          failure.reason = v1::AbortReason::kPeerLeft;
        } else if (!fault->garbled && !AbortStreamOf(peer).read_ended() && now - faulty_since_ < kNewsMayFollow) {
          continue;
        }
      }
      failure_ = std::move(failure);
      return;
    }
  }

  MeshFailure LateFailure() const {
    for (const bool receives : {true, false}) {
      for (size_t index = 0; index < streams_.size(); ++index) {
        const MeshStream& stream = streams_[index];
        if (receives ? !stream.receiving() : !stream.sending()) continue;
        const MeshPeer& peer = options_.peers[PeerOf(index)];
        return {v1::AbortReason::kDeadline, static_cast<uint32_t>(peer.rank), 0,
                absl::StrCat(Describe(peer),
                             receives ? ": has not sent what is expected of it" : ": does not take what is sent to it")};
      }
    }
    return {v1::AbortReason::kDeadline, v1::kNoRank, 0, ""};
  }

  MeshFailure Fail(MeshFailure failure) {
    failure_ = std::move(failure);
    return *failure_;
  }

  MeshOptions options_;  // peers by rank; without the listener
  const pid_t owner_ = ::getpid();
  std::vector<int> ranks_;
  std::map<int, size_t> index_of_rank_;
  std::unique_ptr<Acceptor> acceptor_;
  UniqueFd epoll_;
  // By peer, by stream. The last stream of each peer is for aborts alone: it is always empty, so they get through at once.
  std::deque<MeshStream> streams_;

  std::vector<size_t> hot_, hot_now_;  // streams that may move bytes
  std::vector<bool> is_hot_;
  std::vector<uint64_t> stale_told_;  // by stream: of stale_frames()
  std::vector<size_t> probed_;
  std::vector<size_t> faulty_;
  int64_t faulty_since_ = 0;
  std::optional<MeshFailure> failure_;

  Mutex abort_mutex_;
  bool abort_sent_ ABSL_GUARDED_BY(abort_mutex_) = false;
  bool leave_sent_ ABSL_GUARDED_BY(abort_mutex_) = false;
};

}  // namespace

uint32_t RankBlamedFor(const absl::Status& connect_error) {
  const auto payload = connect_error.GetPayload(kBlamedRankPayload);
  uint32_t rank = v1::kNoRank;
  return payload && absl::SimpleAtoi(std::string(*payload), &rank) ? rank : v1::kNoRank;
}

absl::StatusOr<std::unique_ptr<Mesh>> Mesh::Connect(MeshOptions options, absl::Time deadline,
                                                    absl::FunctionRef<bool()> interrupted) {
  std::sort(options.peers.begin(), options.peers.end(), [](const MeshPeer& a, const MeshPeer& b) { return a.rank < b.rank; });
  MUSTER_RETURN_IF_ERROR(CheckOptions(options));
  auto mesh = std::make_unique<TcpMesh>(std::move(options));
  MUSTER_RETURN_IF_ERROR(mesh->Open(MonotonicDeadline(deadline), interrupted));
  return mesh;
}

}  // namespace muster

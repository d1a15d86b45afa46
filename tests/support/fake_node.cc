#include "tests/support/fake_node.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/muster/v1/control_wake.h"
#include "runtime/backend/native/native.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster::test {

class FakeNode::Link : public NodeLink {
 public:
  // `seat`: the rank's local one in the generation.
  Link(FakeNode& node, int seat, uint64_t communicator, std::vector<uint32_t> seats, int rank)
      : node_(node), seat_(seat), communicator_(communicator), seats_(std::move(seats)), rank_(rank) {}

  ~Link() override {
    if (communicator_ == 0) return;
    MutexLock lock(node_.mutex_);
    for (auto& [name, fds] : node_.offered_) {
      if (name.communicator == communicator_ && name.seats == seats_) fds.erase(rank_);
    }
  }

  absl::Status OfferWindow(uint32_t window, int fd, int64_t) override {
    if (seat_ == node_.options_.offer_fails_on_rank) return absl::ResourceExhaustedError("no descriptor is free");
    MutexLock lock(node_.mutex_);
    node_.offered_[{communicator_, seats_, window}][rank_] = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    node_.changed_.SignalAll();
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<UniqueFd>> CollectWindow(uint32_t window, absl::Time deadline) override {
    std::vector<int> all(seats_.size());
    std::iota(all.begin(), all.end(), 0);
    return Collect(window, all, deadline);
  }

  absl::StatusOr<UniqueFd> CollectControl(absl::Time deadline) override {
    MUSTER_ASSIGN_OR_RETURN(std::vector<UniqueFd> one, Collect(kControlWindow, {0}, deadline));
    return std::move(one[0]);
  }

  void ReleaseWindow(uint32_t) override {}

  void ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t, const std::string& message) override {
    MutexLock lock(node_.mutex_);
    node_.blames_.push_back({node_.first_rank() + seat_, rank, reason, message, communicator_ != 0});
  }

  int64_t memory_limit_bytes() const override { return node_.options_.memory_limit_bytes; }
  const std::string& memory_limit_source() const override { return source_; }

  std::unique_ptr<NodeLink> Open(uint64_t number, std::vector<uint32_t> seats, int local_rank) override {
    return std::make_unique<Link>(node_, seat_, number, std::move(seats), local_rank);
  }
  absl::StatusOr<UniqueFd> Listen(uint16_t* port) override {
    *port = static_cast<uint16_t>(1 + seat_);
    return UniqueFd();
  }
  absl::StatusOr<std::unique_ptr<Mesh>> Connect(UniqueFd, const std::vector<MeshPlace>& peers, absl::Time,
                                                absl::FunctionRef<bool()>) override {
    const int own = node_.first_rank() + seat_;
    std::vector<int> ranks;
    for (const MeshPlace& peer : peers) {
      // Who is dialed has told its port to all.
      MUSTER_CHECK(peer.job_rank > own || peer.port != 0, "a peer to be dialed without a port");
      ranks.push_back(peer.job_rank);
    }
    return node_.options_.connect_some(communicator_, own, std::move(ranks));
  }
  void MeshEnds() override {}

 private:
  absl::StatusOr<std::vector<UniqueFd>> Collect(uint32_t window, const std::vector<int>& from, absl::Time deadline) {
    MutexLock lock(node_.mutex_);
    for (;;) {
      std::vector<UniqueFd> fds;
      for (const int rank : from) {
        const auto& come = node_.offered_[{communicator_, seats_, window}];
        if (const auto one = come.find(rank); one != come.end())
          fds.emplace_back(::fcntl(one->second.get(), F_DUPFD_CLOEXEC, 0));
      }
      if (fds.size() == from.size()) return fds;
      if (node_.control()->abort_word.load() != v1::kNoAbort) return absl::AbortedError("the generation is over");
      if (absl::Now() >= deadline) return absl::DeadlineExceededError("not every rank offered its window");
      node_.changed_.WaitFor(node_.mutex_, absl::Milliseconds(10));
    }
  }

  FakeNode& node_;
  const int seat_;
  const uint64_t communicator_;
  const std::vector<uint32_t> seats_;
  const int rank_;
  const std::string source_ = "/sys/fs/cgroup/memory.max";
};

FakeNode::FakeNode(const FakeNodeOptions& options) : options_(options) {
  auto control = LocalControl::Create(options.generation, options.ranks, options.slot_bytes, options.staging_bytes);
  MUSTER_CHECK(control.ok(), control.status().ToString());
  control_ = *std::move(control);
  std::vector<uint32_t> seats(static_cast<size_t>(options.ranks));
  std::iota(seats.begin(), seats.end(), 0u);
  for (int rank = 0; rank < options.ranks; ++rank) links_.push_back(std::make_unique<Link>(*this, rank, 0, seats, rank));
}

FakeNode::~FakeNode() = default;

size_t FakeNode::offered() const {
  MutexLock lock(mutex_);
  size_t count = 0;
  for (const auto& [name, fds] : offered_) count += fds.size();
  return count;
}

std::unique_ptr<Communicator> FakeNode::Join(int rank) {
  NativeOptions native;
  native.local_rank = rank;
  native.rank = first_rank() + rank;
  native.world_size = options_.node_of_rank.empty() ? options_.ranks : static_cast<int>(options_.node_of_rank.size());
  native.node_of_rank = options_.node_of_rank;
  if (options_.connect) native.mesh = options_.connect(native.rank);
  native.generation = options_.generation;
  if (options_.outer_wait_nanoseconds > 0) native.outer_wait_nanoseconds = options_.outer_wait_nanoseconds;
  native.host = options_.host;
  native.control = control();
  native.link = links_[static_cast<size_t>(rank)].get();
  auto communicator = CreateNativeCommunicator(std::move(native));
  MUSTER_CHECK(communicator.ok(), communicator.status().ToString());
  return *std::move(communicator);
}

int FakeNode::first_rank() const {
  const auto first = std::find(options_.node_of_rank.begin(), options_.node_of_rank.end(), options_.node);
  return static_cast<int>(first - options_.node_of_rank.begin());
}

void FakeNode::Kill(int rank) {
  v1::RaiseAbort(control(), v1::PackAbort(v1::AbortReason::kPeerLost, static_cast<uint32_t>(first_rank() + rank), 9));
}

void FakeNode::Leave(int rank) { v1::MarkLeft(control(), static_cast<uint32_t>(rank)); }

std::vector<FakeBlame> FakeNode::blames() const {
  MutexLock lock(mutex_);
  return blames_;
}

FakeCluster::FakeCluster(const FakeClusterOptions& options)
    : wire_buffer_bytes_(options.wire_buffer_bytes),
      streams_(options.streams),
      network_(options.wire_buffer_bytes, options.streams) {
  for (size_t n = 0; n < options.ranks.size(); ++n) {
    node_of_rank_.insert(node_of_rank_.end(), static_cast<size_t>(options.ranks[n]), static_cast<int>(n));
  }
  for (size_t n = 0; n < options.ranks.size(); ++n) {
    const auto special = options.nodes.find(static_cast<int>(n));
    FakeNodeOptions node = special == options.nodes.end() ? options.node : special->second;
    node.ranks = options.ranks[n];
    node.node = static_cast<int>(n);
    node.node_of_rank = node_of_rank_;
    node.host = absl::StrCat("node", n);
    node.connect = [this, connect = options.connect](int rank) {
      std::vector<int> peers = MeshPeers(node_of_rank_, rank);
      return connect ? connect(rank, std::move(peers)) : network_.Join(rank, std::move(peers));
    };
    node.connect_some = [this](uint64_t communicator, int rank, std::vector<int> peers) {
      return ConnectSome(communicator, rank, std::move(peers));
    };
    nodes_.push_back(std::make_unique<FakeNode>(node));
  }
}

std::unique_ptr<Communicator> FakeCluster::Join(int rank) {
  FakeNode& home = node(node_of(rank));
  return home.Join(rank - home.first_rank());
}

std::unique_ptr<Mesh> FakeCluster::ConnectSome(uint64_t communicator, int rank, std::vector<int> peers) {
  MutexLock lock(mutex_);
  const auto [network, made] = some_.try_emplace(communicator, wire_buffer_bytes_, streams_);
  for (const int dead : made ? killed_ : std::vector<int>()) network->second.Kill(dead);
  return network->second.Join(rank, std::move(peers));
}

void FakeCluster::Kill(int rank) {
  FakeNode& home = node(node_of(rank));
  network_.Kill(rank);
  {
    MutexLock lock(mutex_);
    killed_.push_back(rank);
    for (auto& [communicator, network] : some_) network.Kill(rank);
  }
  home.Kill(rank - home.first_rank());
}

void FakeCluster::Leave(int rank) {
  FakeNode& home = node(node_of(rank));
  home.Leave(rank - home.first_rank());
}

std::vector<FakeBlame> FakeCluster::blames() const {
  std::vector<FakeBlame> all;
  for (const auto& node : nodes_) {
    for (const FakeBlame& blame : node->blames()) all.push_back(blame);
  }
  return all;
}

void RunRanks(FakeCluster& cluster, const std::function<void(Communicator&)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < cluster.world_size(); ++rank) {
    threads.emplace_back([&cluster, &body, rank] {
      body(*cluster.Join(rank));
      cluster.Leave(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void RunRanks(FakeNode& node, const std::function<void(Communicator&)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < node.options().ranks; ++rank) {
    threads.emplace_back([&node, &body, rank] {
      body(*node.Join(rank));
      node.Leave(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void RunRanks(int ranks, const std::function<void(Communicator&)>& body) {
  FakeNode node({.ranks = ranks});
  RunRanks(node, body);
}

}  // namespace muster::test

#include "tests/support/fake_node.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "proto/muster/v1/control_wake.h"
#include "runtime/backend/native/native.h"
#include "runtime/base/log.h"

namespace muster::test {

class FakeNode::Link : public NodeLink {
 public:
  Link(FakeNode& node, int rank) : node_(node), rank_(rank) {}

  absl::Status OfferWindow(uint32_t window, int fd, int64_t) override {
    if (rank_ == node_.options_.offer_fails_on_rank) return absl::ResourceExhaustedError("no descriptor is free");
    MutexLock lock(node_.mutex_);
    std::vector<int>& fds = node_.offered_[window];
    fds.resize(static_cast<size_t>(node_.options_.ranks), -1);
    fds[static_cast<size_t>(rank_)] = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    node_.changed_.SignalAll();
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<UniqueFd>> CollectWindow(uint32_t window, absl::Time deadline) override {
    MutexLock lock(node_.mutex_);
    for (;;) {
      std::vector<UniqueFd> fds;
      for (int fd : node_.offered_[window]) {
        if (fd >= 0) fds.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
      }
      if (static_cast<int>(fds.size()) == node_.options_.ranks) return fds;
      if (node_.control()->abort_word.load() != v1::kNoAbort) return absl::AbortedError("the generation is over");
      if (absl::Now() >= deadline) return absl::DeadlineExceededError("not every rank offered its window");
      node_.changed_.WaitFor(node_.mutex_, absl::Milliseconds(10));
    }
  }

  void ReleaseWindow(uint32_t) override {}

  void ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t, const std::string& message) override {
    MutexLock lock(node_.mutex_);
    node_.blames_.push_back({node_.first_rank() + rank_, rank, reason, message});
  }

  int64_t memory_limit_bytes() const override { return node_.options_.memory_limit_bytes; }
  const std::string& memory_limit_source() const override { return source_; }

 private:
  FakeNode& node_;
  const int rank_;
  const std::string source_ = "/sys/fs/cgroup/memory.max";
};

FakeNode::FakeNode(const FakeNodeOptions& options) : options_(options) {
  auto control = LocalControl::Create(options.generation, options.ranks, options.slot_bytes, options.staging_bytes);
  MUSTER_CHECK(control.ok(), control.status().ToString());
  control_ = *std::move(control);
  for (int rank = 0; rank < options.ranks; ++rank) links_.push_back(std::make_unique<Link>(*this, rank));
}

FakeNode::~FakeNode() {
  MutexLock lock(mutex_);
  for (const auto& [window, fds] : offered_) {
    for (int fd : fds) {
      if (fd >= 0) ::close(fd);
    }
  }
}

std::unique_ptr<Communicator> FakeNode::Join(int rank) {
  NativeOptions native;
  native.local_rank = rank;
  native.rank = first_rank() + rank;
  native.world_size = options_.node_of_rank.empty() ? options_.ranks : static_cast<int>(options_.node_of_rank.size());
  native.node_of_rank = options_.node_of_rank;
  if (options_.connect) native.mesh = options_.connect(native.rank);
  native.generation = options_.generation;
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

FakeCluster::FakeCluster(const FakeClusterOptions& options) : network_(options.wire_buffer_bytes, options.streams) {
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
    nodes_.push_back(std::make_unique<FakeNode>(node));
  }
}

std::unique_ptr<Communicator> FakeCluster::Join(int rank) {
  FakeNode& home = node(node_of(rank));
  return home.Join(rank - home.first_rank());
}

void FakeCluster::Kill(int rank) {
  FakeNode& home = node(node_of(rank));
  network_.Kill(rank);
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

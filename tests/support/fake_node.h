// A node in one process: ranks are threads on one control memory, and windows are handed over in memory.
#ifndef MUSTER_TESTS_SUPPORT_FAKE_NODE_H_
#define MUSTER_TESTS_SUPPORT_FAKE_NODE_H_

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "muster/communicator.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/backend/native/local_control.h"
#include "runtime/backend/native/node_link.h"
#include "runtime/base/mutex.h"
#include "runtime/transport/mesh.h"
#include "tests/support/memory_mesh.h"

namespace muster::test {

struct FakeNodeOptions {
  int ranks = 1;
  uint64_t generation = 1;
  uint32_t slot_bytes = v1::kSlotBytes;
  uint32_t staging_bytes = v1::kStagingBytes;
  int64_t memory_limit_bytes = 0;
  int offer_fails_on_rank = -1;        // whose OfferWindow returns ResourceExhausted
  int64_t outer_wait_nanoseconds = 0;  // NativeOptions; 0: as usual
  std::string host = "fake-host";

  // Of several nodes: as in NativeOptions, this node's number, and what gives a rank of the world its mesh. `ranks` are local.
  std::vector<int> node_of_rank;
  int node = 0;
  std::function<std::unique_ptr<Mesh>(int world_rank)> connect;
  // The same for communicators made by Split; ranks are the world's.
  std::function<std::unique_ptr<Mesh>(uint64_t communicator, int world_rank, std::vector<int> peers)> connect_some;
};

// What a rank told its agent.
struct FakeBlame {
  int reporter = 0;
  uint32_t rank = 0;
  v1::AbortReason reason = v1::AbortReason::kNone;
  std::string message;
  bool of_some_ranks = false;  // told by the link of a communicator made by Split
};

// Any thread. Outlives the communicators it hands out.
class FakeNode {
 public:
  explicit FakeNode(const FakeNodeOptions& options);
  ~FakeNode();

  v1::ControlHeader* control() const { return control_->header(); }
  const FakeNodeOptions& options() const { return options_; }

  // Descriptors of windows and control memories that have been offered and not let go.
  size_t offered() const;

  // The communicator of local rank `rank`, to be used by one thread. Once a rank.
  std::unique_ptr<Communicator> Join(int rank);
  int first_rank() const;

  // What the agent does when the process of local rank `rank` dies, and what a rank does at a clean end.
  void Kill(int rank);
  void Leave(int rank);

  std::vector<FakeBlame> blames() const;

 private:
  class Link;

  const FakeNodeOptions options_;
  std::unique_ptr<LocalControl> control_;
  std::vector<std::unique_ptr<Link>> links_;
  mutable Mutex mutex_;
  CondVar changed_;
  struct WindowName {
    uint64_t communicator = 0;
    std::vector<uint32_t> seats;  // its members here: a communicator may be here with several groups of ranks
    uint32_t window = 0;
    auto operator<=>(const WindowName&) const = default;
  };
  std::map<WindowName, std::map<int, UniqueFd>> offered_ ABSL_GUARDED_BY(mutex_);  // by local rank of the communicator
  std::vector<FakeBlame> blames_ ABSL_GUARDED_BY(mutex_);
};

// Nodes in one process with a network in memory between them.
struct FakeClusterOptions {
  std::vector<int> ranks;  // by node
  FakeNodeOptions node;    // for all: the buffers' sizes, the memory limit
  // By node, instead of those of `node`.
  std::map<int, FakeNodeOptions> nodes;
  int64_t wire_buffer_bytes = 4096;
  int streams = 4;
  // Instead of the network in memory: the mesh of `rank`, called on its thread.
  std::function<std::unique_ptr<Mesh>(int rank, std::vector<int> peers)> connect;
};

class FakeCluster {
 public:
  explicit FakeCluster(const FakeClusterOptions& options);

  int world_size() const { return static_cast<int>(node_of_rank_.size()); }
  int nodes() const { return static_cast<int>(nodes_.size()); }
  FakeNode& node(int n) { return *nodes_[static_cast<size_t>(n)]; }
  int node_of(int rank) const { return node_of_rank_[static_cast<size_t>(rank)]; }

  // `rank` counts in the world here. Kill needs the network in memory.
  std::unique_ptr<Communicator> Join(int rank);
  void Kill(int rank);
  void Leave(int rank);
  // Of all nodes.
  std::vector<FakeBlame> blames() const;

 private:
  std::unique_ptr<Mesh> ConnectSome(uint64_t communicator, int rank, std::vector<int> peers);

  const int64_t wire_buffer_bytes_;
  const int streams_;
  MemoryNetwork network_;
  Mutex mutex_;
  std::map<uint64_t, MemoryNetwork> some_ ABSL_GUARDED_BY(mutex_);  // of communicators made by Split
  std::vector<int> killed_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> node_of_rank_;
  std::vector<std::unique_ptr<FakeNode>> nodes_;
};

// Runs `body` on a thread for each rank of the world. A rank leaves when its body returns.
void RunRanks(FakeCluster& cluster, const std::function<void(Communicator&)>& body);

// Runs `body` on `ranks` threads, each with its rank's communicator, and waits for all. A rank leaves when its body returns.
void RunRanks(FakeNode& node, const std::function<void(Communicator&)>& body);
void RunRanks(int ranks, const std::function<void(Communicator&)>& body);

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_FAKE_NODE_H_

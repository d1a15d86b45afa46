// Every collective over several nodes equals a plain loop over all ranks, bit for bit: equal and unequal numbers of ranks a node,
// all types and operations, sizes on both sides of every switch, buffers in windows, private and mixed.
//
// MUSTER_TEST_SEED replays a run.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "muster/communicator.h"
#include "runtime/collectives/node_partials.h"
#include "runtime/kernels/reduce.h"
#include "tests/support/collective_cases.h"
#include "tests/support/fake_node.h"
#include "tests/support/loopback_mesh.h"
#include "tests/support/reference.h"

namespace muster::test {
namespace {

using Layout = std::vector<int>;  // ranks of each node

int WorldSize(const Layout& layout) {
  int size = 0;
  for (int ranks : layout) size += ranks;
  return size;
}

FakeClusterOptions SmallBuffers(const Layout& layout) {
  FakeClusterOptions options;
  options.ranks = layout;
  options.node.slot_bytes = kTestSlotBytes;
  // Every piece of a chunk needs room in it.
  options.node.staging_bytes = layout.size() > 4 ? 4 * kTestStagingBytes : 2 * kTestStagingBytes;
  return options;
}

void RunCases(const Layout& layout, const std::vector<Case>& cases, int64_t window_bytes = 1 << 20) {
  FakeCluster cluster(SmallBuffers(layout));
  // A mix is one of nodes too: some have their buffers in windows, others have private ones, others both.
  RunRanks(cluster, [&](Communicator& comm) { RunCases(comm, cases, window_bytes, layout[0]); });
  for (const FakeBlame& blame : cluster.blames()) ADD_FAILURE() << blame.message;
}

// Small | large by a little, in one chunk | more.
std::vector<int64_t> Counts(DataType type, int rows) {
  const int64_t size = SizeOf(type) * rows;
  const int64_t slot = kTestSlotBytes / size;
  return {0, 1, 7, slot, slot + 1, 3000 / size, 20'011 / size};
}

class AcrossNodes : public testing::TestWithParam<Layout> {};

void RunKind(Kind kind, const Layout& layout) {
  const bool reduces = kind != Kind::kBroadcast && kind != Kind::kAllGather;
  const int ranks = WorldSize(layout);
  int variant = 0;
  for (int t = 0; t < kDataTypes; ++t) {
    std::vector<Case> cases;
    const auto type = static_cast<DataType>(t);
    for (int o = 0; o < (reduces ? kReduceOps : 1); ++o) {
      const auto op = static_cast<ReduceOp>(o);
      if (!OpFitsType(op, type)) continue;
      for (int64_t count : Counts(type, kind == Kind::kReduceScatter ? ranks : 1)) {
        // All sizes of one op, some of the others.
        if (variant++ % 7 > 1 && o != t % kReduceOps && count > 0) continue;
        cases.push_back(MakeCase(kind, type, op, count, ranks, variant));
      }
    }
    RunCases(layout, cases);
    if (testing::Test::HasFailure()) return;
  }
}

TEST_P(AcrossNodes, AllReduce) { RunKind(Kind::kAllReduce, GetParam()); }
TEST_P(AcrossNodes, AllReduceShards) { RunKind(Kind::kAllReduceShards, GetParam()); }
TEST_P(AcrossNodes, AllGather) { RunKind(Kind::kAllGather, GetParam()); }
TEST_P(AcrossNodes, ReduceScatter) { RunKind(Kind::kReduceScatter, GetParam()); }

TEST_P(AcrossNodes, BroadcastFromEveryRoot) {
  std::vector<Case> cases;
  const int ranks = WorldSize(GetParam());
  for (int root = 0; root < ranks; ++root) {
    for (int64_t count : Counts(DataType::kUint8, 1)) {
      cases.push_back(MakeCase(Kind::kBroadcast, DataType::kUint8, ReduceOp::kSum, count, ranks, root));
    }
  }
  RunCases(GetParam(), cases);
}

std::string NameOf(const testing::TestParamInfo<Layout>& info) { return absl::StrJoin(info.param, "_"); }

INSTANTIATE_TEST_SUITE_P(Layouts, AcrossNodes,
                         testing::Values(Layout{1, 1}, Layout{2, 2}, Layout{3, 1}, Layout{1, 3}, Layout{2, 2, 1},
                                         Layout{1, 2, 3}, Layout{4, 4}, Layout{1, 1, 1, 1, 1}, Layout{1, 1, 1, 1, 1, 1, 1, 1}),
                         NameOf);

// Several chunks in flight and, in the staging memory, several parts of each; pieces with a rest.
TEST(AcrossNodesLarge, ManyChunks) {
  for (const Layout& layout : {Layout{1, 1}, Layout{2, 3}, Layout{2, 2, 2}}) {
    const int ranks = WorldSize(layout);
    std::vector<Case> cases;
    int variant = 0;
    for (Kind kind : {Kind::kAllReduce, Kind::kAllReduceShards, Kind::kReduceScatter, Kind::kAllGather, Kind::kBroadcast}) {
      const DataType type = ++variant % 2 == 0 ? DataType::kBFloat16 : DataType::kFloat32;
      const int64_t count = kind == Kind::kReduceScatter || kind == Kind::kAllGather ? 30'001 : 150'003;
      cases.push_back(MakeCase(kind, type, ReduceOp::kSum, count, ranks, variant));
    }
    FakeClusterOptions options;
    options.ranks = layout;
    options.node.staging_bytes = 32 * 1024;
    options.wire_buffer_bytes = 64 * 1024;
    FakeCluster cluster(options);
    RunRanks(cluster, [&](Communicator& comm) { RunCases(comm, cases, 8 << 20, layout[0]); });
    if (HasFailure()) return;
  }
}

// The same over TCP.
TEST(AcrossNodesLarge, OverLoopback) {
  for (const Layout& layout : {Layout{1, 1}, Layout{3, 1}, Layout{2, 2, 1}, Layout{1, 1, 1, 1, 1}}) {
    const int ranks = WorldSize(layout);
    std::vector<Case> cases;
    int variant = 0;
    for (Kind kind : {Kind::kAllReduce, Kind::kAllReduceShards, Kind::kReduceScatter, Kind::kAllGather, Kind::kBroadcast}) {
      for (int64_t count : {0, 3, 600, 60'001}) {
        const DataType type = ++variant % 3 == 0 ? DataType::kFloat16 : DataType::kFloat64;
        cases.push_back(
            MakeCase(kind, type, ReduceOp::kAvg, count / (kind == Kind::kReduceScatter ? ranks : 1), ranks, variant));
      }
    }
    std::vector<MeshOptions> places = LoopbackOptions(ranks);
    FakeClusterOptions options = SmallBuffers(layout);
    options.node.staging_bytes = 64 * 1024;
    options.connect = [&places](int rank, const std::vector<int>& peers) {
      MeshOptions& own = places[static_cast<size_t>(rank)];
      std::erase_if(own.peers, [&](const MeshPeer& p) { return std::find(peers.begin(), peers.end(), p.rank) == peers.end(); });
      auto mesh = Mesh::Connect(std::move(own), absl::Now() + absl::Minutes(1), [] { return false; });
      EXPECT_TRUE(mesh.ok()) << mesh.status();
      return *std::move(mesh);
    };
    FakeCluster cluster(options);
    RunRanks(cluster, [&](Communicator& comm) { RunCases(comm, cases, 8 << 20, layout[0]); });
    if (HasFailure()) return;
  }
}

// One stream, a tiny buffer: nothing depends on what a kernel would keep.
TEST(AcrossNodesLarge, DependsOnNoBuffering) {
  for (const Layout& layout : {Layout{1, 1, 1}, Layout{2, 2}, Layout{3, 2}}) {
    const int ranks = WorldSize(layout);
    std::vector<Case> cases;
    int variant = 0;
    for (Kind kind : {Kind::kAllReduce, Kind::kReduceScatter, Kind::kAllGather, Kind::kBroadcast}) {
      for (int64_t count : {50, 9000})
        cases.push_back(MakeCase(kind, DataType::kInt32, ReduceOp::kSum, count, ranks, ++variant));
    }
    FakeClusterOptions options = SmallBuffers(layout);
    options.streams = 1;
    options.wire_buffer_bytes = 256;
    FakeCluster cluster(options);
    RunRanks(cluster, [&](Communicator& comm) { RunCases(comm, cases, 1 << 20, layout[0]); });
    if (HasFailure()) return;
  }
}

// The vectors are able to show a wrong order: neither a left-to-right sum nor a sum of the nodes' sums, each along its own tree,
// has the bits of the tree over all ranks.
TEST(AcrossNodesOrder, SumsThatIgnoreTheTreeDiffer) {
  const Layout layout = {3, 3, 2};
  const int ranks = WorldSize(layout);
  for (DataType type : {DataType::kFloat32, DataType::kFloat64}) {
    for (int64_t count : {100, 20'000}) {
      std::vector<Bytes> vectors;
      std::vector<Bytes> sums_of_nodes;
      for (int r = 0; r < ranks; ++r) vectors.push_back(TestVector(Seed(), r, type, ReduceOp::kSum, count));
      auto next = vectors.begin();
      for (int n : layout) {
        sums_of_nodes.push_back(ReferenceAllReduce(std::vector<Bytes>(next, next + n), type, ReduceOp::kSum));
        next += n;
      }
      const Bytes expected = ReferenceAllReduce(vectors, type, ReduceOp::kSum);
      EXPECT_NE(Difference(LeftToRightAllReduce(vectors, type, ReduceOp::kSum), expected.data(), type), "");
      EXPECT_NE(Difference(ReferenceAllReduce(sums_of_nodes, type, ReduceOp::kSum), expected.data(), type), "");
      FakeCluster cluster(SmallBuffers(layout));
      RunRanks(cluster, [&](Communicator& comm) {
        Bytes data = vectors[static_cast<size_t>(comm.rank())];
        const absl::Status status = comm.AllReduce({data.data(), count, type}, ReduceOp::kSum);
        ASSERT_TRUE(status.ok()) << status;
        EXPECT_EQ(Difference(expected, data.data(), type), "") << "MUSTER_TEST_SEED=" << Seed();
      });
    }
  }
}

// A 16-bit sum whose partials were rounded on the way would have other bits.
TEST(AcrossNodesOrder, HalfPrecisionIsRoundedOnce) {
  const Layout layout = {2, 2};
  for (DataType type : {DataType::kBFloat16, DataType::kFloat16}) {
    std::vector<Bytes> vectors;
    for (int r = 0; r < 4; ++r) vectors.push_back(TestVector(Seed(), r, type, ReduceOp::kSum, 5000));
    const Bytes expected = ReferenceAllReduce(vectors, type, ReduceOp::kSum);
    const std::vector<Bytes> rounded = {
        ReferenceAllReduce(std::vector<Bytes>(vectors.begin(), vectors.begin() + 2), type, ReduceOp::kSum),
        ReferenceAllReduce(std::vector<Bytes>(vectors.begin() + 2, vectors.end()), type, ReduceOp::kSum)};
    EXPECT_NE(Difference(ReferenceAllReduce(rounded, type, ReduceOp::kSum), expected.data(), type), "");
    FakeCluster cluster(SmallBuffers(layout));
    RunRanks(cluster, [&](Communicator& comm) {
      Bytes data = vectors[static_cast<size_t>(comm.rank())];
      ASSERT_TRUE(comm.AllReduce({data.data(), 5000, type}, ReduceOp::kSum).ok());
      EXPECT_EQ(Difference(expected, data.data(), type), "") << "MUSTER_TEST_SEED=" << Seed();
    });
  }
}

// D3: eight shards give the same bits however many ranks and nodes there are.
TEST(AcrossNodesOrder, SumsOfShardsDependOnNeitherRanksNorNodes) {
  constexpr int kShards = 8;
  for (int64_t count : {7, 9000}) {
    std::vector<Bytes> shards;
    for (int s = 0; s < kShards; ++s) shards.push_back(TestVector(Seed(), s, DataType::kFloat32, ReduceOp::kAvg, count));
    const Bytes expected = ReferenceAllReduce(shards, DataType::kFloat32, ReduceOp::kAvg);
    for (const Layout& layout : {Layout{1, 1}, Layout{2, 1}, Layout{1, 1, 1}, Layout{2, 2}, Layout{3, 2}, Layout{4, 4},
                                 Layout{2, 2, 2, 2}, Layout{3, 3, 1}}) {
      const int ranks = WorldSize(layout);
      FakeCluster cluster(SmallBuffers(layout));
      RunRanks(cluster, [&](Communicator& comm) {
        const std::vector<Bytes> partials = ReferencePartials(shards, ranks, comm.rank(), DataType::kFloat32, ReduceOp::kAvg);
        const int64_t stride = (count * 4 + 63) / 64 * 64;
        auto window = comm.CreateWindow(stride * PartialsMax(kShards, ranks));
        ASSERT_TRUE(window.ok()) << window.status();
        auto* data = static_cast<unsigned char*>((*window)->data());
        for (size_t i = 0; i < partials.size(); ++i) {
          std::copy(partials[i].begin(), partials[i].end(), data + static_cast<int64_t>(i) * stride);
        }
        const absl::Status status = comm.AllReduceShards({data, count, stride, DataType::kFloat32, kShards}, ReduceOp::kAvg);
        ASSERT_TRUE(status.ok()) << status;
        EXPECT_EQ(Difference(expected, data, DataType::kFloat32), "") << "MUSTER_TEST_SEED=" << Seed();
      });
    }
  }
}

// Nobody passes a barrier that somebody has not reached.
TEST(AcrossNodesBarrier, WaitsForEveryRank) {
  for (const Layout& layout : {Layout{2, 3}, Layout{1, 1, 1, 1}}) {
    FakeCluster cluster(SmallBuffers(layout));
    std::atomic<int> arrived{0};
    RunRanks(cluster, [&](Communicator& comm) {
      for (int i = 1; i <= 30; ++i) {
        arrived.fetch_add(1);
        const absl::Status status = comm.Barrier();
        ASSERT_TRUE(status.ok()) << status;
        EXPECT_GE(arrived.load(), i * comm.world_size());
      }
    });
  }
}

}  // namespace
}  // namespace muster::test

// A wire plan covers every element once, and sends no more than it must.
#include "runtime/collectives/wire_plan.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>
#include <vector>

#include "runtime/collectives/node_partials.h"

namespace muster {
namespace {

Nodes NodesOf(const std::vector<int>& ranks) {
  std::vector<int> node_of_rank;
  for (size_t n = 0; n < ranks.size(); ++n)
    node_of_rank.insert(node_of_rank.end(), static_cast<size_t>(ranks[n]), static_cast<int>(n));
  return Nodes::Of(node_of_rank, 0);
}

TEST(WirePlan, CoversEveryElementOnce) {
  for (const std::vector<int>& layout : {std::vector<int>{1, 1}, {2, 3}, {3, 1, 2}, {4, 4}, {1, 1, 1, 1, 1}}) {
    const Nodes nodes = NodesOf(layout);
    for (Exchange kind : {Exchange::kAllReduce, Exchange::kReduceScatter, Exchange::kAllGather, Exchange::kBroadcast}) {
      for (int64_t count : {1, 63, 5000, 100'003}) {
        const bool by_parts = kind == Exchange::kReduceScatter || kind == Exchange::kAllGather;
        const WirePlan plan(nodes, {kind, count, 4, 4, std::vector<int>(layout.size(), 1), 1});
        std::vector<int> seen(static_cast<size_t>(by_parts ? count * nodes.world_size() : count));
        for (int64_t chunk = 0; chunk < plan.chunks(); ++chunk) {
          for (int lane = 0; lane < nodes.lanes; ++lane) {
            for (int owner : plan.owners()) {
              int64_t elements = 0;
              plan.ForEachRun(chunk, lane, owner, 0, INT64_MAX, [&](int64_t first, int64_t run, int64_t offset) {
                EXPECT_EQ(offset, elements);
                elements += run;
                for (int64_t i = first; i < first + run; ++i) ++seen[static_cast<size_t>(i)];
                if (by_parts) {
                  EXPECT_EQ(nodes.node_of(static_cast<int>(first / count)), owner);
                }
              });
              EXPECT_EQ(elements, plan.PieceElements(chunk, lane, owner));
              EXPECT_LE(elements, plan.piece_elements_max());
              // The same, cut anywhere.
              int64_t cut = 0;
              for (int64_t begin = 0; begin < elements; begin += 7) {
                plan.ForEachRun(chunk, lane, owner, begin, begin + 7, [&](int64_t, int64_t run, int64_t) { cut += run; });
              }
              EXPECT_EQ(cut, elements);
            }
          }
        }
        for (int times : seen) ASSERT_EQ(times, 1);
      }
    }
  }
}

// 2(N-1)/N of the vector for an all-reduce where a node sends one partial; a broadcast's root sends the vector once.
TEST(WirePlan, SendsNoMoreThanItMust) {
  for (int n : {2, 3, 8}) {
    const Nodes nodes = NodesOf(std::vector<int>(static_cast<size_t>(n), 2));
    constexpr int64_t kCount = 1 << 20;
    for (Exchange kind : {Exchange::kAllReduce, Exchange::kBroadcast}) {
      const WirePlan plan(nodes, {kind, kCount, 4, 4, std::vector<int>(static_cast<size_t>(n), 1), 0});
      std::vector<int64_t> sent(static_cast<size_t>(n));
      for (int64_t chunk = 0; chunk < plan.chunks(); ++chunk) {
        for (int lane = 0; lane < 2; ++lane) {
          for (int from = 0; from < n; ++from) {
            for (int to = 0; to < n; ++to) {
              if (plan.SendsUp(from, to)) sent[static_cast<size_t>(from)] += plan.UpBytes(chunk, lane, from, to);
              if (plan.SendsDown(from, to)) sent[static_cast<size_t>(from)] += plan.DownBytes(chunk, lane, from);
            }
          }
        }
      }
      const int64_t most = kind == Exchange::kAllReduce ? 2 * (n - 1) * kCount * 4 / n : kCount * 4;
      for (int64_t bytes : sent) EXPECT_LE(bytes, most + 4096);
      EXPECT_GE(sent[0], most - 4096);
    }
  }
}

TEST(NodePartials, OneForEachMaximalSubtree) {
  EXPECT_EQ(NodePartials(NodesOf({2, 2}), 0).rows(0), 1);
  const NodePartials unequal(NodesOf({3, 3, 2}), 0);  // {0,1} {2} | {3} {4,5} | {6,7}
  EXPECT_EQ(unequal.rows(0), 2);
  EXPECT_EQ(unequal.rows(1), 2);
  EXPECT_EQ(unequal.rows(2), 1);
  EXPECT_EQ(NodePartials(NodesOf({3, 1}), 8).rows(0), 2);  // shards 0 to 5
}

}  // namespace
}  // namespace muster

#include "runtime/kernels/tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "muster/communicator.h"

namespace muster {
namespace {

// Tree(leaves) over [first, first + n) as text, by the definition in muster/tensor.h.
std::string Definition(int first, int n) {
  if (n == 1) return std::to_string(first);
  int left = 1;
  while (2 * left < n) left *= 2;
  return "(" + Definition(first, left) + " " + Definition(first + left, n - left) + ")";
}

// What a plan does, on symbols: `sources[i]` is the text of source i.
std::string Evaluate(const ReducePlan& plan, const std::vector<std::string>& sources) {
  std::vector<std::string> stack;
  size_t depth = 0;
  for (int i = 0; i < plan.sources(); ++i) {
    stack.push_back(sources[i]);
    depth = std::max(depth, stack.size() - (plan.merges()[i] > 0 ? 1 : 0));
    for (int merge = 0; merge < plan.merges()[i]; ++merge) {
      const std::string newer = stack.back();
      stack.pop_back();
      stack.back() = "(" + stack.back() + " " + newer + ")";
    }
  }
  EXPECT_EQ(stack.size(), 1u);
  EXPECT_LE(depth, static_cast<size_t>(ReducePlan::kDepthMax));
  return stack.back();
}

std::vector<std::string> Leaves(int n) {
  std::vector<std::string> leaves;
  for (int i = 0; i < n; ++i) leaves.push_back(std::to_string(i));
  return leaves;
}

TEST(Tree, LeavesFollowTheDefinition) {
  for (int n = 1; n <= 300; ++n) {
    const ReducePlan plan = ReducePlan::ForLeaves(n);
    ASSERT_EQ(plan.leaves(), n);
    ASSERT_TRUE(plan.leaf_shaped());
    ASSERT_EQ(Evaluate(plan, Leaves(n)), Definition(0, n));
  }
  for (const int n : {kShardsMax - 1, kShardsMax}) EXPECT_EQ(Evaluate(ReducePlan::ForLeaves(n), Leaves(n)), Definition(0, n));
}

std::vector<std::string> PartialTexts(int32_t shards, int32_t world_size) {
  std::vector<std::string> texts;
  for (int32_t rank = 0; rank < world_size; ++rank) {
    for (const Partial& partial : OwnedPartials(shards, world_size, rank)) {
      texts.push_back(Definition(partial.first, partial.count));
    }
  }
  return texts;
}

TEST(Tree, EveryOwnershipGivesTheSameTree) {
  for (int32_t shards = 1; shards <= 70; ++shards) {
    for (int32_t world_size = 1; world_size <= shards; ++world_size) {
      const ReducePlan plan = ReducePlan::ForShards(shards, world_size);
      const std::vector<std::string> sources = PartialTexts(shards, world_size);
      ASSERT_EQ(plan.sources(), static_cast<int>(sources.size()));
      ASSERT_EQ(plan.leaves(), shards);
      ASSERT_EQ(Evaluate(plan, sources), Definition(0, shards)) << "shards " << shards << " world " << world_size;
    }
  }
  for (const int32_t world_size : {1, 3, 1000, 4095, 4096}) {
    EXPECT_EQ(Evaluate(ReducePlan::ForShards(kShardsMax, world_size), PartialTexts(kShardsMax, world_size)),
              Definition(0, kShardsMax));
  }
}

TEST(Tree, LeafShapedMeansTheStepsOfAsManyLeaves) {
  EXPECT_TRUE(ReducePlan::ForShards(8, 1).leaf_shaped());
  EXPECT_TRUE(ReducePlan::ForShards(8, 4).leaf_shaped());
  EXPECT_TRUE(ReducePlan::ForShards(8, 8).leaf_shaped());
  EXPECT_FALSE(ReducePlan::ForShards(8, 3).leaf_shaped());  // ((01 23) ((4 5) 67)) is not ((a b) (c d)) e
}

TEST(TreeDeathTest, NoSources) { EXPECT_DEATH(ReducePlan::ForLeaves(0), "at least one source"); }

// A plan over partials of partials has the steps of the whole tree: here written out.
TEST(ReducePlan, OverPartialsOfAnySize) {
  // ((0 1) (2 3)) ((4 5) 6) in the partials {0,1} {2} {3} {4,5} {6}.
  const std::vector<Partial> partials = {{0, 2}, {2, 1}, {3, 1}, {4, 2}, {6, 1}};
  const ReducePlan plan = ReducePlan::ForPartials(partials);
  EXPECT_EQ(plan.leaves(), 7);
  EXPECT_EQ(std::vector<uint8_t>(plan.merges().begin(), plan.merges().end()), (std::vector<uint8_t>{0, 0, 2, 0, 2}));
  // A subtree somewhere else in the tree has the steps of one at its beginning.
  const std::vector<Partial> inside = {{4, 1}, {5, 1}, {6, 2}};
  const ReducePlan subtree = ReducePlan::ForPartials(inside);
  EXPECT_EQ(subtree.leaves(), 4);
  EXPECT_EQ(std::vector<uint8_t>(subtree.merges().begin(), subtree.merges().end()), (std::vector<uint8_t>{0, 1, 1}));
}

TEST(AlignedSubtrees, AreMaximal) {
  EXPECT_EQ(AlignedSubtrees(0, 8), (std::vector<Partial>{{0, 8}}));
  EXPECT_EQ(AlignedSubtrees(3, 8), (std::vector<Partial>{{3, 1}, {4, 4}}));
  EXPECT_EQ(AlignedSubtrees(3, 13), (std::vector<Partial>{{3, 1}, {4, 4}, {8, 4}, {12, 1}}));
  EXPECT_TRUE(AlignedSubtrees(5, 5).empty());
}

}  // namespace
}  // namespace muster

#include "muster/shards.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

using Partials = std::vector<Partial>;

TEST(Shards, OwnedPartialsOfEight) {
  EXPECT_EQ(OwnedPartials(8, 1, 0), (Partials{{0, 8}}));
  EXPECT_EQ(OwnedPartials(8, 2, 1), (Partials{{4, 4}}));
  EXPECT_EQ(OwnedPartials(8, 3, 0), (Partials{{0, 2}}));
  EXPECT_EQ(OwnedPartials(8, 3, 1), (Partials{{2, 2}, {4, 1}}));
  EXPECT_EQ(OwnedPartials(8, 3, 2), (Partials{{5, 1}, {6, 2}}));
  EXPECT_EQ(OwnedPartials(8, 5, 1), (Partials{{1, 1}, {2, 1}}));
  EXPECT_EQ(OwnedPartials(8, 8, 7), (Partials{{7, 1}}));
  EXPECT_EQ(OwnedPartials(7, 1, 0), (Partials{{0, 4}, {4, 2}, {6, 1}}));
}

TEST(Shards, PartialsMaxIsTheLongestList) {
  EXPECT_EQ(PartialsMax(8, 1), 1);
  EXPECT_EQ(PartialsMax(8, 3), 2);
  EXPECT_EQ(PartialsMax(7, 1), 3);
}

// Aligned powers of two, in order, that cover each shard once and of which no two could be one.
TEST(Shards, PartialsAreMaximalAlignedAndCoverEverything) {
  for (int32_t shards = 1; shards <= 70; ++shards) {
    for (int32_t world_size = 1; world_size <= shards; ++world_size) {
      int32_t next = 0;
      for (int32_t rank = 0; rank < world_size; ++rank) {
        const Partials partials = OwnedPartials(shards, world_size, rank);
        ASSERT_FALSE(partials.empty());
        ASSERT_LE(static_cast<int32_t>(partials.size()), PartialsMax(shards, world_size));
        for (size_t i = 0; i < partials.size(); ++i) {
          ASSERT_EQ(partials[i].first, next);
          ASSERT_EQ(partials[i].count & (partials[i].count - 1), 0);
          ASSERT_EQ(partials[i].first % partials[i].count, 0);
          next += partials[i].count;
          if (i == 0) continue;
          const bool siblings =
              partials[i - 1].count == partials[i].count && partials[i - 1].first % (2 * partials[i].count) == 0;
          ASSERT_FALSE(siblings) << "shards " << shards << " world " << world_size << " rank " << rank;
        }
        ASSERT_EQ(next, FirstShard(shards, world_size, rank + 1));
      }
      ASSERT_EQ(next, shards);
    }
  }
}

}  // namespace
}  // namespace muster

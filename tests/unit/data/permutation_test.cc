#include "runtime/data/permutation.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "muster/sampler.h"

namespace muster {
namespace {

TEST(KeyedPermutation, IsABijectionForEverySmallSize) {
  for (uint64_t size = 1; size <= 700; ++size) {
    const KeyedPermutation permutation(size, size * 31);
    std::vector<bool> seen(size, false);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t value = permutation.At(i);
      ASSERT_LT(value, size);
      ASSERT_FALSE(seen[value]) << "size " << size << ": " << value << " comes twice";
      seen[value] = true;
    }
  }
}

TEST(KeyedPermutation, IsABijectionAroundPowersOfTwo) {
  for (const uint64_t size : {65535u, 65536u, 65537u, 131071u, 262145u}) {
    const KeyedPermutation permutation(size, 9);
    std::vector<bool> seen(size, false);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t value = permutation.At(i);
      ASSERT_LT(value, size);
      ASSERT_FALSE(seen[value]);
      seen[value] = true;
    }
  }
}

TEST(KeyedPermutation, HandlesHugeSizes) {
  for (const uint64_t size : {uint64_t{1} << 40, (uint64_t{1} << 61) + 1, uint64_t{1} << 62}) {
    const KeyedPermutation permutation(size, 5);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; ++i) {
      const uint64_t value = permutation.At(size - 1 - i);
      EXPECT_LT(value, size);
      EXPECT_TRUE(seen.insert(value).second);
    }
  }
}

TEST(KeyedPermutation, DependsOnTheKey) {
  const KeyedPermutation a(1000, 1), b(1000, 2), c(1000, 1);
  int equal = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    equal += a.At(i) == b.At(i);
    EXPECT_EQ(a.At(i), c.At(i));
  }
  EXPECT_LT(equal, 20);  // one is expected by chance
}

// Pearson's statistic of where the first place goes over many keys; 99.99 % of true random ones lie below 37 (9 degrees of
// freedom: 33.7).
TEST(KeyedPermutation, SpreadsEveryPlaceEvenly) {
  for (uint64_t place = 0; place < 10; ++place) {
    std::vector<int> counts(10, 0);
    for (uint64_t key = 0; key < 10000; ++key) ++counts[KeyedPermutation(10, key).At(place)];
    double statistic = 0;
    for (const int count : counts) statistic += (count - 1000.0) * (count - 1000.0) / 1000.0;
    EXPECT_LT(statistic, 37) << "place " << place;
  }
}

TEST(Sampler, GivesEverySampleOnceAnEpoch) {
  for (const int64_t samples : {1, 2, 7, 100, 1023}) {
    const Sampler sampler(samples, 3);
    for (int64_t epoch = 0; epoch < 4; ++epoch) {
      std::set<int64_t> seen;
      for (int64_t i = 0; i < samples; ++i) seen.insert(sampler.SampleAt(epoch * samples + i));
      EXPECT_EQ(static_cast<int64_t>(seen.size()), samples);
      EXPECT_EQ(*seen.begin(), 0);
      EXPECT_EQ(*seen.rbegin(), samples - 1);
      EXPECT_EQ(sampler.EpochAt(epoch * samples), epoch);
    }
  }
}

TEST(Sampler, EpochsAndSeedsDiffer) {
  const Sampler one(1000, 1), two(1000, 2);
  int same_epoch = 0, same_seed = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    same_epoch += one.SampleAt(i) == one.SampleAt(i + 1000);
    same_seed += one.SampleAt(i) == two.SampleAt(i);
  }
  EXPECT_LT(same_epoch, 20);
  EXPECT_LT(same_seed, 20);
}

}  // namespace
}  // namespace muster

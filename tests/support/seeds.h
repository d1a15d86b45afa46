// Properties tried on many seeds, each of which can be replayed alone.
#ifndef MUSTER_TESTS_SUPPORT_SEEDS_H_
#define MUSTER_TESTS_SUPPORT_SEEDS_H_

#include <cstdint>
#include <cstdlib>
#include <random>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace muster {

// Calls `body(random)` with a generator for each of the seeds 1 .. `count`, or for the one in MUSTER_TEST_SEED; stops after the
// first that fails. `program` is the test's file name, for the line that replays.
template <typename Body>
void ForEachSeed(uint32_t count, const char* program, Body body) {
  uint32_t first = 1, last = count;
  if (const char* replay = std::getenv("MUSTER_TEST_SEED")) {
    first = last = static_cast<uint32_t>(std::strtoul(replay, nullptr, 10));
  }
  for (uint32_t seed = first; seed <= last && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("replay: MUSTER_TEST_SEED=", seed, " build/release/tests/", program,
                              " --gtest_filter=", ::testing::UnitTest::GetInstance()->current_test_info()->test_suite_name(),
                              ".", ::testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::mt19937_64 random(seed);
    body(random);
  }
}

inline int Below(std::mt19937_64& random, int bound) { return static_cast<int>(random() % static_cast<uint64_t>(bound)); }

}  // namespace muster

#endif  // MUSTER_TESTS_SUPPORT_SEEDS_H_

// Collective calls with what they must give, made from plain loops, and running them on a communicator.
#ifndef MUSTER_TESTS_SUPPORT_COLLECTIVE_CASES_H_
#define MUSTER_TESTS_SUPPORT_COLLECTIVE_CASES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "muster/communicator.h"
#include "tests/support/reference.h"

namespace muster::test {

// Small buffers bring the switches between algorithms, and several chunks in each, to sizes that the slow reference can do.
inline constexpr uint32_t kTestSlotBytes = 512;
inline constexpr uint32_t kTestStagingBytes = 2048;

// MUSTER_TEST_SEED, or a random one.
uint64_t Seed();

enum class Kind { kAllReduce, kAllReduceShards, kBroadcast, kAllGather, kReduceScatter };
enum class Where { kWindow, kPrivate, kMixed };

struct Case {
  Kind kind;
  DataType type;
  ReduceOp op;
  int64_t count;  // of what a rank sends (a row of it, for shards); parts for reduce_scatter
  int root = 0;
  int shards = 0;
  std::vector<std::vector<Bytes>> inputs;  // by rank, by row
  std::vector<Bytes> expected;             // by rank

  std::string ToString() const;
};

// `variant` picks among seeds, roots, numbers of shards and kinds of vectors.
Case MakeCase(Kind kind, DataType type, ReduceOp op, int64_t count, int ranks, int variant);

// As MakeCase, with values whose sums and products have the same bits in whatever order they are made: small integers, and powers
// of two for kProd. kMin and kMax meet special values.
Case MakeExactCase(Kind kind, DataType type, ReduceOp op, int64_t count, int ranks, int variant);

// Runs `cases` on this rank, one after another: in windows, private memory and a mix of both, blocking and started, at several
// alignments, in place and not. Ends with the first case that differs from what is expected, which is a test failure that says
// how to replay it. `mixed_by` decides who lies in a window of a mix: ranks r with r / mixed_by even.
void RunCases(Communicator& communicator, const std::vector<Case>& cases, int64_t window_bytes = 4 << 20, int mixed_by = 1);

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_COLLECTIVE_CASES_H_

#include "runtime/shm/failure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "muster/tensor.h"

namespace muster {
namespace {

using testing::HasSubstr;

v1::OpDescriptor Called(v1::OpKind kind, int64_t count, ReduceOp op = ReduceOp::kSum, int root = 0) {
  v1::OpDescriptor what = {};
  what.kind = kind;
  what.count = count;
  what.op = static_cast<uint8_t>(op);
  what.root = root;
  return what;
}

const std::vector<int> kRanks = {0, 1, 2, 3};

TEST(Mismatch, TheMajorityDecidesWhoIsOdd) {
  std::vector<v1::OpDescriptor> calls(4, Called(v1::OpKind::kAllReduce, 4096));
  calls[3] = Called(v1::OpKind::kAllGather, 1024);
  const Failure failure = MismatchFailure(DifferentCalls(calls, kRanks));
  EXPECT_EQ(failure.rank, 3u);
  EXPECT_EQ(failure.reason, v1::AbortReason::kMismatch);
  EXPECT_TRUE(absl::IsInvalidArgument(failure.status));
  EXPECT_THAT(std::string(failure.status.message()),
              HasSubstr("rank 3 called all_gather of 1024 f32, the others all_reduce of 4096 f32"));
  calls = std::vector<v1::OpDescriptor>(4, calls[3]);
  calls[0] = Called(v1::OpKind::kBarrier, 0);
  EXPECT_EQ(MismatchFailure(DifferentCalls(calls, kRanks)).rank, 0u);
}

TEST(Mismatch, RanksAreNamedByTheNumbersTheyAreGiven) {
  std::vector<v1::OpDescriptor> calls(3, Called(v1::OpKind::kAllReduce, 8));
  calls[0] = Called(v1::OpKind::kBarrier, 0);
  EXPECT_EQ(MismatchFailure(DifferentCalls(calls, std::vector<int>{7, 5, 2})).rank, 7u);
}

TEST(Mismatch, AmongEqualsTheLowestRanksGroupIsRight) {
  const std::vector<v1::OpDescriptor> calls = {Called(v1::OpKind::kAllReduce, 1), Called(v1::OpKind::kAllReduce, 2)};
  const Failure failure = MismatchFailure(DifferentCalls(calls, kRanks));
  EXPECT_EQ(failure.rank, 1u);
  EXPECT_THAT(std::string(failure.status.message()),
              HasSubstr("rank 1 called all_reduce of 2 f32, rank 0 all_reduce of 1 f32"));
}

TEST(Mismatch, WhatDiffersIsAlwaysVisible) {
  std::vector<v1::OpDescriptor> calls(3, Called(v1::OpKind::kAllReduce, 8));
  calls[1] = Called(v1::OpKind::kAllReduce, 8, ReduceOp::kMax);
  EXPECT_THAT(std::string(MismatchFailure(DifferentCalls(calls, kRanks)).status.message()),
              HasSubstr("rank 1 called all_reduce of 8 f32, max, the others all_reduce of 8 f32, sum"));
  calls.assign(3, Called(v1::OpKind::kBroadcast, 8));
  calls[2].root = 2;
  EXPECT_THAT(std::string(MismatchFailure(DifferentCalls(calls, kRanks)).status.message()),
              HasSubstr("rank 2 called broadcast of 8 f32 from root 2"));
}

TEST(Mismatch, CallsOfSeveralNodesAreCountedTogether) {
  std::vector<v1::OpDescriptor> calls(2, Called(v1::OpKind::kAllReduce, 8));
  calls[0] = Called(v1::OpKind::kBarrier, 0);
  std::vector<Call> all = DifferentCalls(calls, kRanks);  // alone this node would name rank 1
  AddCalls(DifferentCalls(std::vector<v1::OpDescriptor>(2, Called(v1::OpKind::kAllReduce, 8)), std::vector<int>{2, 3}), all);
  const Failure failure = MismatchFailure(all);
  EXPECT_EQ(failure.rank, 0u);
  EXPECT_EQ(failure.text, failure.status.message());
  EXPECT_THAT(failure.text, HasSubstr("rank 0 called barrier, the others all_reduce of 8 f32"));
}

TEST(Digest, DiffersInEveryFieldThatMustAgreeAndInNoOther) {
  const v1::OpDescriptor call = Called(v1::OpKind::kAllReduce, 8);
  std::vector<v1::OpDescriptor> others(6, call);
  others[0].kind = v1::OpKind::kReduceScatter;
  others[1].type = 1;
  others[2].op = 1;
  others[3].root = 1;
  others[4].count = 9;
  others[5].stride = 64;
  for (const v1::OpDescriptor& other : others) EXPECT_NE(DigestOf(other), DigestOf(call));
  v1::OpDescriptor elsewhere = call;
  elsewhere.window = 3;
  elsewhere.offset = 64;
  EXPECT_EQ(DigestOf(elsewhere), DigestOf(call));
}

TEST(Abort, EachReasonHasItsCodeAndNamesRankAndHost) {
  const v1::OpDescriptor call = Called(v1::OpKind::kAllReduce, 8);
  auto failure = [&](v1::AbortReason reason, uint32_t rank) {
    return AbortFailure(v1::PackAbort(reason, rank, 0), 7, "node-b", "disk full", call).status;
  };
  EXPECT_EQ(failure(v1::AbortReason::kPeerLost, 3), absl::UnavailableError("rank 3 (node-b): lost during all_reduce of 8 f32"));
  EXPECT_EQ(failure(v1::AbortReason::kPeerLeft, 2),
            absl::UnavailableError("rank 2 (node-b) left before the others during all_reduce of 8 f32"));
  EXPECT_EQ(failure(v1::AbortReason::kAborted, 1), absl::AbortedError("rank 1 (node-b) aborted: disk full"));
  EXPECT_EQ(failure(v1::AbortReason::kGenerationOver, v1::kNoRank),
            absl::AbortedError("generation 7 is over during all_reduce of 8 f32"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(failure(v1::AbortReason::kDeadline, 1)));
}

}  // namespace
}  // namespace muster

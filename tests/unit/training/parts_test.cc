// Buckets, folds, digests, the two states and the trace, each alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>

#include "runtime/training/buckets.h"
#include "runtime/training/digest.h"
#include "runtime/training/fold.h"
#include "runtime/training/host_place.h"
#include "runtime/training/ordered_worker.h"
#include "runtime/training/run_place.h"
#include "runtime/training/state.h"
#include "runtime/training/trace.h"
#include "tests/support/reference.h"
#include "tests/support/thread_world.h"

namespace muster {
namespace {

using testing::ElementsAre;

TEST(Buckets, FillInOrderUpToTheirSize) {
  const std::vector<int64_t> counts = {100, 16, 1, 300, 17};
  const std::vector<int32_t> order = {4, 3, 2, 1, 0};
  const BucketPlan plan = CutBuckets(counts, order, 200, 2000);
  ASSERT_EQ(plan.buckets.size(), 2u);
  EXPECT_THAT(plan.buckets[0].parameters, ElementsAre(4));
  EXPECT_THAT(plan.buckets[1].parameters, ElementsAre(3, 2, 1, 0));
  EXPECT_EQ(plan.buckets[0].floats, 32);
  EXPECT_EQ(plan.buckets[1].floats, 304 + 16 + 16 + 112);
  EXPECT_EQ(plan.places[0].bucket, 1);
  EXPECT_EQ(plan.places[0].offset, 304 + 16 + 16);
}

TEST(Buckets, EveryTensorIsAlignedAndAlone) {
  std::vector<int64_t> counts;
  for (int64_t i = 1; i < 60; ++i) counts.push_back(i * 7 % 53 + 1);
  std::vector<int32_t> order(counts.size());
  std::iota(order.rbegin(), order.rend(), 0);
  for (const int64_t bytes : {4, 64, 300, 1024, 1 << 20}) {
    const BucketPlan plan = CutBuckets(counts, order, std::min<int64_t>(bytes, 512), bytes);
    std::vector<int32_t> found;
    for (const BucketPlan::Bucket& bucket : plan.buckets) {
      EXPECT_TRUE(bucket.floats * 4 <= bytes || bucket.parameters.size() == 1);
      int64_t end = 0;
      for (const int32_t parameter : bucket.parameters) {
        EXPECT_EQ(plan.places[parameter].offset % 16, 0);
        EXPECT_EQ(plan.places[parameter].offset, end);
        end += AlignUp(counts[parameter]);
        found.push_back(parameter);
      }
      EXPECT_EQ(end, bucket.floats);
    }
    EXPECT_EQ(found, order);
  }
}

// Follows PlanFold's steps with strings for numbers: the parentheses must be those of the canonical tree.
std::string Parentheses(int32_t first, int32_t count) {
  if (count == 1) return std::to_string(first);
  int32_t left = 1;
  while (2 * left < count) left *= 2;
  return "(" + Parentheses(first, left) + "+" + Parentheses(first + left, count - left) + ")";
}

TEST(Fold, FollowsTheTreeInsideEveryPartial) {
  for (int32_t shards = 1; shards <= 20; ++shards) {
    for (int32_t world_size = 1; world_size <= shards; ++world_size) {
      for (int32_t rank = 0; rank < world_size; ++rank) {
        const std::vector<Partial> partials = OwnedPartials(shards, world_size, rank);
        const std::vector<FoldStep> steps = PlanFold(partials);
        std::vector<std::string> levels(FoldLevels(steps)), results(partials.size());
        int32_t shard = FirstShard(shards, world_size, rank);
        for (const FoldStep& step : steps) {
          std::string sum = std::to_string(shard++);
          for (int32_t level = 0; level < step.carries; ++level) sum = "(" + levels[level] + "+" + sum + ")";
          (step.completes ? results[step.partial] : levels[step.level]) = sum;
        }
        EXPECT_EQ(shard, FirstShard(shards, world_size, rank + 1));
        for (size_t i = 0; i < partials.size(); ++i) EXPECT_EQ(results[i], Parentheses(partials[i].first, partials[i].count));
      }
    }
  }
}

TEST(Fold, LevelsAreTheLogarithm) {
  EXPECT_EQ(FoldLevels(PlanFold(OwnedPartials(8, 1, 0))), 3);
  EXPECT_EQ(FoldLevels(PlanFold(OwnedPartials(8, 8, 0))), 0);
  EXPECT_EQ(FoldLevels(PlanFold(OwnedPartials(1024, 1, 0))), 10);
}

TEST(Fold, TreeSumIsTheReference) {
  for (int leaves = 1; leaves <= 17; ++leaves) {
    std::vector<test::Bytes> bytes;
    std::vector<double> numbers;
    for (int i = 0; i < leaves; ++i) {
      bytes.push_back(test::TestVector(11, i, DataType::kFloat64, ReduceOp::kSum, 1));
      double number;
      std::memcpy(&number, bytes.back().data(), sizeof(number));
      numbers.push_back(number);
    }
    const double sum = TreeSum(numbers);
    EXPECT_EQ(test::Difference(test::ReferenceAllReduce(bytes, DataType::kFloat64, ReduceOp::kSum), &sum, DataType::kFloat64),
              "");
  }
}

// FIPS 180-4's examples.
TEST(Digest, KnowsTheStandardVectors) {
  Sha256 empty;
  EXPECT_EQ(ToHex(empty.Finish()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 abc;
  abc.Update("a", 1);
  abc.Update("bc", 2);
  EXPECT_EQ(ToHex(abc.Finish()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(State, BlocksAreAlignedAndFlipByOneWord) {
  test::ThreadWorld world(1);
  const std::vector<int64_t> counts = {3, 16, 17};
  HostPlace place(world.communicator(0));
  auto state = TrainingState::Create(place, 1, counts, 2, 77);
  ASSERT_TRUE(state.ok()) << state.status();
  for (int block = 0; block < 2; ++block) {
    EXPECT_EQ((*state)->header(block).magic, kStateMagic);
    EXPECT_EQ((*state)->header(block).random_state, 77u);
    EXPECT_EQ((*state)->rank_samples(block).size(), 1u);
    for (int32_t i = 0; i < 3; ++i) {
      for (int moment = -1; moment < 2; ++moment) {
        const float* tensor = moment < 0 ? (*state)->value(block, i) : (*state)->moment(block, moment, i);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor) % 64, 0u);
        EXPECT_EQ(tensor, (*state)->host(block, 1 + moment, i));
        const auto* end = reinterpret_cast<const uint8_t*>(tensor + counts[i]);
        EXPECT_LE(end, reinterpret_cast<const uint8_t*>(&(*state)->header(block)) + (*state)->header(block).bytes);
      }
    }
  }
  EXPECT_EQ((*state)->live(), 0);
  (*state)->Flip();
  EXPECT_EQ((*state)->live(), 1);
  EXPECT_EQ((*state)->word(), 1u);
}

TEST(OrderedWorker, LeavesOutWhatFollowsAnError) {
  OrderedWorker worker;
  std::vector<int> done;  // the worker's until Await
  const auto work = [&done](int number, absl::Status status) {
    return [&done, number, status] { return done.push_back(number), status; };
  };
  ASSERT_EQ(worker.Put(work(1, absl::OkStatus())), absl::OkStatus());
  ASSERT_EQ(worker.Put(work(2, absl::AbortedError("two"))), absl::OkStatus());
  ASSERT_EQ(worker.Put(work(3, absl::AbortedError("three"))), absl::OkStatus());
  EXPECT_EQ(worker.Await(), absl::AbortedError("two"));
  EXPECT_THAT(done, ElementsAre(1, 2));
  ASSERT_EQ(worker.Put(work(4, absl::OkStatus())), absl::OkStatus());
  EXPECT_EQ(worker.Await(), absl::OkStatus());
  EXPECT_THAT(done, ElementsAre(1, 2, 4));
}

TEST(RunPlace, IsReadBackAndNothingElseIs) {
  RunPlace place{123, 456, 0xfedcba9876543210u, {}, {2, 0, 1}};
  for (size_t i = 0; i < place.samples_digest.size(); ++i) place.samples_digest[i] = static_cast<uint8_t>(i * 9);
  const std::map<std::string, std::string> attributes = AttributesOf(place);
  const auto read = RunPlaceOf(attributes, 3);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(AttributesOf(*read), attributes);
  EXPECT_FALSE(RunPlaceOf(attributes, 2).has_value());
  for (const auto& [name, value] : attributes) {
    for (const char* wrong : {"", "x", "1,1,0", "0,1,3"}) {
      std::map<std::string, std::string> changed = attributes;
      changed[name] = wrong;
      EXPECT_FALSE(RunPlaceOf(changed, 3).has_value()) << name << " " << wrong;
      changed.erase(name);
      EXPECT_FALSE(RunPlaceOf(changed, 3).has_value()) << name;
    }
  }
}

TEST(Trace, MergesAllRanksIntoOneValidFile) {
  const std::string path = testing::TempDir() + "/muster_trace_test.json";
  test::ThreadWorld world(3);
  world.Run([&](Communicator& communicator) {
    Trace trace;
    const absl::Time begin = absl::FromUnixMicros(1'700'000'000'000'000);
    for (int i = 0; i <= communicator.rank(); ++i) {
      trace.Add(Trace::Track::kCompute, "forward", "forward shard 0", begin, begin + absl::Microseconds(5), 1);
    }
    EXPECT_EQ(trace.Write(communicator, path), absl::OkStatus());
  });
  std::ifstream file(path);
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
  ASSERT_FALSE(json.is_discarded());
  int spans[3] = {};
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] != "X") continue;
    ++spans[event["pid"].get<int>()];
    EXPECT_EQ(event["dur"].get<double>(), 5.0);
    EXPECT_EQ(event["ts"].get<double>(), 1.7e15);
  }
  EXPECT_THAT(spans, ElementsAre(1, 2, 3));
  std::remove(path.c_str());
}

TEST(Trace, NamesAFileItCannotWrite) {
  test::ThreadWorld world(1);
  Trace trace;
  const absl::Status status = trace.Write(world.communicator(0), "/nowhere/trace.json");
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("/nowhere/trace.json"));
}

}  // namespace
}  // namespace muster

// The bits of training depend on data, options and shards, and on nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>

#include "muster/sampler.h"
#include "runtime/base/mutex.h"
#include "runtime/training/digest.h"
#include "tests/property/training/toy.h"
#include "tests/support/reference.h"

namespace muster::test {

namespace {

class Bits : public testing::TestWithParam<Ranks> {};
INSTANTIATE_TEST_SUITE_P(Both, Bits, testing::Values(Ranks::kThreadWorld, Ranks::kNative),
                         [](const auto& info) { return info.param == Ranks::kNative ? "Native" : "PlainLoops"; });

TEST_P(Bits, AreTheSameAtEveryWorldSize) {
  for (const int32_t accumulate : {1, 3}) {
    for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
      TrainerOptions options = ToyOptions();
      options.accumulate = accumulate;
      options.optimizer.kind = kind;
      const ToyResult alone = TrainOn(GetParam(), 1, options, 5);
      EXPECT_EQ(alone.cursor, 5 * 61);
      for (int world_size = 2; world_size <= 8; ++world_size) {
        EXPECT_EQ(TrainOn(GetParam(), world_size, options, 5), alone) << world_size << " ranks, accumulate " << accumulate;
      }
    }
  }
}

TEST_P(Bits, AreTheSameForEveryNumberOfShards) {
  for (const int32_t shards : {1, 5, 6, 13}) {
    TrainerOptions options = ToyOptions();
    options.shards = shards;
    const ToyResult alone = TrainOn(GetParam(), 1, options, 3);
    for (const int world_size : {2, 3, 5, 9}) {
      if (world_size > shards) continue;
      EXPECT_EQ(TrainOn(GetParam(), world_size, options, 3), alone) << world_size << " ranks, " << shards << " shards";
    }
  }
}

TEST_P(Bits, DoNotDependOnBuckets) {
  const ToyResult one_bucket = TrainOn(GetParam(), 3, ToyOptions(), 4);
  for (const int64_t bytes : {4, 64, 200, 512}) {
    TrainerOptions options = ToyOptions();
    options.bucket_bytes = bytes;
    EXPECT_EQ(TrainOn(GetParam(), 3, options, 4), one_bucket) << bytes;
  }
}

// Parameters become ready first to last, against the order of the first plan, so the buckets are cut anew after step 1.
TEST_P(Bits, DoNotDependOnTheOrderOfReadiness) {
  TrainerOptions options = ToyOptions();
  options.bucket_bytes = 200;
  const auto first_to_last = [](Pass& pass) -> absl::StatusOr<Loss> {
    Loss loss;
    for (int parameter = 0; parameter < 5; ++parameter) {
      const std::span<const float> value = pass.value(parameter);
      for (const int64_t sample : pass.samples()) {
        for (size_t i = 0; i < value.size(); ++i) {
          pass.gradient(parameter)[i] += ToyGradient(sample, parameter, static_cast<int64_t>(i), value[i]);
        }
      }
      pass.GradientReady(parameter);
    }
    loss.weight = 3 * static_cast<int64_t>(pass.samples().size());
    return loss;
  };
  const std::string expected = TrainOn(GetParam(), 1, ToyOptions(), 4).weights;
  EXPECT_EQ(TrainOn(GetParam(), 1, options, 4, first_to_last).weights, expected);
  EXPECT_EQ(TrainOn(GetParam(), 4, options, 4, first_to_last).weights, expected);
}

TEST_P(Bits, FewerSamplesThanShardsLeaveShardsEmpty) {
  TrainerOptions options = ToyOptions();
  options.batch = 3;
  const ToyResult alone = TrainOn(GetParam(), 1, options, 6);
  for (const int world_size : {2, 5, 8}) EXPECT_EQ(TrainOn(GetParam(), world_size, options, 6), alone) << world_size;
}

TEST_P(Bits, ChangeWithTheSeed) {
  TrainerOptions other = ToyOptions();
  other.seed = 6;
  const ToyResult a = TrainOn(GetParam(), 2, ToyOptions(), 3), b = TrainOn(GetParam(), 2, other, 3);
  EXPECT_NE(a.weights, b.weights);
  EXPECT_NE(a.samples, b.samples);
}

TEST_P(Bits, ChangeWithOneBitOfOneGradientOfOneRank) {
  const ToyResult right = TrainOn(GetParam(), 4, ToyOptions(), 3);
  const ToyResult wrong = TrainOn(GetParam(), 4, ToyOptions(), 3, [](Pass& pass) -> absl::StatusOr<Loss> {
    if (pass.step() != 0 || pass.shard() != 5) return ToyPass(pass);
    const float before = pass.gradient(2)[0];
    uint32_t bits;
    std::memcpy(&bits, &before, sizeof(bits));
    EXPECT_EQ(bits, 0u);
    bits ^= 1u << 30;
    std::memcpy(&pass.gradient(2)[0], &bits, sizeof(bits));
    return ToyPass(pass);
  });
  EXPECT_EQ(right.samples, wrong.samples);
  EXPECT_NE(right.weights, wrong.weights);
}

// One step of plain gradient descent from zero with rate -1 and a power of two as the weight shows the gradient's sum itself.
TEST_P(Bits, SumsFollowTheCanonicalTreeOverShards) {
  for (const int world_size : {1, 2, 3, 5, 8}) {
    TrainerOptions options;
    options.samples = options.batch = 64;
    options.shards = 8;
    options.optimizer = {.kind = OptimizerKind::kSgd, .learning_rate = -1, .momentum = 0, .weight_decay = 0};
    constexpr int64_t kCount = 1000;
    std::vector<Bytes> leaves;
    for (int shard = 0; shard < 8; ++shard) leaves.push_back(TestVector(17, shard, DataType::kFloat32, ReduceOp::kSum, kCount));
    const Bytes expected = ReferenceAllReduce(leaves, DataType::kFloat32, ReduceOp::kSum);
    ASSERT_NE(Difference(LeftToRightAllReduce(leaves, DataType::kFloat32, ReduceOp::kSum), expected.data(), DataType::kFloat32),
              "");
    RunOn(GetParam(), world_size, [&](Communicator& communicator) {
      auto trainer = Trainer::Create(communicator, {{"all", {kCount}}}, options);
      ASSERT_TRUE(trainer.ok()) << trainer.status();
      auto result = (*trainer)->Step([&](Pass& pass) -> absl::StatusOr<Loss> {
        EXPECT_EQ(pass.samples().size(), 8u);
        for (int64_t i = 0; i < kCount; ++i) {
          float leaf;
          std::memcpy(&leaf, leaves[pass.shard()].data() + i * sizeof(float), sizeof(leaf));
          pass.gradient(0)[i] += leaf;
        }
        return Loss{0, pass.shard() == 0 ? 1 : 0};
      });
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(Difference(expected, (*trainer)->value(0).data(), DataType::kFloat32), "") << world_size << " ranks";
    });
  }
}

std::string PlainDigest(const Sampler& order, int64_t steps, int64_t batch) {
  Digest digest = {};
  for (int64_t step = 0; step < steps; ++step) {
    Sha256 hash;
    hash.Update(digest.data(), digest.size());
    for (int64_t place = step * batch; place < (step + 1) * batch; ++place) {
      const int64_t sample = order.SampleAt(place);
      hash.Update(&sample, sizeof(sample));
    }
    digest = hash.Finish();
  }
  return ToHex(digest);
}

TEST_P(Bits, SamplesAreFedOnceAndHashedInTheOrderOfTheCursor) {
  for (const int world_size : {1, 3, 8}) {
    const TrainerOptions options = ToyOptions();
    constexpr int64_t kSteps = 7;
    Mutex mutex;
    std::map<int64_t, int> fed;  // by sample
    std::vector<int64_t> rank_samples;
    std::string digest;
    std::optional<Sampler> order;
    RunOn(GetParam(), world_size, [&](Communicator& communicator) {
      auto trainer = Trainer::Create(communicator, ToyParameters(), options);
      ASSERT_TRUE(trainer.ok()) << trainer.status();
      while ((*trainer)->step() < kSteps) {
        auto result = (*trainer)->Step([&](Pass& pass) -> absl::StatusOr<Loss> {
          MutexLock lock(mutex);
          for (const int64_t sample : pass.samples()) ++fed[sample];
          return Loss{0, 1};
        });
        ASSERT_TRUE(result.ok()) << result.status();
        EXPECT_EQ((*trainer)->committed_step(), (*trainer)->step() - 1);
      }
      ASSERT_EQ((*trainer)->Finish(), absl::OkStatus());
      EXPECT_EQ((*trainer)->committed_step(), kSteps);
      MutexLock lock(mutex);
      rank_samples = (*trainer)->rank_samples();
      digest = (*trainer)->SamplesSha256();
      order = (*trainer)->sampler();
    });
    // 427 places: four whole epochs of 100, and 27 samples of the fifth.
    int64_t total = 0;
    for (int64_t sample = 0; sample < options.samples; ++sample) {
      EXPECT_TRUE(fed[sample] == 4 || fed[sample] == 5) << sample;
      total += fed[sample];
    }
    EXPECT_EQ(total, kSteps * options.batch);
    EXPECT_EQ(static_cast<int>(rank_samples.size()), world_size);
    EXPECT_EQ(std::accumulate(rank_samples.begin(), rank_samples.end(), int64_t{0}), kSteps * options.batch);
    const auto [least, most] = std::minmax_element(rank_samples.begin(), rank_samples.end());
    EXPECT_LE(*most - *least, kSteps * 8) << "more than a shard a step";
    EXPECT_EQ(digest, PlainDigest(*order, kSteps, options.batch));
  }
}

}  // namespace
}  // namespace muster::test

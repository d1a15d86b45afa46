// Every kernel against the scalar reference, bit for bit.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "runtime/kernels/reduce.h"
#include "tests/support/reference.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace muster {
namespace {

using test::Bytes;

// MUSTER_TEST_SEED replays a failure.
uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("MUSTER_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : uint64_t{std::random_device{}()};
  }();
  return seed;
}

std::string Replay() { return "replay: MUSTER_TEST_SEED=" + std::to_string(Seed()) + " kernels_property_test"; }

// A vector at an odd place, with guards on both sides that no kernel may touch.
class Placed {
 public:
  static constexpr size_t kGuard = 80;
  static constexpr unsigned char kGuardByte = 0x5a;

  Placed(const Bytes& value, size_t misalignment) : size_(value.size()), offset_(kGuard + misalignment) {
    memory_.assign(2 * kGuard + misalignment + size_ + 64, kGuardByte);
    offset_ += (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64) % 64;
    memory_.resize(offset_ + size_ + kGuard, kGuardByte);
    if (size_ > 0) std::memcpy(data(), value.data(), size_);
  }
  unsigned char* data() { return memory_.data() + offset_; }
  bool GuardsHold() const {
    for (size_t i = 0; i < memory_.size(); ++i) {
      if ((i < offset_ || i >= offset_ + size_) && memory_[i] != kGuardByte) return false;
    }
    return true;
  }

 private:
  std::vector<unsigned char> memory_;
  size_t size_;
  size_t offset_;
};

struct Case {
  KernelIsa isa;
  DataType type;
  ReduceOp op;
};

// Every combination that exists; `cancelling`: only those in which the order shows.
std::vector<Case> Cases(bool cancelling) {
  std::vector<Case> cases;
  for (const KernelIsa isa : {KernelIsa::kPlain, KernelIsa::kAvx2, KernelIsa::kAvx512}) {
    for (int type = 0; type < kDataTypes; ++type) {
      for (int op = 0; op < kReduceOps; ++op) {
        const Case one{isa, static_cast<DataType>(type), static_cast<ReduceOp>(op)};
        if (!OpFitsType(one.op, one.type)) continue;
        const bool cancels = !IsInteger(one.type) && (one.op == ReduceOp::kSum || one.op == ReduceOp::kAvg);
        if (cancels || !cancelling) cases.push_back(one);
      }
    }
  }
  return cases;
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return std::string(Name(info.param.isa)) + "_" + Name(info.param.type) + "_" + Name(info.param.op);
}

class ReduceProperty : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!IsSupported(isa())) GTEST_SKIP() << "this processor has no " << Name(isa());
  }
  KernelIsa isa() const { return GetParam().isa; }
  DataType type() const { return GetParam().type; }
  ReduceOp op() const { return GetParam().op; }
  int64_t lanes() const { return 64 / SizeOf(type()); }

  enum class Where { kInPlace, kElsewhere };

  // Reduces `inputs` by `plan` and compares each destination with `expected`.
  void Check(const ReducePlan& plan, const std::vector<Bytes>& inputs, const Bytes& expected, size_t misalignment,
             Where where) {
    std::vector<Placed> placed;
    for (size_t i = 0; i < inputs.size(); ++i)
      placed.emplace_back(inputs[i], misalignment == 0 ? 0 : (misalignment + 3 * i) % 64);
    Placed elsewhere(Bytes(expected.size(), 0xee), misalignment);
    std::vector<const void*> sources;
    std::vector<void*> destinations;
    for (Placed& place : placed) {
      sources.push_back(place.data());
      if (where == Where::kInPlace) destinations.push_back(place.data());
    }
    if (where == Where::kElsewhere) destinations.push_back(elsewhere.data());
    const auto count = static_cast<int64_t>(expected.size()) / SizeOf(type());
    Reduce(plan, sources, count, type(), op(), destinations, isa());

    for (const void* destination : destinations) {
      ASSERT_EQ(test::Difference(expected, destination, type()), "")
          << test::Describe(type(), op()) << " " << plan.sources() << " sources, " << count << " elements, misalignment "
          << misalignment << "; " << Replay();
    }
    for (size_t i = 0; i < placed.size(); ++i) {
      ASSERT_TRUE(placed[i].GuardsHold()) << "source " << i << " written outside; " << Replay();
      if (where == Where::kElsewhere) {
        ASSERT_EQ(test::Difference(inputs[i], sources[i], type()), "") << Replay();
      }
    }
    ASSERT_TRUE(elsewhere.GuardsHold()) << Replay();
  }

  std::vector<Bytes> Leaves(int leaves, int64_t count, bool special) const {
    std::vector<Bytes> inputs;
    for (int rank = 0; rank < leaves; ++rank) {
      inputs.push_back(special ? test::SpecialVector(Seed() + count, rank, type(), count)
                               : test::TestVector(Seed() + count, rank, type(), op(), count));
    }
    return inputs;
  }

  void CheckLeaves(int leaves, int64_t count, size_t misalignment, Where where, bool special) {
    const std::vector<Bytes> inputs = Leaves(leaves, count, special);
    Check(ReducePlan::ForLeaves(leaves), inputs, test::ReferenceAllReduce(inputs, type(), op()), misalignment, where);
  }
};

INSTANTIATE_TEST_SUITE_P(All, ReduceProperty, testing::ValuesIn(Cases(false)), CaseName);

TEST_P(ReduceProperty, EveryNumberOfLeaves) {
  for (const int leaves : {1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 64}) {
    CheckLeaves(leaves, 9 * lanes() + 5, 0, Where::kInPlace, false);
    CheckLeaves(leaves, 2 * lanes() + 1, 1, Where::kElsewhere, false);
  }
}

TEST_P(ReduceProperty, EveryTailAndSomeMisalignments) {
  for (int64_t count = 0; count <= 2 * lanes(); ++count) {
    CheckLeaves(3, count, static_cast<size_t>(count) % 64, Where::kInPlace, false);
    CheckLeaves(9, count, 0, Where::kElsewhere, false);
  }
}

TEST_P(ReduceProperty, NansInfinitiesDenormalsAndZeros) {
  for (const int leaves : {1, 2, 3, 4, 7, 8, 9, 17})
    CheckLeaves(leaves, 40 * lanes() / SizeOf(type()) + 3, 0, Where::kInPlace, true);
}

TEST_P(ReduceProperty, ManyBlocks) {
  CheckLeaves(4, 5000, 4, Where::kInPlace, false);
  CheckLeaves(17, 5000, 12, Where::kInPlace, false);
}

TEST_P(ReduceProperty, ShardsAtEveryWorldSize) {
  for (const int32_t shards : {8, 11}) {
    const std::vector<Bytes> leaves = Leaves(shards, 2 * lanes() + 3, false);
    for (int32_t world_size = 1; world_size <= shards; ++world_size) {
      std::vector<std::vector<Bytes>> by_rank;
      std::vector<Bytes> inputs;
      for (int32_t rank = 0; rank < world_size; ++rank) {
        by_rank.push_back(test::ReferencePartials(leaves, world_size, rank, type(), op()));
        inputs.insert(inputs.end(), by_rank.back().begin(), by_rank.back().end());
      }
      const Bytes expected = test::ReferenceAllReduceShards(by_rank, shards, type(), op());
      if (type() != DataType::kBFloat16 && type() != DataType::kFloat16) {  // these round each partial
        ASSERT_EQ(expected, test::ReferenceAllReduce(leaves, type(), op()));
      }
      Check(ReducePlan::ForShards(shards, world_size), inputs, expected, 0, Where::kInPlace);
    }
  }
}

// Proves that the comparison above would notice a wrong order.
class OrderShows : public ReduceProperty {};
INSTANTIATE_TEST_SUITE_P(All, OrderShows, testing::ValuesIn(Cases(true)), CaseName);

TEST_P(OrderShows, ALeftToRightSumWouldFail) {
  const int64_t count = 9 * lanes() + 5;
  for (const int leaves : {4, 5, 6, 7, 8, 9, 17, 64}) {
    const std::vector<Bytes> inputs = Leaves(leaves, count, false);
    Bytes result(static_cast<size_t>(count * SizeOf(type())));
    std::vector<const void*> sources;
    for (const Bytes& input : inputs) sources.push_back(input.data());
    void* const destination = result.data();
    Reduce(ReducePlan::ForLeaves(leaves), sources, count, type(), op(), {&destination, 1}, isa());
    EXPECT_NE(test::Difference(test::LeftToRightAllReduce(inputs, type(), op()), result.data(), type()), "") << Replay();
  }
}

#if defined(__x86_64__)
TEST_P(ReduceProperty, IgnoresTheThreadsFloatingPointModes) {
  const int64_t count = 4 * lanes() + 3;
  const std::vector<Bytes> inputs = Leaves(4, count, true);
  const Bytes expected = test::ReferenceAllReduce(inputs, type(), op());
  Bytes result(expected.size());
  std::vector<const void*> sources;
  for (const Bytes& input : inputs) sources.push_back(input.data());
  void* const destination = result.data();
  const ReducePlan plan = ReducePlan::ForLeaves(4);
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040 | 0x6000);  // flush to zero, denormals are zeros, round towards zero
  Reduce(plan, sources, count, type(), op(), {&destination, 1}, isa());
  _mm_setcsr(before);
  EXPECT_EQ(test::Difference(expected, result.data(), type()), "") << Replay();
}
#endif

TEST(ReduceDispatch, TheBestIsSupported) {
  EXPECT_TRUE(IsSupported(KernelIsa::kPlain));
  EXPECT_TRUE(IsSupported(BestKernelIsa()));
}

TEST(ReduceDispatchDeathTest, AnAverageOfIntegersIsRefused) {
  const int32_t value = 1;
  const void* const source = &value;
  EXPECT_DEATH(Reduce(ReducePlan::ForLeaves(1), {&source, 1}, 1, DataType::kInt32, ReduceOp::kAvg, {}), "average of integers");
}

}  // namespace
}  // namespace muster

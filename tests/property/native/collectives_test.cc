// Every collective of the native backend equals a plain loop, bit for bit: 1-9 ranks, all types and operations, sizes on both
// sides of every switch between algorithms, buffers in windows, private and mixed, blocking and started.
//
// MUSTER_TEST_SEED replays a run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "muster/communicator.h"
#include "runtime/kernels/reduce.h"
#include "tests/support/fake_node.h"
#include "tests/support/reference.h"

namespace muster::test {
namespace {

// Small buffers bring the switches between algorithms, and several chunks in each, to sizes that the slow reference can do.
constexpr uint32_t kTestSlotBytes = 512;
constexpr uint32_t kTestStagingBytes = 2048;
constexpr int64_t kWindowBytes = 4 << 20;
constexpr int64_t kGuardBytes = 64;  // around every output: nothing may be written there
constexpr unsigned char kGuard = 0xa5;

uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("MUSTER_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device()();
  }();
  return seed;
}

enum class Kind { kAllReduce, kAllReduceShards, kBroadcast, kAllGather, kReduceScatter };
enum class Where { kWindow, kPrivate, kMixed };
constexpr const char* kKindNames[] = {"all_reduce", "all_reduce_shards", "broadcast", "all_gather", "reduce_scatter"};
constexpr const char* kWhereNames[] = {"window", "private", "mixed"};

struct Case {
  Kind kind;
  DataType type;
  ReduceOp op;
  int64_t count;  // of what a rank sends (a row of it, for shards); parts for reduce_scatter
  int root = 0;
  int shards = 0;
  std::vector<std::vector<Bytes>> inputs;  // by rank, by row
  std::vector<Bytes> expected;             // by rank

  std::string ToString() const {
    return absl::StrCat(kKindNames[static_cast<int>(kind)], " ", Describe(type, op), " count ", count, " root ", root,
                        " shards ", shards);
  }
};

Case MakeCase(Kind kind, DataType type, ReduceOp op, int64_t count, int ranks, int variant) {
  Case c = {kind, type, op, count};
  const uint64_t seed = Seed() + static_cast<uint64_t>(variant);
  std::vector<Bytes> vectors;
  const int leaves = kind == Kind::kAllReduceShards ? (c.shards = ranks + variant % 9) : ranks;
  const int64_t elements = kind == Kind::kReduceScatter ? count * ranks : count;
  for (int leaf = 0; leaf < leaves; ++leaf) {
    vectors.push_back(variant % 7 == 3 ? SpecialVector(seed, leaf, type, elements)
                                       : TestVector(seed, leaf, type, op, elements));
  }
  if (kind == Kind::kAllReduceShards) {
    for (int r = 0; r < ranks; ++r) c.inputs.push_back(ReferencePartials(vectors, ranks, r, type, op));
    c.expected.assign(static_cast<size_t>(ranks), ReferenceAllReduceShards(c.inputs, c.shards, type, op));
    return c;
  }
  c.root = kind == Kind::kBroadcast ? variant % ranks : 0;
  for (int r = 0; r < ranks; ++r) {
    c.inputs.push_back({vectors[static_cast<size_t>(r)]});
    if (kind == Kind::kReduceScatter) c.expected.push_back(ReferenceReduceScatter(vectors, type, op, r));
  }
  if (kind == Kind::kAllReduce) c.expected.assign(static_cast<size_t>(ranks), ReferenceAllReduce(vectors, type, op));
  if (kind == Kind::kAllGather) c.expected.assign(static_cast<size_t>(ranks), ReferenceAllGather(vectors));
  if (kind == Kind::kBroadcast) c.expected.assign(static_cast<size_t>(ranks), vectors[static_cast<size_t>(c.root)]);
  return c;
}

// One rank's buffers: a window and private memory, of which each call gets a part at some alignment.
class Buffers {
 public:
  Buffers(Communicator& communicator, uint64_t seed) : random_(seed), private_(kWindowBytes) {
    auto window = communicator.CreateWindow(kWindowBytes);
    EXPECT_TRUE(window.ok()) << window.status();
    if (window.ok()) window_ = *std::move(window);
  }

  void Begin(bool in_window) { next_ = in_window ? static_cast<unsigned char*>(window_->data()) : private_.data(); }
  // Room for `bytes` with guards around; 64-byte aligned, or at any address.
  unsigned char* Take(int64_t bytes, bool aligned) {
    next_ += kGuardBytes + (aligned ? 0 : random_() % 64);
    if (aligned) next_ += (64 - reinterpret_cast<uintptr_t>(next_) % 64) % 64;
    unsigned char* const taken = next_;
    std::memset(taken - kGuardBytes, kGuard, static_cast<size_t>(bytes + 2 * kGuardBytes));
    next_ += bytes + kGuardBytes;
    return taken;
  }

 private:
  std::mt19937_64 random_;  // differs between ranks: they need not agree on alignments
  std::vector<unsigned char> private_;
  std::unique_ptr<Window> window_;
  unsigned char* next_ = nullptr;
};

bool GuardsIntact(const unsigned char* data, int64_t bytes) {
  return std::all_of(data - kGuardBytes, data, [](unsigned char c) { return c == kGuard; }) &&
         std::all_of(data + bytes, data + bytes + kGuardBytes, [](unsigned char c) { return c == kGuard; });
}

absl::Status Finish(absl::StatusOr<std::unique_ptr<Work>> work) {
  if (!work.ok()) return work.status();
  absl::Status status = (*work)->Wait();
  EXPECT_TRUE((*work)->IsDone());
  EXPECT_LE((*work)->StartTime(), (*work)->EndTime());
  return status;
}

// How one case is run once.
struct Style {
  Where where;
  bool started;
  bool aligned;
  bool in_place;  // all_gather and reduce_scatter: the smaller buffer is the own part of the larger
};

// Runs `c` on this rank and returns where its output lies.
const unsigned char* RunCase(Communicator& comm, const Case& c, const Style& style, Buffers& buffers, absl::Status& status) {
  const size_t rank = static_cast<size_t>(comm.rank());
  const std::vector<Bytes>& rows = c.inputs[rank];
  const int64_t row_bytes = static_cast<int64_t>(rows[0].size());
  buffers.Begin(style.where == Where::kWindow || (style.where == Where::kMixed && comm.rank() % 2 == 0));
  const absl::Time deadline = absl::Now() + absl::Minutes(5);
  if (c.kind == Kind::kAllReduceShards) {
    const int64_t stride = (row_bytes + 63) / 64 * 64 + 64;
    unsigned char* data = buffers.Take(stride * PartialsMax(c.shards, comm.world_size()), style.aligned);
    for (size_t i = 0; i < rows.size(); ++i) std::copy(rows[i].begin(), rows[i].end(), data + static_cast<int64_t>(i) * stride);
    const ShardedTensor tensor = {data, c.count, stride, c.type, c.shards};
    status = style.started ? Finish(comm.StartAllReduceShards(tensor, c.op, deadline))
                           : comm.AllReduceShards(tensor, c.op, deadline);
    return data;
  }
  const bool gather = c.kind == Kind::kAllGather;
  const bool scatter = c.kind == Kind::kReduceScatter;
  const int64_t large_bytes = gather ? row_bytes * comm.world_size() : row_bytes;
  const int64_t small_bytes = gather ? row_bytes : row_bytes / comm.world_size();
  unsigned char* large = buffers.Take(large_bytes, style.aligned);
  unsigned char* small =
      style.in_place ? large + static_cast<int64_t>(rank) * small_bytes : buffers.Take(small_bytes, style.aligned);
  std::copy(rows[0].begin(), rows[0].end(), gather ? small : large);
  const Tensor large_tensor = {large, large_bytes / SizeOf(c.type), c.type};
  const Tensor small_tensor = {small, small_bytes / SizeOf(c.type), c.type};
  if (gather) {
    status = style.started ? Finish(comm.StartAllGather(small_tensor, large_tensor, deadline))
                           : comm.AllGather(small_tensor, large_tensor, deadline);
  } else if (scatter) {
    status = style.started ? Finish(comm.StartReduceScatter(large_tensor, small_tensor, c.op, deadline))
                           : comm.ReduceScatter(large_tensor, small_tensor, c.op, deadline);
  } else if (c.kind == Kind::kBroadcast) {
    status = style.started ? Finish(comm.StartBroadcast(large_tensor, c.root, deadline))
                           : comm.Broadcast(large_tensor, c.root, deadline);
  } else {
    status = style.started ? Finish(comm.StartAllReduce(large_tensor, c.op, deadline))
                           : comm.AllReduce(large_tensor, c.op, deadline);
  }
  EXPECT_TRUE(GuardsIntact(large, large_bytes)) << c.ToString();
  EXPECT_TRUE(style.in_place || GuardsIntact(small, small_bytes)) << c.ToString();
  return scatter ? small : large;
}

void RunCases(int ranks, const std::vector<Case>& cases) {
  FakeNode node({.ranks = ranks, .slot_bytes = kTestSlotBytes, .staging_bytes = kTestStagingBytes});
  RunRanks(node, [&cases](Communicator& comm) {
    Buffers buffers(comm, Seed() + 1000 + static_cast<uint64_t>(comm.rank()));
    int turn = 0;
    for (const Case& c : cases) {
      for (Where where : {Where::kWindow, Where::kPrivate, Where::kMixed}) {
        ++turn;
        const Style style = {where, turn % 2 == 0, turn % 5 < 2, turn % 3 == 0};
        absl::Status status;
        const unsigned char* output = RunCase(comm, c, style, buffers, status);
        const Bytes& expected = c.expected[static_cast<size_t>(comm.rank())];
        const std::string difference = status.ok() ? Difference(expected, output, c.type) : status.ToString();
        if (difference.empty()) continue;
        ADD_FAILURE() << "rank " << comm.rank() << " of " << comm.world_size() << ", " << c.ToString() << ", "
                      << kWhereNames[static_cast<int>(where)] << (style.started ? ", started" : ", blocking") << ": "
                      << difference << "\nreplay with MUSTER_TEST_SEED=" << Seed();
        comm.Abort(absl::AbortedError("the test failed on another rank"));
        return;
      }
    }
  });
}

// Both sides of each switch: flag line | slots | one chunk | several chunks, for `rows` rows a rank.
std::vector<int64_t> Counts(DataType type, int rows) {
  const int64_t size = SizeOf(type) * rows;
  const int64_t copied = kTestSlotBytes / 8 / size;
  const int64_t slot = kTestSlotBytes / size;
  const int64_t chunk = kTestStagingBytes / size;
  return {0, 1, 3, 48 / size, 48 / size + 1, copied, copied + 1, slot, slot + 1, chunk + 1, 3 * chunk + 17};
}

class Collectives : public testing::TestWithParam<int> {};

void RunKind(Kind kind, int ranks) {
  const bool reduces = kind != Kind::kBroadcast && kind != Kind::kAllGather;
  int variant = 0;
  for (int t = 0; t < kDataTypes; ++t) {
    std::vector<Case> cases;
    const auto type = static_cast<DataType>(t);
    for (int o = 0; o < (reduces ? kReduceOps : 1); ++o) {
      const auto op = static_cast<ReduceOp>(o);
      if (!OpFitsType(op, type)) continue;
      for (int64_t count : Counts(type, kind == Kind::kReduceScatter ? ranks : 1)) {
        cases.push_back(MakeCase(kind, type, op, count, ranks, variant++));
      }
    }
    RunCases(ranks, cases);
    if (testing::Test::HasFailure()) return;
  }
}

TEST_P(Collectives, AllReduce) { RunKind(Kind::kAllReduce, GetParam()); }
TEST_P(Collectives, AllReduceShards) { RunKind(Kind::kAllReduceShards, GetParam()); }
TEST_P(Collectives, AllGather) { RunKind(Kind::kAllGather, GetParam()); }
TEST_P(Collectives, ReduceScatter) { RunKind(Kind::kReduceScatter, GetParam()); }

TEST_P(Collectives, BroadcastFromEveryRoot) {
  RunKind(Kind::kBroadcast, GetParam());
  std::vector<Case> cases;
  for (int root = 0; root < GetParam(); ++root) {
    for (int64_t count : Counts(DataType::kUint8, 1)) {
      cases.push_back(MakeCase(Kind::kBroadcast, DataType::kUint8, ReduceOp::kSum, count, GetParam(), root));
    }
  }
  RunCases(GetParam(), cases);
}

INSTANTIATE_TEST_SUITE_P(Ranks, Collectives, testing::Range(1, 10));

// The vectors are able to show a wrong order: a left-to-right sum of the same inputs has other bits.
TEST(CollectivesOrder, ALeftToRightSumDiffers) {
  for (int ranks = 4; ranks <= 9; ++ranks) {
    for (DataType type : {DataType::kFloat32, DataType::kFloat64}) {
      const Case c = MakeCase(Kind::kAllReduce, type, ReduceOp::kSum, 1000, ranks, 0);
      std::vector<Bytes> vectors;
      for (const auto& rows : c.inputs) vectors.push_back(rows[0]);
      const Bytes wrong = LeftToRightAllReduce(vectors, type, ReduceOp::kSum);
      RunRanks(ranks, [&](Communicator& comm) {
        Bytes data = c.inputs[static_cast<size_t>(comm.rank())][0];
        ASSERT_TRUE(comm.AllReduce({data.data(), 1000, type}, ReduceOp::kSum).ok());
        EXPECT_EQ(Difference(c.expected[0], data.data(), type), "");
        EXPECT_NE(Difference(wrong, data.data(), type), "");
      });
    }
  }
}

// D3: eight shards give the same bits on 1 to 8 ranks.
TEST(CollectivesOrder, SumsOfShardsDoNotDependOnTheWorldSize) {
  constexpr int kShards = 8;
  for (int64_t count : {7, 5000, 40'000}) {
    std::vector<Bytes> shards;
    for (int s = 0; s < kShards; ++s) shards.push_back(TestVector(Seed(), s, DataType::kFloat32, ReduceOp::kAvg, count));
    const Bytes expected = ReferenceAllReduce(shards, DataType::kFloat32, ReduceOp::kAvg);
    for (int ranks = 1; ranks <= kShards; ++ranks) {
      RunRanks(ranks, [&](Communicator& comm) {
        const std::vector<Bytes> partials = ReferencePartials(shards, ranks, comm.rank(), DataType::kFloat32, ReduceOp::kAvg);
        const int64_t stride = (count * 4 + 63) / 64 * 64;
        auto window = comm.CreateWindow(stride * PartialsMax(kShards, ranks));
        ASSERT_TRUE(window.ok()) << window.status();
        auto* data = static_cast<unsigned char*>((*window)->data());
        for (size_t i = 0; i < partials.size(); ++i) {
          std::copy(partials[i].begin(), partials[i].end(), data + static_cast<int64_t>(i) * stride);
        }
        ASSERT_TRUE(comm.AllReduceShards({data, count, stride, DataType::kFloat32, kShards}, ReduceOp::kAvg).ok());
        EXPECT_EQ(Difference(expected, data, DataType::kFloat32), "") << ranks << " ranks; MUSTER_TEST_SEED=" << Seed();
      });
    }
  }
}

// Started and blocking calls keep the program's order on every rank.
TEST(CollectivesOrder, ABlockingCallWaitsForWhatWasStarted) {
  RunRanks(3, [](Communicator& comm) {
    std::vector<int64_t> a(5000, 1);
    std::vector<int64_t> b(7, 1);
    std::vector<std::unique_ptr<Work>> works;
    for (int i = 0; i < 50; ++i) {
      for (std::vector<int64_t>* v : {&a, &b}) {
        auto work = comm.StartAllReduce(MakeTensor(v->data(), static_cast<int64_t>(v->size())), ReduceOp::kSum);
        ASSERT_TRUE(work.ok()) << work.status();
        works.push_back(*std::move(work));
      }
      ASSERT_TRUE(comm.AllReduce(MakeTensor(b.data(), 7), ReduceOp::kMax).ok());
      for (const auto& work : works) EXPECT_TRUE(work->IsDone());
    }
    uint64_t power = 1;  // 3^50, wrapped
    for (int i = 0; i < 50; ++i) power *= 3;
    EXPECT_EQ(static_cast<uint64_t>(a[4999]), power);
    EXPECT_EQ(static_cast<uint64_t>(b[6]), power);
  });
}

}  // namespace
}  // namespace muster::test

#include "tests/support/collective_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace muster::test {
namespace {

constexpr int64_t kGuardBytes = 64;  // around every output: nothing may be written there
constexpr unsigned char kGuard = 0xa5;

constexpr const char* kKindNames[] = {"all_reduce", "all_reduce_shards", "broadcast", "all_gather", "reduce_scatter"};
constexpr const char* kWhereNames[] = {"window", "private", "mixed"};

// One rank's buffers: a window and private memory, of which each call gets a part at some alignment.
class Buffers {
 public:
  Buffers(Communicator& communicator, uint64_t seed, int64_t bytes) : random_(seed), private_(static_cast<size_t>(bytes)) {
    auto window = communicator.CreateWindow(bytes);
    EXPECT_TRUE(window.ok()) << window.status();
    if (window.ok()) window_ = *std::move(window);
  }

  bool complete() const { return window_ != nullptr; }
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
  bool in_window;
};

// Runs `c` on this rank and returns where its output lies.
const unsigned char* RunCase(Communicator& comm, const Case& c, const Style& style, Buffers& buffers, absl::Status& status) {
  const size_t rank = static_cast<size_t>(comm.rank());
  const std::vector<Bytes>& rows = c.inputs[rank];
  const int64_t row_bytes = static_cast<int64_t>(rows[0].size());
  buffers.Begin(style.in_window);
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

}  // namespace

uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("MUSTER_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device()();
  }();
  return seed;
}

std::string Case::ToString() const {
  return absl::StrCat(kKindNames[static_cast<int>(kind)], " ", Describe(type, op), " count ", count, " root ", root, " shards ",
                      shards);
}

namespace {

using MakeVector = Bytes (*)(uint64_t seed, int variant, int leaf, DataType type, ReduceOp op, int64_t count);

Bytes AnyVector(uint64_t seed, int variant, int leaf, DataType type, ReduceOp op, int64_t count) {
  return variant % 7 == 3 ? SpecialVector(seed, leaf, type, count) : TestVector(seed, leaf, type, op, count);
}

template <typename T>
void Put(T value, int64_t i, Bytes& bytes) {
  std::memcpy(bytes.data() + static_cast<size_t>(i) * sizeof value, &value, sizeof value);
}

Bytes ExactVector(uint64_t seed, int, int leaf, DataType type, ReduceOp op, int64_t count) {
  if (op == ReduceOp::kMin || op == ReduceOp::kMax) return SpecialVector(seed, leaf, type, count);
  std::mt19937_64 random(seed + 1000003 * static_cast<uint64_t>(leaf));
  Bytes bytes(static_cast<size_t>(count * SizeOf(type)));
  for (int64_t i = 0; i < count; ++i) {
    const auto small = static_cast<int>(random() % 17);  // sums of thousands are exact in float32
    const double value = op != ReduceOp::kProd ? small - 8 : small % 3 == 0 ? 1.0 : small % 3 == 1 ? -1.0 : 2.0;
    switch (type) {
      case DataType::kFloat32:
        Put(static_cast<float>(value), i, bytes);
        break;
      case DataType::kFloat64:
        Put(value, i, bytes);
        break;
      case DataType::kInt32:
        Put(static_cast<int32_t>(random()), i, bytes);
        break;
      case DataType::kInt64:
        Put(static_cast<int64_t>(random()), i, bytes);
        break;
      case DataType::kUint8:
        Put(static_cast<uint8_t>(random()), i, bytes);
        break;
      default:
        Put(RoundScalar(type, static_cast<float>(value)), i, bytes);
    }
  }
  return bytes;
}

Case MakeCaseFrom(MakeVector make, Kind kind, DataType type, ReduceOp op, int64_t count, int ranks, int variant) {
  Case c = {kind, type, op, count};
  const uint64_t seed = Seed() + static_cast<uint64_t>(variant);
  std::vector<Bytes> vectors;
  const int leaves = kind == Kind::kAllReduceShards ? (c.shards = ranks + variant % 9) : ranks;
  const int64_t elements = kind == Kind::kReduceScatter ? count * ranks : count;
  for (int leaf = 0; leaf < leaves; ++leaf) {
    vectors.push_back(make(seed, variant, leaf, type, op, elements));
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

}  // namespace

Case MakeCase(Kind kind, DataType type, ReduceOp op, int64_t count, int ranks, int variant) {
  return MakeCaseFrom(AnyVector, kind, type, op, count, ranks, variant);
}

Case MakeExactCase(Kind kind, DataType type, ReduceOp op, int64_t count, int ranks, int variant) {
  return MakeCaseFrom(ExactVector, kind, type, op, count, ranks, variant);
}

void RunCases(Communicator& comm, const std::vector<Case>& cases, int64_t window_bytes, int mixed_by) {
  Buffers buffers(comm, Seed() + 1000 + static_cast<uint64_t>(comm.rank()), window_bytes);
  if (!buffers.complete()) return;
  int turn = 0;
  for (const Case& c : cases) {
    for (Where where : {Where::kWindow, Where::kPrivate, Where::kMixed}) {
      ++turn;
      const bool in_window = where == Where::kWindow || (where == Where::kMixed && comm.rank() / mixed_by % 2 == 0);
      const Style style = {where, turn % 2 == 0, turn % 5 < 2, turn % 3 == 0, in_window};
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
}

}  // namespace muster::test

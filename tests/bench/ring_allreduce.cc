// A ring all-reduce in the order of ranks, whatever the network is: what scripts/bench --only topology-links runs in two orders of nodes.
//
//   ring_allreduce [--bytes N] [--calls N]
//
// One rank a node. The algorithm is the textbook's (reduce-scatter around the ring, then all-gather; Patarasuk and Yuan, J. Parallel
// Distrib. Comput. 69 (2009) 117-124) over the transport that muster's own collectives use, which are none: those exchange pieces between
// all nodes. float32 sums, checked. Rank 0 writes one JSON object: ranks, bytes, calls, microseconds of each call.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "muster/session.h"
#include "muster/tensor.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/measure/rank_mesh.h"

namespace muster {
namespace {

constexpr int64_t kSegmentBytes = 256 << 10;
constexpr int kStreams = 2;

class Ring {
 public:
  Ring(Mesh& mesh, int rank, int ranks) : mesh_(mesh), rank_(rank), ranks_(ranks) {}

  absl::Status AllReduce(std::vector<float>* vector) {
    ++op_;
    const auto elements = static_cast<int64_t>(vector->size());
    const auto begin_of = [&](int chunk) { return elements * chunk / ranks_; };
    const auto chunk_at = [&](int steps_back) { return ((rank_ - steps_back) % ranks_ + ranks_) % ranks_; };
    for (int step = 0; step < 2 * (ranks_ - 1); ++step) {
      const bool reduces = step < ranks_ - 1;
      // First chunk rank - step leaves and rank - step - 1 comes; the second time round everything is one further.
      const int out = chunk_at(reduces ? step : step - ranks_), in = chunk_at(reduces ? step + 1 : step - ranks_ + 1);
      const int64_t out_begin = begin_of(out), out_end = begin_of(out + 1), in_begin = begin_of(in), in_end = begin_of(in + 1);
      scratch_.resize(static_cast<size_t>(in_end - in_begin));
      float* const into = reduces ? scratch_.data() : vector->data() + in_begin;
      MUSTER_RETURN_IF_ERROR(Move(vector->data() + out_begin, out_end - out_begin, into, in_end - in_begin));
      for (int64_t i = 0; reduces && i < in_end - in_begin; ++i) {
        (*vector)[static_cast<size_t>(in_begin + i)] += scratch_[static_cast<size_t>(i)];
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Move(const float* out, int64_t to_send, float* in, int64_t to_receive) {
    std::deque<MeshTransfer> transfers;
    const int next = (rank_ + 1) % ranks_, last = (rank_ + ranks_ - 1) % ranks_;
    const auto each = [](int64_t elements, const auto& post) {
      const int64_t bytes = elements * static_cast<int64_t>(sizeof(float));
      for (int64_t at = 0; at < bytes; at += kSegmentBytes) post(at, std::min(kSegmentBytes, bytes - at));
    };
    uint32_t received = segment_, sent = segment_;
    each(to_receive, [&](int64_t at, int64_t bytes) {
      mesh_.Receive(last, {op_, received++}, reinterpret_cast<char*>(in) + at, bytes, &transfers.emplace_back());
    });
    each(to_send, [&](int64_t at, int64_t bytes) {
      mesh_.Send(next, {op_, sent++}, reinterpret_cast<const char*>(out) + at, bytes, &transfers.emplace_back());
    });
    segment_ += 1024;
    const auto failure = mesh_.Progress(
        [&] { return std::all_of(transfers.begin(), transfers.end(), [](const MeshTransfer& one) { return one.done; }); },
        [] { return false; }, MonotonicNanoseconds() + int64_t{120} * 1'000'000'000, absl::ZeroDuration());
    return failure ? absl::UnavailableError(failure->text.empty() ? "a peer is lost" : failure->text) : absl::OkStatus();
  }

  Mesh& mesh_;
  const int rank_, ranks_;
  uint64_t op_ = 0;
  uint32_t segment_ = 0;
  std::vector<float> scratch_;
};

absl::Status Run(int64_t bytes, int64_t calls) {
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, Session::Create());
  Communicator& world = session->world();
  if (session->local_world_size() != 1 || world.world_size() < 2) {
    return absl::InvalidArgumentError("start one rank on each of two nodes or more");
  }
  const char* const master = std::getenv("MASTER_ADDR");
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Mesh> mesh,
                          ConnectRanks(world, master == nullptr ? "" : master, kStreams, absl::Now() + absl::Seconds(60)));
  Ring ring(*mesh, world.rank(), world.world_size());
  std::vector<float> vector(static_cast<size_t>(bytes) / sizeof(float));
  std::vector<int64_t> times_us;
  for (int64_t call = 0; call < calls; ++call) {
    for (size_t i = 0; i < vector.size(); ++i) vector[i] = static_cast<float>(world.rank() + static_cast<int>(i % 7));
    MUSTER_RETURN_IF_ERROR(world.Barrier());
    const int64_t begin = MonotonicNanoseconds();
    MUSTER_RETURN_IF_ERROR(ring.AllReduce(&vector));
    MUSTER_RETURN_IF_ERROR(world.Barrier());
    times_us.push_back((MonotonicNanoseconds() - begin) / 1000);
    const int ranks = world.world_size();
    for (size_t i = 0; i < vector.size(); ++i) {
      const auto expected = static_cast<float>(ranks * (ranks - 1) / 2 + ranks * static_cast<int>(i % 7));
      if (vector[i] != expected) return absl::DataLossError(absl::StrCat("element ", i, " is ", vector[i], ", not ", expected));
    }
  }
  if (world.rank() == 0) {
    std::printf("{\"ranks\": %d, \"bytes\": %lld, \"calls\": %lld, \"microseconds\": [%s]}\n", world.world_size(),
                static_cast<long long>(bytes), static_cast<long long>(calls), absl::StrJoin(times_us, ", ").c_str());
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  int64_t bytes = 16 << 20, calls = 3;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    int64_t* const target = flag == "--bytes" ? &bytes : flag == "--calls" ? &calls : nullptr;
    if (target == nullptr || ++i == argc || !absl::SimpleAtoi(argv[i], target) || *target < 1) {
      std::fprintf(stderr, "usage: ring_allreduce [--bytes N] [--calls N]\n");
      return 64;
    }
  }
  const absl::Status status = Run(bytes, calls);
  if (status.ok()) return 0;
  std::fprintf(stderr, "ring_allreduce: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }

// The least an all-reduce on this machine can take: every byte loaded once and stored once.
#ifndef MUSTER_RUNTIME_BENCH_FLOOR_H_
#define MUSTER_RUNTIME_BENCH_FLOOR_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "muster/communicator.h"
#include "runtime/base/fd.h"

namespace muster::bench {

// One vector a rank in memory that all ranks of the benchmark map, with plain loops over it. It shares nothing with the
// library's own shared memory, waiting or kernels, so that it measures the machine and not them. One thread.
//
// The ranks find each other's memory through /proc/PID/fd; all must be on one machine and in one PID namespace.
class Floor {
 public:
  // Collective. `bytes`: the largest vector; `crowded`: there are more ranks than cores. Leaves the communicator in order even
  // when it fails, on all ranks alike. Errors: Unavailable with the reason.
  static absl::StatusOr<std::unique_ptr<Floor>> Create(Communicator& communicator, int64_t bytes, bool crowded);
  ~Floor();
  Floor(const Floor&) = delete;
  Floor& operator=(const Floor&) = delete;

  // Writes the first `bytes` of this rank's vector.
  void Fill(int64_t bytes);

  // Adds this rank's slice of the first `bytes` of all vectors as 64-bit words and writes the sums into all of them. What is
  // added makes no difference to the memory.
  void Pass(int64_t bytes);

  // Returns when all ranks have called it: one line a rank, spun on, with sched_yield when the ranks outnumber the cores.
  // Errors: DeadlineExceeded after a minute.
  absl::Status Meet();

 private:
  struct Line {
    alignas(64) std::atomic<uint64_t> arrived{0};
  };
  static constexpr int64_t kHeaderBytes = 4096;

  Floor(int rank, int world_size, int64_t mapped_bytes, bool crowded)
      : rank_(rank), world_size_(world_size), mapped_bytes_(mapped_bytes), crowded_(crowded) {}
  absl::Status MapAll(Communicator& communicator);
  Line& line(int rank) { return *static_cast<Line*>(mappings_[rank]); }
  char* vector(int rank) { return static_cast<char*>(mappings_[rank]) + kHeaderBytes; }

  const int rank_;
  const int world_size_;
  const int64_t mapped_bytes_;
  const bool crowded_;  // more ranks than cores
  uint64_t meetings_ = 0;
  UniqueFd own_;
  std::vector<void*> mappings_;  // by rank; nullptr: none
  std::vector<char*> vectors_;
};

}  // namespace muster::bench

#endif  // MUSTER_RUNTIME_BENCH_FLOOR_H_

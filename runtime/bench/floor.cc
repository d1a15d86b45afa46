#include "runtime/bench/floor.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/bench/floor_pass.h"

namespace muster::bench {
namespace {

absl::StatusOr<UniqueFd> MakeMemory(int64_t bytes) {
  UniqueFd fd(memfd_create("muster-bench-floor", MFD_CLOEXEC));
  if (!fd) return ErrnoToStatus(errno, "memfd_create");
  // Reserves the pages, so that a limit shows here and not as a signal at the first touch.
  if (const int error = posix_fallocate(fd.get(), 0, bytes); error != 0) {
    return ErrnoToStatus(error, absl::StrCat("posix_fallocate of ", bytes, " bytes"));
  }
  return fd;
}

absl::StatusOr<void*> MapMemory(int fd, int64_t bytes) {
  void* const memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return ErrnoToStatus(errno, absl::StrCat("mmap of ", bytes, " bytes"));
  return memory;
}

absl::StatusOr<void*> MapMemoryOf(int64_t pid, int64_t descriptor, int64_t bytes) {
  const std::string path = absl::StrCat("/proc/", pid, "/fd/", descriptor);
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  return MapMemory(fd.get(), bytes);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Floor>> Floor::Create(Communicator& communicator, int64_t bytes, bool crowded) {
  const int64_t mapped_bytes = kHeaderBytes + (bytes + 4095) / 4096 * 4096;
  std::unique_ptr<Floor> floor(new Floor(communicator.rank(), communicator.world_size(), mapped_bytes, crowded));
  const absl::Status status = floor->MapAll(communicator);
  int32_t failed = status.ok() ? 0 : 1;
  MUSTER_RETURN_IF_ERROR(communicator.AllReduce(MakeTensor(&failed, 1), ReduceOp::kMax));
  if (failed == 0) return floor;
  return absl::UnavailableError(
      absl::StrCat("no floor: ", status.ok() ? "another rank could not share memory" : status.message()));
}

Floor::~Floor() {
  for (void* const mapping : mappings_) {
    if (mapping != nullptr) munmap(mapping, static_cast<size_t>(mapped_bytes_));
  }
}

// Every rank takes part in the exchange, its own memory or not, so that none is left waiting.
absl::Status Floor::MapAll(Communicator& communicator) {
  auto memory = MakeMemory(mapped_bytes_);
  if (memory.ok()) own_ = *std::move(memory);
  const int64_t mine[2] = {getpid(), own_.get()};
  std::vector<int64_t> all(2 * static_cast<size_t>(world_size_));
  MUSTER_RETURN_IF_ERROR(communicator.AllGather({mine, 2, DataType::kInt64}, MakeTensor(all.data(), 2 * world_size_)));
  MUSTER_RETURN_IF_ERROR(memory.status());

  mappings_.assign(static_cast<size_t>(world_size_), nullptr);
  for (int rank = 0; rank < world_size_; ++rank) {
    auto mapping =
        rank == rank_ ? MapMemory(own_.get(), mapped_bytes_) : MapMemoryOf(all[2 * rank], all[2 * rank + 1], mapped_bytes_);
    if (!mapping.ok()) return mapping.status();
    mappings_[rank] = *mapping;
    vectors_.push_back(vector(rank));
  }
  return absl::OkStatus();
}

void Floor::Fill(int64_t bytes) { std::memset(vector(rank_), rank_ + 1, static_cast<size_t>(bytes)); }

void Floor::Pass(int64_t bytes) {
  const int64_t lines = (bytes + 63) / 64;
  const int64_t first = lines * rank_ / world_size_, end = lines * (rank_ + 1) / world_size_;
  FloorPass(vectors_.data(), world_size_, 64 * first, 64 * end);
}

absl::Status Floor::Meet() {
  const uint64_t meeting = ++meetings_;
  line(rank_).arrived.store(meeting, std::memory_order_release);
  for (int rank = 0; rank < world_size_; ++rank) {
    int64_t deadline = 0;
    for (int64_t looks = 1; line(rank).arrived.load(std::memory_order_acquire) < meeting; ++looks) {
      if (crowded_ || looks % 4096 == 0) sched_yield();
      if (looks % 4096 != 0) continue;
      const int64_t now = MonotonicNanoseconds();
      if (deadline == 0) deadline = now + 60'000'000'000;
      if (now > deadline)
        return absl::DeadlineExceededError(absl::StrCat("rank ", rank, " did not meet the others within 60 s"));
    }
  }
  return absl::OkStatus();
}

}  // namespace muster::bench

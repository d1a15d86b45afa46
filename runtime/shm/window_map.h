// The windows a rank has mapped, its own and its peers', and finding a buffer in them.
#ifndef MUSTER_RUNTIME_SHM_WINDOW_MAP_H_
#define MUSTER_RUNTIME_SHM_WINDOW_MAP_H_

#include <sys/types.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/fd.h"
#include "runtime/base/mutex.h"

namespace muster {

// A shared mapping of a whole descriptor, not inherited by fork. Unmapped when destroyed, except in a forked child, where
// something else may have taken its place.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept { *this = std::move(other); }
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  static absl::StatusOr<Mapping> Map(int fd, int64_t bytes);

  // Memory that somebody else owns and outlives the mapping: ranks that are threads may share one.
  static Mapping Borrow(char* data, int64_t bytes);

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
  pid_t owner_ = 0;  // the process that mapped it; 0: borrowed
};

// What the kernel says could be had now without swapping (MemAvailable of /proc/meminfo); INT64_MAX if it says nothing.
int64_t AvailableMemoryBytes();

// A memfd of `bytes` zeros whose pages are all there, sealed against growing and shrinking, so that no later access can fault.
// Errors: ResourceExhausted when the memory cannot be had. More than is available is refused beforehand: the kernel would kill
// processes before it fails such an allocation.
absl::StatusOr<UniqueFd> CreateSealedMemory(const char* name, int64_t bytes);

// Any thread.
class WindowMap {
 public:
  struct Location {
    uint32_t window = v1::kPrivateMemory;
    uint64_t offset = 0;
  };

  // `mappings` by local rank, this rank's own included.
  void Add(uint32_t window, int local_rank, std::vector<Mapping> mappings);
  void Remove(uint32_t window);

  // Where [data, data + bytes) lies if it is wholly in one of this rank's own windows.
  Location Find(const void* data, int64_t bytes) const;

  // The memory of `window` by local rank. Valid until Remove.
  std::vector<char*> Bases(uint32_t window) const;

  // This rank's own windows, added up.
  int64_t own_bytes() const;

 private:
  struct Entry {
    uint32_t window;
    int local_rank;
    std::vector<Mapping> mappings;
    const Mapping& own() const { return mappings[static_cast<size_t>(local_rank)]; }
  };

  mutable Mutex mutex_;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_WINDOW_MAP_H_

#include "runtime/shm/window_map.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/sealed_memory.h"
#include "runtime/base/status.h"

namespace muster {

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(owner_, other.owner_);
  return *this;
}

Mapping::~Mapping() {
  if (owner_ != 0 && owner_ == ::getpid()) ::munmap(data_, static_cast<size_t>(bytes_));
}

absl::StatusOr<Mapping> Mapping::Map(int fd, int64_t bytes) {
  void* data = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return ErrnoToStatus(errno, absl::StrCat("map a window of ", bytes, " bytes"));
  // A forked child that touched the memory could corrupt a running collective. Huge pages are a wish; the kernel may refuse.
  ::madvise(data, static_cast<size_t>(bytes), MADV_DONTFORK);
  ::madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  Mapping mapping = Borrow(static_cast<char*>(data), bytes);
  mapping.owner_ = ::getpid();
  return mapping;
}

Mapping Mapping::Borrow(char* data, int64_t bytes) {
  Mapping mapping;
  mapping.data_ = data;
  mapping.bytes_ = bytes;
  return mapping;
}

int64_t AvailableMemoryBytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  int64_t kibibytes;
  std::string rest;
  while (meminfo >> key >> kibibytes && std::getline(meminfo, rest)) {
    if (key == "MemAvailable:") return kibibytes * 1024;
  }
  return std::numeric_limits<int64_t>::max();
}

absl::StatusOr<UniqueFd> CreateSealedMemory(const char* name, int64_t bytes) {
  const int64_t available = AvailableMemoryBytes();
  if (bytes > available) {
    return absl::ResourceExhaustedError(absl::StrCat(bytes, " bytes of shared memory, but only ", available, " are available"));
  }
  return MakeSealedMemory(name, bytes);
}

void WindowMap::Add(uint32_t window, int local_rank, std::vector<Mapping> mappings) {
  MutexLock lock(mutex_);
  entries_.push_back({window, local_rank, std::move(mappings)});
}

void WindowMap::Remove(uint32_t window) {
  MutexLock lock(mutex_);
  std::erase_if(entries_, [window](const Entry& entry) { return entry.window == window; });
}

WindowMap::Location WindowMap::Find(const void* data, int64_t bytes) const {
  MutexLock lock(mutex_);
  const auto address = reinterpret_cast<uintptr_t>(data);
  for (const Entry& entry : entries_) {
    const auto begin = reinterpret_cast<uintptr_t>(entry.own().data());
    if (address >= begin && address - begin + static_cast<uint64_t>(bytes) <= static_cast<uint64_t>(entry.own().bytes())) {
      return {entry.window, address - begin};
    }
  }
  return {};
}

std::vector<char*> WindowMap::Bases(uint32_t window) const {
  MutexLock lock(mutex_);
  std::vector<char*> bases;
  for (const Entry& entry : entries_) {
    if (entry.window != window) continue;
    for (const Mapping& mapping : entry.mappings) bases.push_back(mapping.data());
  }
  return bases;
}

int64_t WindowMap::own_bytes() const {
  MutexLock lock(mutex_);
  int64_t bytes = 0;
  for (const Entry& entry : entries_) bytes += entry.own().bytes();
  return bytes;
}

}  // namespace muster

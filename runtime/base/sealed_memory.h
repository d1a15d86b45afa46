// Memory that processes share by passing its descriptor: a memfd that nobody can shrink or grow.
#ifndef MUSTER_RUNTIME_BASE_SEALED_MEMORY_H_
#define MUSTER_RUNTIME_BASE_SEALED_MEMORY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/fd.h"

namespace muster {

// A close-on-exec memfd of `bytes` zeros, allocated and sealed against a change of size, so that no mapping of it can fault
// later. Errors: ResourceExhausted (no memory for it).
absl::StatusOr<UniqueFd> MakeSealedMemory(const char* name, int64_t bytes);

// InvalidArgument unless `fd` is a memfd of at least `bytes` that is sealed against a change of size. For descriptors from
// others.
absl::Status CheckSealedMemory(int fd, int64_t bytes);

// Maps the first `bytes` for reading and writing. A child made by fork() does not have the mapping. Unmap with munmap.
absl::StatusOr<void*> MapSharedMemory(int fd, int64_t bytes);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_SEALED_MEMORY_H_

#include "runtime/base/sealed_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

}  // namespace

absl::StatusOr<UniqueFd> MakeSealedMemory(const char* name, int64_t bytes) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return ErrnoToStatus(errno, absl::StrCat("memfd_create ", name));
  int error;  // posix_fallocate sets no errno
  do {
    error = ::posix_fallocate(fd.get(), 0, bytes);
  } while (error == EINTR);
  if (error == EFBIG) error = ENOMEM;  // more than a file may hold at all
  if (error != 0) return ErrnoToStatus(error, absl::StrCat("allocate ", bytes, " bytes of shared memory for ", name));
  if (::fcntl(fd.get(), F_ADD_SEALS, kSizeSeals | F_SEAL_SEAL) != 0) return ErrnoToStatus(errno, absl::StrCat("seal ", name));
  return fd;
}

absl::Status CheckSealedMemory(int fd, int64_t bytes) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSizeSeals) != kSizeSeals) {
    return absl::InvalidArgumentError("the descriptor is not a memfd sealed against a change of size");
  }
  struct stat status;
  if (::fstat(fd, &status) != 0) return ErrnoToStatus(errno, "fstat a shared memory");
  if (status.st_size < bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a shared memory of ", status.st_size, " bytes where ", bytes, " are needed"));
  }
  return absl::OkStatus();
}

absl::StatusOr<void*> MapSharedMemory(int fd, int64_t bytes) {
  const size_t size = static_cast<size_t>(bytes);
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return ErrnoToStatus(errno, absl::StrCat("map ", bytes, " bytes of shared memory"));
  if (::madvise(memory, size, MADV_DONTFORK) != 0) {
    const absl::Status error = ErrnoToStatus(errno, "madvise MADV_DONTFORK");
    ::munmap(memory, size);
    return error;
  }
  return memory;
}

}  // namespace muster

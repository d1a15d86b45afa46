#include "runtime/backend/native/local_control.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/muster/v1/waiting_policy.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// Empty if the kernel will not tell.
v1::ProcessorMask OwnMask() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return {};
  v1::ProcessorMask mask(CPU_SETSIZE / 64);
  for (size_t c = 0; c < CPU_SETSIZE; ++c) {
    if (CPU_ISSET(c, &set)) mask[c / 64] |= uint64_t{1} << (c % 64);
  }
  return mask;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalControl>> LocalControl::Create(uint64_t generation, int ranks, uint32_t slot_bytes,
                                                                   uint32_t staging_bytes) {
  if (ranks < 1 || ranks > v1::kLocalRanksMax) {
    return absl::InvalidArgumentError(absl::StrCat(ranks, " ranks on one node: 1 to ", v1::kLocalRanksMax, " are possible"));
  }
  const size_t bytes = v1::ControlMemoryBytes(static_cast<uint32_t>(ranks), slot_bytes, staging_bytes);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoToStatus(errno, absl::StrCat("map ", bytes, " bytes of control memory"));
  ::madvise(memory, bytes, MADV_DONTFORK);
  const uint8_t no_job[16] = {};
  v1::ControlHeader* header = v1::FormatControlMemory(memory, generation, no_job, static_cast<uint32_t>(ranks),
                                                      static_cast<uint32_t>(ranks), slot_bytes, staging_bytes);
  v1::StoreWaitingAdvice(v1::AdviseWaiting(std::vector<v1::ProcessorMask>(static_cast<size_t>(ranks), OwnMask()), 0),
                         header->waiting);
  return std::unique_ptr<LocalControl>(new LocalControl(memory, bytes));
}

LocalControl::~LocalControl() { ::munmap(memory_, bytes_); }

}  // namespace muster

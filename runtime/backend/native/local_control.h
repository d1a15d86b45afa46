// Control memory without an agent: a world of one, and ranks that are threads of one process.
#ifndef MUSTER_RUNTIME_BACKEND_NATIVE_LOCAL_CONTROL_H_
#define MUSTER_RUNTIME_BACKEND_NATIVE_LOCAL_CONTROL_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "proto/muster/v1/control_memory.h"

namespace muster {

// Owns the memory; outlives the communicators made on it.
class LocalControl {
 public:
  // For `ranks` ranks that all may run on the calling thread's processors.
  // Errors: InvalidArgument (ranks, or buffers too small for them), ResourceExhausted.
  static absl::StatusOr<std::unique_ptr<LocalControl>> Create(uint64_t generation, int ranks,
                                                              uint32_t slot_bytes = v1::kSlotBytes,
                                                              uint32_t staging_bytes = v1::kStagingBytes);
  ~LocalControl();
  LocalControl(const LocalControl&) = delete;
  LocalControl& operator=(const LocalControl&) = delete;

  v1::ControlHeader* header() const { return static_cast<v1::ControlHeader*>(memory_); }

 private:
  LocalControl(void* memory, size_t bytes) : memory_(memory), bytes_(bytes) {}

  void* memory_;
  size_t bytes_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NATIVE_LOCAL_CONTROL_H_

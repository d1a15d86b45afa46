// Memory that NCCL or the device's copies move fastest.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_WINDOW_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_WINDOW_H_

#include <cstdint>
#include <memory>

#include "muster/window.h"
#include "runtime/backend/nccl/nccl_handle.h"
#include "runtime/backend/nccl/nccl_watch.h"

namespace muster {

enum class NcclWindowKind { kPinned, kDevice };

// What a window needs of its communicator, which it may outlive.
struct NcclWindowHome {
  std::shared_ptr<NcclApi> nccl;
  std::shared_ptr<CudaApi> cuda;
  std::shared_ptr<NcclHandle> handle;
  MustEnd must_end;
  int device = 0;
};

class NcclMemoryWindow : public Window {
 public:
  // Zeroed. Null: there is no memory.
  static std::unique_ptr<NcclMemoryWindow> Allocate(NcclWindowHome home, NcclWindowKind kind, int64_t bytes);
  ~NcclMemoryWindow() override;

  // Collective, of a device window. Tells NCCL of it, as well as the library can; NCCL's code. What a library or machine does not take
  // is no error: such memory is used as any other.
  int Register();

  void* data() override { return memory_; }
  int64_t bytes() const override { return bytes_; }

 private:
  NcclMemoryWindow(NcclWindowHome home, NcclWindowKind kind, int64_t bytes)
      : home_(std::move(home)), kind_(kind), bytes_(bytes) {}
  bool Make();

  const NcclWindowHome home_;
  const NcclWindowKind kind_;
  const int64_t bytes_;
  void* memory_ = nullptr;
  NcclWindow window_ = nullptr;
  void* registered_ = nullptr;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_WINDOW_H_

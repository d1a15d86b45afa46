// Windows: device memory that NCCL moves without a copy, and the native backend's, which the device's copies move fastest.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_WINDOW_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_WINDOW_H_

#include <cstdint>
#include <memory>

#include "muster/window.h"
#include "runtime/backend/nccl/nccl_handle.h"
#include "runtime/backend/nccl/nccl_watch.h"

namespace muster {

// What a window needs of its communicator, which it may outlive.
struct NcclWindowHome {
  std::shared_ptr<NcclApi> nccl;
  std::shared_ptr<CudaApi> cuda;
  std::shared_ptr<NcclHandle> handle;
  MustEnd must_end;
  int device = 0;
};

class NcclDeviceWindow : public Window {
 public:
  // Zeroed. Null: there is no memory.
  static std::unique_ptr<NcclDeviceWindow> Allocate(NcclWindowHome home, int64_t bytes);
  ~NcclDeviceWindow() override;

  // Collective. Tells NCCL of it, as well as the library can; NCCL's code. What a library or machine does not take is no error: such
  // memory is used as any other.
  int Register();

  void* data() override { return memory_; }
  int64_t bytes() const override { return bytes_; }

 private:
  NcclDeviceWindow(NcclWindowHome home, int64_t bytes) : home_(std::move(home)), bytes_(bytes) {}
  bool Make();

  const NcclWindowHome home_;
  const int64_t bytes_;
  void* memory_ = nullptr;
  NcclWindow window_ = nullptr;
  void* registered_ = nullptr;
};

// A window of the native communicator, pinned where the system lets it be.
class NcclHostWindow : public Window {
 public:
  NcclHostWindow(NcclWindowHome home, std::unique_ptr<Window> native);
  ~NcclHostWindow() override;

  void* data() override { return native_->data(); }
  int64_t bytes() const override { return native_->bytes(); }

 private:
  const NcclWindowHome home_;
  std::unique_ptr<Window> native_;
  bool is_pinned_ = false;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_WINDOW_H_

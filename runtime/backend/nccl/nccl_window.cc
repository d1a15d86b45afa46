#include "runtime/backend/nccl/nccl_window.h"

#include <utility>

namespace muster {
namespace {

// Whole pages, as registering wants them.
int64_t WholePages(int64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

}  // namespace

std::unique_ptr<NcclDeviceWindow> NcclDeviceWindow::Allocate(NcclWindowHome home, int64_t bytes) {
  std::unique_ptr<NcclDeviceWindow> window(new NcclDeviceWindow(std::move(home), bytes));
  if (!window->Make()) return nullptr;
  return window;
}

bool NcclDeviceWindow::Make() {
  CudaApi& cuda = *home_.cuda;
  const int64_t whole = WholePages(bytes_);
  if (cuda.SetDevice(home_.device) != kCudaOk) return false;
  const int code = home_.nccl->powers().allocates ? home_.nccl->Allocate(&memory_, whole) : cuda.Allocate(&memory_, whole);
  if (code != kNcclOk) {
    memory_ = nullptr;
    return false;
  }
  CudaStream stream = nullptr;
  if (cuda.MakeStream(&stream) != kCudaOk) return false;
  const bool zeroed = cuda.Zero(memory_, whole, stream) == kCudaOk && cuda.Synchronize(stream) == kCudaOk;
  cuda.DestroyStream(stream);
  return zeroed;
}

int NcclDeviceWindow::Register() {
  NcclApi& nccl = *home_.nccl;
  const NcclPowers& powers = nccl.powers();
  const int code = home_.handle->Call([&](NcclComm comm) {
    if (powers.has_windows) return nccl.RegisterWindow(comm, memory_, WholePages(bytes_), &window_);
    if (powers.registers) return nccl.Register(comm, memory_, WholePages(bytes_), &registered_);
    return kNcclOk;
  });
  const bool not_taken = code == kNcclInvalidArgument || code == kNcclInvalidUsage;
  return not_taken ? kNcclOk : code;
}

NcclDeviceWindow::~NcclDeviceWindow() {
  if (memory_ == nullptr || home_.must_end->load()) return;  // somebody may still write to it
  static_cast<void>(home_.cuda->SetDevice(home_.device));
  home_.handle->Call([this](NcclComm comm) {
    if (window_ != nullptr) home_.nccl->DeregisterWindow(comm, window_);
    if (registered_ != nullptr) home_.nccl->Deregister(comm, registered_);
    return kNcclOk;
  });
  if (home_.nccl->powers().allocates) {
    home_.nccl->Free(memory_);
  } else {
    home_.cuda->Free(memory_);
  }
}

NcclHostWindow::NcclHostWindow(NcclWindowHome home, std::unique_ptr<Window> native)
    : home_(std::move(home)), native_(std::move(native)) {
  is_pinned_ = home_.cuda->SetDevice(home_.device) == kCudaOk &&
               home_.cuda->Pin(native_->data(), WholePages(native_->bytes())) == kCudaOk;
}

NcclHostWindow::~NcclHostWindow() {
  if (!is_pinned_) return;
  if (home_.must_end->load()) {  // a copy of the caller's that hangs may still use it, and unpinning would wait for that
    static_cast<void>(native_.release());
    return;
  }
  static_cast<void>(home_.cuda->Unpin(native_->data()));
}

}  // namespace muster

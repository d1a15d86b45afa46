#include "runtime/backend/nccl/nccl_window.h"

#include <cstring>
#include <utility>

namespace muster {
namespace {

// Whole pages, as registering wants them.
int64_t WholePages(int64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

}  // namespace

std::unique_ptr<NcclMemoryWindow> NcclMemoryWindow::Allocate(NcclWindowHome home, NcclWindowKind kind, int64_t bytes) {
  std::unique_ptr<NcclMemoryWindow> window(new NcclMemoryWindow(std::move(home), kind, bytes));
  if (!window->Make()) return nullptr;
  return window;
}

bool NcclMemoryWindow::Make() {
  CudaApi& cuda = *home_.cuda;
  const int64_t whole = WholePages(bytes_);
  if (cuda.SetDevice(home_.device) != kCudaOk) return false;
  if (kind_ == NcclWindowKind::kPinned) {
    if (cuda.AllocateHost(&memory_, whole) != kCudaOk) return false;
    std::memset(memory_, 0, static_cast<size_t>(whole));
    return true;
  }
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

int NcclMemoryWindow::Register() {
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

NcclMemoryWindow::~NcclMemoryWindow() {
  if (memory_ == nullptr || home_.must_end->load()) return;  // somebody may still write to it
  static_cast<void>(home_.cuda->SetDevice(home_.device));
  home_.handle->Call([this](NcclComm comm) {
    if (window_ != nullptr) home_.nccl->DeregisterWindow(comm, window_);
    if (registered_ != nullptr) home_.nccl->Deregister(comm, registered_);
    return kNcclOk;
  });
  if (kind_ == NcclWindowKind::kPinned) {
    home_.cuda->FreeHost(memory_);
  } else if (home_.nccl->powers().allocates) {
    home_.nccl->Free(memory_);
  } else {
    home_.cuda->Free(memory_);
  }
}

}  // namespace muster

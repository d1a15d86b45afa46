#include "runtime/training/gpu.h"

#include <sys/mman.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int kCudaOutOfMemory = 2;

}  // namespace

absl::Status Gpu::Check(int code, absl::string_view doing) const {
  if (code == kCudaOk) return absl::OkStatus();
  char text[256] = {};
  cuda->ErrorText(code, text, sizeof(text));
  return absl::InternalError(absl::StrCat("cannot ", doing, " on GPU ", device, ": ", text));
}

absl::Status Gpu::Use() const { return Check(cuda->SetDevice(device), "go on"); }

GpuStream::~GpuStream() {
  if (stream_ != nullptr && gpu_.Use().ok()) static_cast<void>(gpu_.cuda->DestroyStream(stream_));
}

absl::Status GpuStream::Make() {
  MUSTER_RETURN_IF_ERROR(gpu_.Use());
  return gpu_.Check(gpu_.cuda->MakeStream(&stream_), "make a stream");
}

absl::Status GpuStream::Copy(void* to, const void* from, int64_t floats) const {
  MUSTER_RETURN_IF_ERROR(gpu_.Use());
  return gpu_.Check(gpu_.cuda->Copy(to, from, floats * kFloatBytes, stream_), "copy memory");
}

absl::Status GpuStream::Zero(void* memory, int64_t floats) const {
  MUSTER_RETURN_IF_ERROR(gpu_.Use());
  return gpu_.Check(gpu_.cuda->Zero(memory, floats * kFloatBytes, stream_), "zero memory");
}

absl::Status GpuStream::Synchronize() const {
  MUSTER_RETURN_IF_ERROR(gpu_.Use());
  return gpu_.Check(gpu_.cuda->Synchronize(stream_), "finish the work");
}

GpuEvent::~GpuEvent() {
  if (event_ != nullptr) static_cast<void>(gpu_.cuda->DestroyEvent(event_));
}

absl::Status GpuEvent::Make() {
  MUSTER_RETURN_IF_ERROR(gpu_.Use());
  return gpu_.Check(gpu_.cuda->MakeEvent(&event_), "make an event");
}

absl::Status GpuEvent::Record(const GpuStream& stream) const {
  MUSTER_RETURN_IF_ERROR(gpu_.Use());
  return gpu_.Check(gpu_.cuda->Record(event_, stream.get()), "record an event");
}

absl::Status GpuEvent::AwaitOn(const GpuStream& stream) const {
  MUSTER_RETURN_IF_ERROR(gpu_.Use());
  return gpu_.Check(gpu_.cuda->StreamWait(stream.get(), event_), "wait for an event");
}

GpuFloats::~GpuFloats() {
  if (memory_ != nullptr && gpu_.Use().ok()) static_cast<void>(gpu_.cuda->Free(memory_));
}

absl::Status GpuFloats::Make(int64_t floats, const GpuStream& stream) {
  floats = std::max<int64_t>(floats, 1);
  MUSTER_RETURN_IF_ERROR(gpu_.Use());
  const int code = gpu_.cuda->Allocate(&memory_, floats * kFloatBytes);
  if (code == kCudaOutOfMemory) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "GPU %d has no room for %d bytes of parameters, moments or gradients; train a smaller model, or end what else uses it "
        "(nvidia-smi)",
        gpu_.device, floats * kFloatBytes));
  }
  MUSTER_RETURN_IF_ERROR(gpu_.Check(code, "allocate memory"));
  return stream.Zero(memory_, floats);
}

LazyPages::LazyPages(int64_t bytes) : bytes_(static_cast<size_t>(std::max<int64_t>(bytes, 1))) {
  memory_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  MUSTER_CHECK(memory_ != MAP_FAILED, "address space for the host's copy of a device's memory");
}

LazyPages::~LazyPages() { ::munmap(memory_, bytes_); }

}  // namespace muster

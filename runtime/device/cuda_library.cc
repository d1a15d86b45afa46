#include "runtime/device/cuda_library.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"
#include "runtime/device/cuda_functions.h"
#include "runtime/device/library_search.h"

namespace muster {
namespace {

// Numbers of the runtime's enumerations, the same since CUDA 11.
// Source: driver_types.h.
constexpr int kNotReady = 600;
constexpr int kInvalidValue = 1;
constexpr int kMemcpyDefault = 4;  // the direction follows from the addresses
constexpr unsigned kStreamNonBlocking = 1;
constexpr unsigned kEventDisableTiming = 2;
constexpr unsigned kHostRegisterPortable = 1;  // for every device
constexpr int kMemoryHost = 1;
constexpr int kMemoryDevice = 2;

struct Functions {
#define MUSTER_MEMBER(name, type) std::type_identity_t<type> name = nullptr;
  MUSTER_CUDA_FUNCTIONS(MUSTER_MEMBER)
#undef MUSTER_MEMBER
};

class CudaLibrary : public CudaApi {
 public:
  explicit CudaLibrary(const Functions& functions) : f_(functions) {}

  int DeviceCount(int* count) override {
    *count = 0;
    const int code = Told(f_.cudaGetDeviceCount(count));
    if (code != kCudaOk) *count = 0;
    return code;
  }
  int SetDevice(int device) override { return Told(f_.cudaSetDevice(device)); }
  int GetDevice(int* device) override { return Told(f_.cudaGetDevice(device)); }
  int BusId(int device, char* text, size_t bytes) override {
    return Told(f_.cudaDeviceGetPCIBusId(text, static_cast<int>(bytes), device));
  }

  int Allocate(void** memory, int64_t bytes) override { return Told(f_.cudaMalloc(memory, static_cast<size_t>(bytes))); }
  int Free(void* memory) override { return Told(f_.cudaFree(memory)); }
  int AllocateHost(void** memory, int64_t bytes) override {
    return Told(f_.cudaMallocHost(memory, static_cast<size_t>(bytes)));
  }
  int FreeHost(void* memory) override { return Told(f_.cudaFreeHost(memory)); }
  int Pin(void* memory, int64_t bytes) override {
    return Told(f_.cudaHostRegister(memory, static_cast<size_t>(bytes), kHostRegisterPortable));
  }
  int Unpin(void* memory) override { return Told(f_.cudaHostUnregister(memory)); }

  int KindOf(const void* pointer, MemoryKind* kind, int* device) override {
    CudaPointerAttributes attributes;
    int code = Told(f_.cudaPointerGetAttributes(&attributes, pointer));
    if (code == kInvalidValue) {  // CUDA 10 and older, of memory they do not know
      attributes = {};
      code = kCudaOk;
    }
    *kind = attributes.type == kMemoryDevice ? MemoryKind::kDevice
            : attributes.type == kMemoryHost ? MemoryKind::kPinned
                                             : MemoryKind::kHost;
    *device = attributes.device;
    return code;
  }

  int MakeStream(CudaStream* stream) override { return Told(f_.cudaStreamCreateWithFlags(stream, kStreamNonBlocking)); }
  int DestroyStream(CudaStream stream) override { return Told(f_.cudaStreamDestroy(stream)); }
  int Copy(void* to, const void* from, int64_t bytes, CudaStream stream) override {
    if (stream == nullptr) return kInvalidValue;
    return Told(f_.cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kMemcpyDefault, stream));
  }
  int Zero(void* memory, int64_t bytes, CudaStream stream) override {
    if (stream == nullptr) return kInvalidValue;
    return Told(f_.cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), stream));
  }

  int MakeEvent(CudaEvent* event) override { return Told(f_.cudaEventCreateWithFlags(event, kEventDisableTiming)); }
  int DestroyEvent(CudaEvent event) override { return Told(f_.cudaEventDestroy(event)); }
  int Record(CudaEvent event, CudaStream stream) override {
    return stream == nullptr ? kInvalidValue : Told(f_.cudaEventRecord(event, stream));
  }
  int EventDone(CudaEvent event, bool* done) override { return Done(f_.cudaEventQuery(event), done); }
  int StreamWait(CudaStream stream, CudaEvent event) override {
    return stream == nullptr ? kInvalidValue : Told(f_.cudaStreamWaitEvent(stream, event, 0));
  }
  int StreamDone(CudaStream stream, bool* done) override {
    return stream == nullptr ? kInvalidValue : Done(f_.cudaStreamQuery(stream), done);
  }
  int Synchronize(CudaStream stream) override {
    return stream == nullptr ? kInvalidValue : Told(f_.cudaStreamSynchronize(stream));
  }

  void ErrorText(int code, char* text, size_t bytes) override {
    std::snprintf(text, bytes, "%s (%s)", f_.cudaGetErrorString(code), f_.cudaGetErrorName(code));
  }
  int Versions(int* runtime, int* driver) override {
    *runtime = *driver = 0;
    const int code = Told(f_.cudaRuntimeGetVersion(runtime));
    return code != kCudaOk ? code : Told(f_.cudaDriverGetVersion(driver));
  }

 private:
  // The runtime keeps a thread's last error for whoever asks: who was told has no need of it, and the user's own code must not find it.
  int Told(int code) {
    if (code != kCudaOk) f_.cudaGetLastError();
    return code;
  }
  int Done(int code, bool* done) {
    *done = code == kCudaOk;
    return Told(code) == kNotReady ? kCudaOk : code;
  }

  const Functions f_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<CudaApi>> OpenCudaLibrary(const std::string& path,
                                                         absl::FunctionRef<const char*(const char*)> variable) {
  LibrarySearch search;
  search.what = "the CUDA runtime";
  search.variable = "MUSTER_CUDA_LIBRARY";
  search.chosen = path;
  search.names = {"libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"};
  search.wheels = {"nvidia/cu13/lib", "nvidia/cuda_runtime/lib"};
  search.remedy = "install the CUDA runtime (NVIDIA's package cuda-cudart, or pip install nvidia-cuda-runtime)";
  MUSTER_ASSIGN_OR_RETURN(const OpenedLibrary library, OpenLibrary(search, variable));
  Functions functions;
  std::string missing;
#define MUSTER_BIND(name, type)                                                                \
  functions.name = reinterpret_cast<decltype(functions.name)>(::dlsym(library.handle, #name)); \
  if (functions.name == nullptr && missing.empty()) missing = #name;
  MUSTER_CUDA_FUNCTIONS(MUSTER_BIND)
#undef MUSTER_BIND
  if (!missing.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("the CUDA runtime ", library.file, " has no ", missing,
                                                      "; install CUDA 11 or later, or name another file in ", search.variable));
  }
  return std::make_shared<CudaLibrary>(functions);
}

absl::StatusOr<std::shared_ptr<CudaApi>> OpenCudaLibrary(const std::string& path) {
  return OpenCudaLibrary(path, [](const char* name) -> const char* { return std::getenv(name); });
}

absl::StatusOr<int> UsableGpus(CudaApi& cuda) {
  int count = 0;
  const int code = cuda.DeviceCount(&count);
  if (code == kCudaOk && count > 0) return count;
  int runtime = 0, driver = 0;
  static_cast<void>(cuda.Versions(&runtime, &driver));
  if (driver == 0) {
    return absl::FailedPreconditionError(
        "no GPU can be used: NVIDIA's driver (libcuda.so.1) is not here; install it, or in a container start it with the GPUs "
        "(docker run --gpus all)");
  }
  if (code == kCudaInsufficientDriver) {
    return absl::FailedPreconditionError(absl::StrCat(
        "no GPU can be used: the driver is for CUDA ", driver / 1000, ".", driver % 1000 / 10, ", the CUDA runtime here is ",
        runtime / 1000, ".", runtime % 1000 / 10, "; install a newer driver or an older runtime (MUSTER_CUDA_LIBRARY)"));
  }
  if (code == kCudaOk || code == kCudaNoDevice) {
    return absl::FailedPreconditionError(
        "no GPU can be used: the driver sees none; look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES");
  }
  char words[200] = "";
  cuda.ErrorText(code, words, sizeof words);
  return absl::FailedPreconditionError(absl::StrCat("no GPU can be used: ", words, "; look at `nvidia-smi`"));
}

}  // namespace muster

// GPUs in host memory: a thread runs each stream. Can fail, hang, and be missing.
#ifndef MUSTER_TESTS_SUPPORT_FAKE_CUDA_H_
#define MUSTER_TESTS_SUPPORT_FAKE_CUDA_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/base/mutex.h"
#include "runtime/device/cuda_api.h"

namespace muster::test {

struct FakeCudaOptions {
  int devices = 1;                          // 0: calls that need one return kCudaNoDevice
  int driver = 13000;                       // 0: there is none
  int64_t device_bytes = int64_t{1} << 40;  // what Allocate gives out on a device
  // Asked at each call with the method's name; a code that is not kCudaOk is returned instead of calling.
  std::function<int(const std::string& call, int device)> fails;
};

// A pointer to device memory is an address that nothing can be read from or written to; HostView gives the memory behind it. Copies
// and what Enqueue adds run on the stream's thread, later. What a real runtime would answer with a crash or a wait for ever ends the
// test: null streams, memory that is not there, freeing while a stream hangs.
class FakeCuda : public CudaApi {
 public:
  explicit FakeCuda(FakeCudaOptions options = {});
  ~FakeCuda() override;  // lets held streams go, and waits for them

  // Adds `work` to `stream`, as starting a kernel would. It may block; then the stream hangs.
  int Enqueue(CudaStream stream, std::function<void()> work);
  // The bytes behind device memory, anywhere within it; other pointers stay as they are.
  template <typename T>
  T* HostView(T* pointer) const {
    return reinterpret_cast<T*>(const_cast<void*>(View(pointer)));
  }

  // All streams stop before what they would run next.
  void Hold();
  void Release();
  // From now on every call returns `code`, as after a kernel's fault.
  void Poison(int code);
  // Allocations (and what is pinned) and streams that are still there.
  int64_t allocations() const;
  int64_t streams() const;

  int DeviceCount(int* count) override;
  int SetDevice(int device) override;
  int GetDevice(int* device) override;
  int BusId(int device, char* text, size_t bytes) override;
  int Allocate(void** memory, int64_t bytes) override;
  int Free(void* memory) override;
  int AllocateHost(void** memory, int64_t bytes) override;
  int FreeHost(void* memory) override;
  int Pin(void* memory, int64_t bytes) override;
  int Unpin(void* memory) override;
  int KindOf(const void* pointer, MemoryKind* kind, int* device) override;
  int MakeStream(CudaStream* stream) override;
  int DestroyStream(CudaStream stream) override;
  int Copy(void* to, const void* from, int64_t bytes, CudaStream stream) override;
  int Zero(void* memory, int64_t bytes, CudaStream stream) override;
  int MakeEvent(CudaEvent* event) override;
  int DestroyEvent(CudaEvent event) override;
  int Record(CudaEvent event, CudaStream stream) override;
  int EventDone(CudaEvent event, bool* done) override;
  int StreamWait(CudaStream stream, CudaEvent event) override;
  int StreamDone(CudaStream stream, bool* done) override;
  int Synchronize(CudaStream stream) override;
  void ErrorText(int code, char* text, size_t bytes) override;
  int Versions(int* runtime, int* driver) override;

 private:
  class Stream;
  struct Event;
  struct Memory {
    MemoryKind kind = MemoryKind::kHost;
    int device = 0;
    int64_t bytes = 0;
    char* view = nullptr;
    bool is_callers = false;  // pinned, not allocated
  };

  int Check(const char* call) const;
  const void* View(const void* pointer) const;
  // The allocation that `pointer` lies in, which must hold `bytes` from there; null: none.
  const Memory* Find(const void* pointer, int64_t bytes, int64_t* offset) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<Stream> Of(CudaStream stream) const;
  int Take(void* memory, MemoryKind kind);
  void WaitForStreams(int device);
  void WaitWhileHeld();

  const FakeCudaOptions options_;
  mutable Mutex mutex_;
  CondVar released_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  int poison_ ABSL_GUARDED_BY(mutex_) = kCudaOk;
  std::map<uintptr_t, Memory> memory_ ABSL_GUARDED_BY(mutex_);  // by where it begins
  std::map<int, int64_t> taken_ ABSL_GUARDED_BY(mutex_);        // by device: bytes
  std::map<CudaStream, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Stream>> destroyed_ ABSL_GUARDED_BY(mutex_);
  std::map<CudaEvent, std::unique_ptr<Event>> events_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_FAKE_CUDA_H_

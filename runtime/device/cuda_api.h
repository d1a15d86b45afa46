// What muster asks of a GPU's runtime. cuda_library.h implements it over libcudart, tests in host memory.
#ifndef MUSTER_RUNTIME_DEVICE_CUDA_API_H_
#define MUSTER_RUNTIME_DEVICE_CUDA_API_H_

#include <cstddef>
#include <cstdint>

namespace muster {

// What returns int returns kCudaOk, or a code of the library's that ErrorText turns into words. A code that a kernel or copy brings
// about later is returned by whatever asks next, for the process's life: then the process has to end.
// Source: CUDA Runtime API, sections 6.1 to 6.10 (devices, errors, streams, events, memory, unified addressing).
inline constexpr int kCudaOk = 0;
inline constexpr int kCudaInsufficientDriver = 35;  // there is no driver, or it is older than the library
inline constexpr int kCudaNoDevice = 100;

using CudaStream = void*;  // a cudaStream_t; null would be the legacy default stream, which no method takes
using CudaEvent = void*;   // a cudaEvent_t

enum class MemoryKind {
  kHost,    // also managed memory, which the host may touch as well
  kPinned,  // host memory that devices copy without a detour
  kDevice,
};

// Any thread, but a stream and an event are used by one thread at a time. Work is put on a stream and runs there later, in the order it
// was put; memory it uses must stay until it is done. A stream, an event and device memory belong to the device that was current in the
// thread that made them; whoever uses a stream has its device current. (Events may be waited for from streams of other devices.)
class CudaApi {
 public:
  virtual ~CudaApi() = default;

  virtual int DeviceCount(int* count) = 0;
  // The current device of the calling thread; 0 until set.
  virtual int SetDevice(int device) = 0;
  virtual int GetDevice(int* device) = 0;
  // Where `device` is plugged in, such as "0000:1b:00.0": two processes whose devices have equal ones on one machine share the device.
  virtual int BusId(int device, char* text, size_t bytes) = 0;

  // Of the current device, 256-byte-aligned, not zeroed. May wait for all its streams, freeing does.
  virtual int Allocate(void** memory, int64_t bytes) = 0;
  virtual int Free(void* memory) = 0;
  virtual int AllocateHost(void** memory, int64_t bytes) = 0;  // pinned, page-aligned
  virtual int FreeHost(void* memory) = 0;
  // Pins host memory of the caller's, whole pages, until Unpin. A system may refuse it.
  virtual int Pin(void* memory, int64_t bytes) = 0;
  virtual int Unpin(void* memory) = 0;
  // `*device` is set for kDevice. Memory that CUDA does not know is kHost.
  virtual int KindOf(const void* pointer, MemoryKind* kind, int* device) = 0;

  // Independent of the legacy default stream. What was put on it when it is destroyed still runs.
  virtual int MakeStream(CudaStream* stream) = 0;
  virtual int DestroyStream(CudaStream stream) = 0;
  // In any direction, also from device to device. From or to host memory that is not pinned it may block for as long as it takes.
  virtual int Copy(void* to, const void* from, int64_t bytes, CudaStream stream) = 0;
  virtual int Zero(void* memory, int64_t bytes, CudaStream stream) = 0;

  // Events tell what is done, not when.
  virtual int MakeEvent(CudaEvent* event) = 0;
  virtual int DestroyEvent(CudaEvent event) = 0;
  // `event` is what is on `stream` now; waiting for an event that was never recorded waits for nothing.
  virtual int Record(CudaEvent event, CudaStream stream) = 0;
  virtual int EventDone(CudaEvent event, bool* done) = 0;
  // What is put on `stream` from now on runs after `event`. Does not block.
  virtual int StreamWait(CudaStream stream, CudaEvent event) = 0;
  virtual int StreamDone(CudaStream stream, bool* done) = 0;
  // Blocks until all on `stream` is done.
  virtual int Synchronize(CudaStream stream) = 0;

  virtual void ErrorText(int code, char* text, size_t bytes) = 0;
  // As 1000*major + 10*minor; the driver's is 0 where there is none.
  virtual int Versions(int* runtime, int* driver) = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_DEVICE_CUDA_API_H_

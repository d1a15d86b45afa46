#include "tests/support/fake_cuda.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"

namespace muster::test {
namespace {

constexpr int kOutOfMemory = 2;
constexpr int kInvalidDevice = 101;
constexpr absl::Duration kPatience = absl::Seconds(60);

thread_local int current_device = 0;

int64_t WholePages(int64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

}  // namespace

class FakeCuda::Stream {
 public:
  Stream(FakeCuda& cuda, int device) : device(device), thread_([this, &cuda] { Run(cuda); }) {}
  ~Stream() {
    {
      MutexLock lock(mutex_);
      stop_ = true;
      changed_.SignalAll();
    }
    thread_.join();
  }

  int64_t Put(std::function<void()> work) {
    MutexLock lock(mutex_);
    queue_.push_back(std::move(work));
    changed_.SignalAll();
    return ++put_;
  }
  int64_t put() const {
    MutexLock lock(mutex_);
    return put_;
  }
  bool IsDone(int64_t ticket) const {
    MutexLock lock(mutex_);
    return done_ >= ticket;
  }
  // False when it takes longer than a test may.
  bool Wait(int64_t ticket, absl::Duration patience) {
    MutexLock lock(mutex_);
    while (done_ < ticket) {
      if (!changed_.WaitFor(mutex_, patience)) return done_ >= ticket;
    }
    return true;
  }

  const int device;

 private:
  void Run(FakeCuda& cuda) {
    for (;;) {
      std::function<void()> work;
      {
        MutexLock lock(mutex_);
        while (queue_.empty() && !stop_) changed_.Wait(mutex_);
        if (queue_.empty()) return;
        work = std::move(queue_.front());
        queue_.pop_front();
      }
      cuda.WaitWhileHeld();
      work();
      MutexLock lock(mutex_);
      ++done_;
      changed_.SignalAll();
    }
  }

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t put_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the others
};

struct FakeCuda::Event {
  std::shared_ptr<Stream> stream;  // null: not recorded
  int64_t ticket = 0;
};

FakeCuda::FakeCuda(FakeCudaOptions options) : options_(std::move(options)) {}

FakeCuda::~FakeCuda() {
  Release();
  std::map<CudaStream, std::shared_ptr<Stream>> streams;
  std::vector<std::shared_ptr<Stream>> destroyed;
  std::map<uintptr_t, Memory> memory;
  {
    MutexLock lock(mutex_);
    events_.clear();
    streams.swap(streams_);
    destroyed.swap(destroyed_);
    memory.swap(memory_);
  }
  // One may wait for another that is destroyed first.
  for (auto& [handle, stream] : streams) stream->Wait(stream->put(), kPatience);
  for (auto& stream : destroyed) stream->Wait(stream->put(), kPatience);
  streams.clear();
  destroyed.clear();
  for (auto& [begin, allocation] : memory) {
    if (allocation.is_callers) continue;
    if (allocation.kind == MemoryKind::kPinned) {
      std::free(allocation.view);
      continue;
    }
    ::munmap(reinterpret_cast<void*>(begin), static_cast<size_t>(WholePages(allocation.bytes)));
    ::munmap(allocation.view, static_cast<size_t>(WholePages(allocation.bytes)));
  }
}

// --- What tests do ---

void FakeCuda::Hold() {
  MutexLock lock(mutex_);
  held_ = true;
}

void FakeCuda::Release() {
  MutexLock lock(mutex_);
  held_ = false;
  released_.SignalAll();
}

void FakeCuda::WaitWhileHeld() {
  MutexLock lock(mutex_);
  while (held_) released_.Wait(mutex_);
}

void FakeCuda::Poison(int code) {
  MutexLock lock(mutex_);
  poison_ = code;
}

int64_t FakeCuda::allocations() const {
  MutexLock lock(mutex_);
  return static_cast<int64_t>(memory_.size());
}

int64_t FakeCuda::streams() const {
  MutexLock lock(mutex_);
  return static_cast<int64_t>(streams_.size());
}

int FakeCuda::Check(const char* call) const {
  {
    MutexLock lock(mutex_);
    if (poison_ != kCudaOk) return poison_;
  }
  if (options_.driver == 0) return kCudaInsufficientDriver;
  if (options_.devices == 0) return kCudaNoDevice;
  return options_.fails ? options_.fails(call, current_device) : kCudaOk;
}

// --- Devices and memory ---

int FakeCuda::DeviceCount(int* count) {
  *count = 0;
  const int code = Check("DeviceCount");
  if (code == kCudaOk) *count = options_.devices;
  return code;
}

int FakeCuda::SetDevice(int device) {
  if (device < 0 || device >= options_.devices) return kInvalidDevice;
  if (const int code = Check("SetDevice"); code != kCudaOk) return code;
  current_device = device;
  return kCudaOk;
}

int FakeCuda::GetDevice(int* device) {
  *device = current_device;
  return Check("GetDevice");
}

int FakeCuda::BusId(int device, char* text, size_t bytes) {
  std::snprintf(text, bytes, "0000:%02x:00.0", device + 1);
  return Check("BusId");
}

int FakeCuda::Allocate(void** memory, int64_t bytes) {
  *memory = nullptr;
  if (const int code = Check("Allocate"); code != kCudaOk) return code;
  const auto size = static_cast<size_t>(WholePages(bytes));
  const int file = ::memfd_create("fake device memory", MFD_CLOEXEC);
  MUSTER_CHECK(file >= 0 && ::ftruncate(file, static_cast<off_t>(size)) == 0, "memory of a fake device");
  MutexLock lock(mutex_);
  int64_t& taken = taken_[current_device];
  if (taken + bytes > options_.device_bytes) {
    ::close(file);
    return kOutOfMemory;
  }
  void* const pointer = ::mmap(nullptr, size, PROT_NONE, MAP_SHARED, file, 0);
  void* const view = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  MUSTER_CHECK(pointer != MAP_FAILED && view != MAP_FAILED, "memory of a fake device");
  taken += bytes;
  std::memset(view, 0xa5, size);  // what was there before, not zeros
  memory_[reinterpret_cast<uintptr_t>(pointer)] = {MemoryKind::kDevice, current_device, bytes, static_cast<char*>(view)};
  *memory = pointer;
  return kCudaOk;
}

int FakeCuda::AllocateHost(void** memory, int64_t bytes) {
  *memory = nullptr;
  if (const int code = Check("AllocateHost"); code != kCudaOk) return code;
  void* const pointer = std::aligned_alloc(4096, static_cast<size_t>(WholePages(bytes)));
  MUSTER_CHECK(pointer != nullptr, "pinned memory");
  MutexLock lock(mutex_);
  memory_[reinterpret_cast<uintptr_t>(pointer)] = {MemoryKind::kPinned, current_device, bytes, static_cast<char*>(pointer)};
  *memory = pointer;
  return kCudaOk;
}

int FakeCuda::Free(void* memory) { return Take(memory, MemoryKind::kDevice); }
int FakeCuda::FreeHost(void* memory) { return Take(memory, MemoryKind::kPinned); }

int FakeCuda::Pin(void* memory, int64_t bytes) {
  if (const int code = Check("Pin"); code != kCudaOk) return code;
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  MUSTER_CHECK(begin % 4096 == 0 && bytes % 4096 == 0, "whole pages are pinned");
  MutexLock lock(mutex_);
  int64_t offset = 0;
  MUSTER_CHECK(Find(memory, 0, &offset) == nullptr, "pinned twice");
  memory_[begin] = {MemoryKind::kPinned, current_device, bytes, static_cast<char*>(memory), /*is_callers=*/true};
  return kCudaOk;
}

int FakeCuda::Unpin(void* memory) {
  if (const int code = Check("Unpin"); code != kCudaOk) return code;
  MutexLock lock(mutex_);
  const auto found = memory_.find(reinterpret_cast<uintptr_t>(memory));
  MUSTER_CHECK(found != memory_.end() && found->second.is_callers, "unpinned what was not pinned");
  memory_.erase(found);
  return kCudaOk;
}

int FakeCuda::Take(void* memory, MemoryKind kind) {
  if (memory == nullptr) return kCudaOk;
  if (const int code = Check(kind == MemoryKind::kDevice ? "Free" : "FreeHost"); code != kCudaOk) return code;
  Memory allocation;
  {
    MutexLock lock(mutex_);
    const auto found = memory_.find(reinterpret_cast<uintptr_t>(memory));
    MUSTER_CHECK(found != memory_.end() && found->second.kind == kind && !found->second.is_callers,
                 "freed what was not allocated, or in another way");
    allocation = found->second;
  }
  WaitForStreams(allocation.device);
  {
    MutexLock lock(mutex_);
    memory_.erase(reinterpret_cast<uintptr_t>(memory));
    if (kind == MemoryKind::kDevice) taken_[allocation.device] -= allocation.bytes;
  }
  if (kind == MemoryKind::kPinned) {
    std::free(memory);
    return kCudaOk;
  }
  ::munmap(memory, static_cast<size_t>(WholePages(allocation.bytes)));
  ::munmap(allocation.view, static_cast<size_t>(WholePages(allocation.bytes)));
  return kCudaOk;
}

void FakeCuda::WaitForStreams(int device) {
  std::vector<std::shared_ptr<Stream>> all;
  {
    MutexLock lock(mutex_);
    for (auto& [handle, stream] : streams_) all.push_back(stream);
    for (auto& stream : destroyed_) all.push_back(stream);
  }
  for (auto& stream : all) {
    if (stream->device != device) continue;
    MUSTER_CHECK(stream->Wait(stream->put(), kPatience),
                 "memory was freed while a stream hangs: a real device would wait for ever");
  }
}

const FakeCuda::Memory* FakeCuda::Find(const void* pointer, int64_t bytes, int64_t* offset) const {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto after = memory_.upper_bound(address);
  if (after == memory_.begin()) return nullptr;
  const auto& [begin, allocation] = *--after;
  *offset = static_cast<int64_t>(address - begin);
  if (*offset >= WholePages(allocation.bytes)) return nullptr;
  MUSTER_CHECK(*offset + bytes <= allocation.bytes,
               absl::StrCat(bytes, " bytes at offset ", *offset, " of an allocation of ", allocation.bytes));
  return &allocation;
}

const void* FakeCuda::View(const void* pointer) const {
  MutexLock lock(mutex_);
  int64_t offset = 0;
  const Memory* const found = Find(pointer, 0, &offset);
  return found == nullptr ? pointer : found->view + offset;
}

int FakeCuda::KindOf(const void* pointer, MemoryKind* kind, int* device) {
  *kind = MemoryKind::kHost;
  *device = 0;
  if (const int code = Check("KindOf"); code != kCudaOk) return code;
  MutexLock lock(mutex_);
  int64_t offset = 0;
  if (const Memory* const found = Find(pointer, 0, &offset); found != nullptr) {
    *kind = found->kind;
    *device = found->device;
  }
  return kCudaOk;
}

// --- Streams and events ---

std::shared_ptr<FakeCuda::Stream> FakeCuda::Of(CudaStream stream) const {
  MutexLock lock(mutex_);
  const auto found = streams_.find(stream);
  MUSTER_CHECK(found != streams_.end(), stream == nullptr ? "the legacy default stream" : "no such stream");
  return found->second;
}

int FakeCuda::MakeStream(CudaStream* stream) {
  *stream = nullptr;
  if (const int code = Check("MakeStream"); code != kCudaOk) return code;
  auto made = std::make_shared<Stream>(*this, current_device);
  *stream = made.get();
  MutexLock lock(mutex_);
  streams_[*stream] = std::move(made);
  return kCudaOk;
}

int FakeCuda::DestroyStream(CudaStream stream) {
  if (const int code = Check("DestroyStream"); code != kCudaOk) return code;
  std::shared_ptr<Stream> destroyed = Of(stream);
  MutexLock lock(mutex_);
  streams_.erase(stream);
  destroyed_.push_back(std::move(destroyed));
  return kCudaOk;
}

int FakeCuda::Enqueue(CudaStream stream, std::function<void()> work) {
  if (const int code = Check("Enqueue"); code != kCudaOk) return code;
  Of(stream)->Put(std::move(work));
  return kCudaOk;
}

int FakeCuda::Copy(void* to, const void* from, int64_t bytes, CudaStream stream) {
  if (const int code = Check("Copy"); code != kCudaOk) return code;
  if (bytes == 0) return kCudaOk;
  {
    MutexLock lock(mutex_);
    int64_t offset = 0;
    Find(to, bytes, &offset);
    Find(from, bytes, &offset);
  }
  Of(stream)->Put([to = HostView(to), from = HostView(from), bytes] { std::memmove(to, from, static_cast<size_t>(bytes)); });
  return kCudaOk;
}

int FakeCuda::Zero(void* memory, int64_t bytes, CudaStream stream) {
  if (const int code = Check("Zero"); code != kCudaOk) return code;
  Of(stream)->Put([memory = HostView(memory), bytes] { std::memset(memory, 0, static_cast<size_t>(bytes)); });
  return kCudaOk;
}

int FakeCuda::MakeEvent(CudaEvent* event) {
  *event = nullptr;
  if (const int code = Check("MakeEvent"); code != kCudaOk) return code;
  auto made = std::make_unique<Event>();
  *event = made.get();
  MutexLock lock(mutex_);
  events_[*event] = std::move(made);
  return kCudaOk;
}

int FakeCuda::DestroyEvent(CudaEvent event) {
  MutexLock lock(mutex_);
  MUSTER_CHECK(events_.erase(event) == 1, "no such event");
  return kCudaOk;
}

int FakeCuda::Record(CudaEvent event, CudaStream stream) {
  if (const int code = Check("Record"); code != kCudaOk) return code;
  std::shared_ptr<Stream> of = Of(stream);
  const int64_t ticket = of->put();
  MutexLock lock(mutex_);
  const auto found = events_.find(event);
  MUSTER_CHECK(found != events_.end(), "no such event");
  *found->second = {std::move(of), ticket};
  return kCudaOk;
}

int FakeCuda::EventDone(CudaEvent event, bool* done) {
  *done = false;
  if (const int code = Check("EventDone"); code != kCudaOk) return code;
  Event now;
  {
    MutexLock lock(mutex_);
    const auto found = events_.find(event);
    MUSTER_CHECK(found != events_.end(), "no such event");
    now = *found->second;
  }
  *done = now.stream == nullptr || now.stream->IsDone(now.ticket);
  return kCudaOk;
}

int FakeCuda::StreamWait(CudaStream stream, CudaEvent event) {
  if (const int code = Check("StreamWait"); code != kCudaOk) return code;
  Event now;
  {
    MutexLock lock(mutex_);
    const auto found = events_.find(event);
    MUSTER_CHECK(found != events_.end(), "no such event");
    now = *found->second;
  }
  if (now.stream == nullptr) return kCudaOk;
  // Streams stay until this is destroyed; a reference that a stream's own thread lets go last would have it wait for itself.
  Of(stream)->Put([source = now.stream.get(), ticket = now.ticket] {
    MUSTER_CHECK(source->Wait(ticket, 2 * kPatience), "an event never came");
  });
  return kCudaOk;
}

int FakeCuda::StreamDone(CudaStream stream, bool* done) {
  *done = false;
  if (const int code = Check("StreamDone"); code != kCudaOk) return code;
  const std::shared_ptr<Stream> of = Of(stream);
  *done = of->IsDone(of->put());
  return kCudaOk;
}

int FakeCuda::Synchronize(CudaStream stream) {
  if (const int code = Check("Synchronize"); code != kCudaOk) return code;
  const std::shared_ptr<Stream> of = Of(stream);
  MUSTER_CHECK(of->Wait(of->put(), kPatience), "a stream hangs");
  return kCudaOk;
}

void FakeCuda::ErrorText(int code, char* text, size_t bytes) { std::snprintf(text, bytes, "fake CUDA error %d", code); }

int FakeCuda::Versions(int* runtime, int* driver) {
  *runtime = 13000;
  *driver = options_.driver;
  return kCudaOk;
}

}  // namespace muster::test

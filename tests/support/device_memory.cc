#include "tests/support/device_memory.h"

#include <sched.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "muster/device.h"
#include "muster/shards.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster::test {
namespace {

constexpr int64_t kBytesMax = int64_t{1} << 32;  // what is larger is meant to be refused

void Check(int code) { MUSTER_CHECK(code == kCudaOk, absl::StrCat("CUDA's code ", code)); }

// Device memory that is used again once what was copied from it has landed.
struct Block {
  char* memory = nullptr;
  int64_t bytes = 0;
  CudaEvent landed = nullptr;
  bool is_taken = false;
};

// Where one buffer of a call, or two that overlap, lies.
struct Span {
  char* host = nullptr;
  int64_t bytes = 0;
  std::shared_ptr<Block> block;  // null: it stays on the host
  char* device = nullptr;

  template <typename T>
  T* Place(T* pointer) const {
    return block == nullptr ? pointer : reinterpret_cast<T*>(device + (static_cast<const char*>(pointer) - host));
  }
};

class LandingWork : public Work {
 public:
  LandingWork(CudaApi& cuda, std::shared_ptr<Work> inner, std::shared_ptr<Block> block)
      : cuda_(cuda), inner_(std::move(inner)), block_(std::move(block)) {}

  bool IsDone() const override {
    bool landed = true;
    if (block_ != nullptr && block_->is_taken && inner_->IsDone()) Check(cuda_.EventDone(block_->landed, &landed));
    return landed && inner_->IsDone();
  }
  absl::Status Wait() override {
    MUSTER_RETURN_IF_ERROR(inner_->Wait());
    for (bool landed = block_ == nullptr || !block_->is_taken; !landed; ::sched_yield()) {
      Check(cuda_.EventDone(block_->landed, &landed));
    }
    return absl::OkStatus();
  }
  absl::Time StartTime() const override { return inner_->StartTime(); }
  absl::Time EndTime() const override { return inner_->EndTime(); }

 private:
  CudaApi& cuda_;
  const std::shared_ptr<Work> inner_;
  const std::shared_ptr<Block> block_;
};

class DeviceMemoryCommunicator : public Communicator {
 public:
  DeviceMemoryCommunicator(Communicator& inner, std::unique_ptr<Communicator> owned, CudaApi& cuda, OnDevice on_device)
      : owned_(std::move(owned)),
        inner_(inner),
        device_(*inner.capabilities().device),
        cuda_(cuda),
        on_device_(std::move(on_device)),
        capabilities_(inner.capabilities()) {
    capabilities_.bits_follow_canonical_tree = false;
    Check(cuda_.SetDevice(device_.device()));
    Check(cuda_.MakeStream(&stream_));
  }

  ~DeviceMemoryCommunicator() override {
    owned_.reset();  // what still runs comes to its end
    Check(cuda_.SetDevice(device_number_));
    Check(cuda_.Synchronize(stream_));
    Check(cuda_.DestroyStream(stream_));
    for (const std::shared_ptr<Block>& block : blocks_) {
      Check(cuda_.DestroyEvent(block->landed));
      Check(cuda_.Free(block->memory));
    }
  }

  int rank() const override { return inner_.rank(); }
  int world_size() const override { return inner_.world_size(); }
  uint64_t generation() const override { return inner_.generation(); }
  const Capabilities& capabilities() const override { return capabilities_; }

  absl::Status AllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) override {
    const Span span = Take(buffer.data, BytesOf(buffer), buffer.type);
    return Run({span}, span, [&] {
      return inner_.AllReduce({span.Place(buffer.data), buffer.count, buffer.type}, op, deadline);
    });
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) override {
    const Span span = Take(buffer.data, BytesOf(buffer), buffer.type);
    return Start({span}, span, [&] {
      return inner_.StartAllReduce({span.Place(buffer.data), buffer.count, buffer.type}, op, deadline);
    });
  }

  absl::Status AllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time deadline) override {
    const Span span = Take(partials.data, BytesOf(partials), partials.type);
    partials.data = span.Place(partials.data);
    return Run({span}, span, [&] { return inner_.AllReduceShards(partials, op, deadline); });
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduceShards(ShardedTensor partials, ReduceOp op,
                                                             absl::Time deadline) override {
    const Span span = Take(partials.data, BytesOf(partials), partials.type);
    partials.data = span.Place(partials.data);
    return Start({span}, span, [&] { return inner_.StartAllReduceShards(partials, op, deadline); });
  }

  absl::Status Broadcast(Tensor buffer, int root, absl::Time deadline) override {
    const Span span = Take(buffer.data, BytesOf(buffer), buffer.type);
    return Run({span}, span, [&] {
      return inner_.Broadcast({span.Place(buffer.data), buffer.count, buffer.type}, root, deadline);
    });
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBroadcast(Tensor buffer, int root, absl::Time deadline) override {
    const Span span = Take(buffer.data, BytesOf(buffer), buffer.type);
    return Start({span}, span, [&] {
      return inner_.StartBroadcast({span.Place(buffer.data), buffer.count, buffer.type}, root, deadline);
    });
  }

  absl::Status AllGather(ConstTensor send, Tensor receive, absl::Time deadline) override {
    const auto [in, out] = TakeTwo(send, receive);
    return Run({in, out}, out, [&, in = in, out = out] {
      return inner_.AllGather({in.Place(send.data), send.count, send.type},
                              {out.Place(receive.data), receive.count, receive.type}, deadline);
    });
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllGather(ConstTensor send, Tensor receive, absl::Time deadline) override {
    const auto [in, out] = TakeTwo(send, receive);
    return Start({in, out}, out, [&, in = in, out = out] {
      return inner_.StartAllGather({in.Place(send.data), send.count, send.type},
                                   {out.Place(receive.data), receive.count, receive.type}, deadline);
    });
  }

  absl::Status ReduceScatter(Tensor send, Tensor receive, ReduceOp op, absl::Time deadline) override {
    const auto [in, out] = TakeTwo({send.data, send.count, send.type}, receive);
    return Run({in, out}, out, [&, in = in, out = out] {
      return inner_.ReduceScatter({in.Place(send.data), send.count, send.type},
                                  {out.Place(receive.data), receive.count, receive.type}, op, deadline);
    });
  }
  absl::StatusOr<std::unique_ptr<Work>> StartReduceScatter(Tensor send, Tensor receive, ReduceOp op,
                                                           absl::Time deadline) override {
    const auto [in, out] = TakeTwo({send.data, send.count, send.type}, receive);
    return Start({in, out}, out, [&, in = in, out = out] {
      return inner_.StartReduceScatter({in.Place(send.data), send.count, send.type},
                                       {out.Place(receive.data), receive.count, receive.type}, op, deadline);
    });
  }

  absl::Status Barrier(absl::Time deadline) override {
    MUSTER_RETURN_IF_ERROR(inner_.Barrier(deadline));
    Check(cuda_.Synchronize(stream_));
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBarrier(absl::Time deadline) override { return inner_.StartBarrier(deadline); }

  absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time deadline) override {
    auto window = inner_.CreateWindow(bytes, deadline);
    Check(cuda_.Synchronize(stream_));
    return window;
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, absl::Time deadline) override {
    MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> split, inner_.Split(color, key, deadline));
    Check(cuda_.Synchronize(stream_));
    if (split == nullptr) return nullptr;
    Communicator& made = *split;
    return std::make_unique<DeviceMemoryCommunicator>(made, std::move(split), cuda_, on_device_);
  }
  void Abort(absl::Status reason) override { inner_.Abort(std::move(reason)); }

 private:
  static int64_t BytesOf(ConstTensor tensor) {
    return tensor.count <= 0 || tensor.count > kBytesMax ? 0 : tensor.count * SizeOf(tensor.type);
  }
  static int64_t BytesOf(Tensor tensor) { return BytesOf(ConstTensor{tensor.data, tensor.count, tensor.type}); }
  int64_t BytesOf(const ShardedTensor& partials) const {
    if (partials.shards < world_size()) return 0;
    const auto rows = static_cast<int64_t>(OwnedPartials(partials.shards, world_size(), rank()).size());
    return (rows - 1) * partials.stride_bytes + BytesOf(Tensor{partials.data, partials.count, partials.type});
  }

  Span Take(const void* data, int64_t bytes, DataType type) {
    Span span = {static_cast<char*>(const_cast<void*>(data)), bytes, nullptr, nullptr};
    if (data == nullptr || bytes == 0 || !on_device_(rank(), buffers_++)) return span;
    Check(cuda_.SetDevice(device_.device()));
    span.block = TakeBlock(bytes + 64);
    const auto skew = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) % 64);
    span.device = span.block->memory + skew / SizeOf(type) * SizeOf(type);
    return span;
  }
  std::pair<Span, Span> TakeTwo(ConstTensor a, Tensor b) {
    const auto* const a_begin = static_cast<const char*>(a.data);
    const auto* const b_begin = static_cast<const char*>(b.data);
    const char* const a_end = a_begin + BytesOf(a);
    const char* const b_end = b_begin + BytesOf(b);
    if (a_begin == a_end || b_begin == b_end || a_end <= b_begin || b_end <= a_begin) {
      const Span first = Take(a.data, BytesOf(a), a.type);
      return {first, Take(b.data, BytesOf(b), b.type)};
    }
    const char* const begin = std::min(a_begin, b_begin);
    Span both = Take(begin, std::max(a_end, b_end) - begin, a.type);
    return {both, both};
  }

  std::shared_ptr<Block> TakeBlock(int64_t bytes) {
    for (const std::shared_ptr<Block>& block : blocks_) {
      bool landed = true;
      if (block->is_taken) Check(cuda_.EventDone(block->landed, &landed));
      if (!landed || block.use_count() > 1 || block->bytes < bytes || block->bytes > 4 * bytes) continue;
      block->is_taken = false;
      return block;
    }
    auto block = std::make_shared<Block>();
    block->bytes = bytes;
    void* memory = nullptr;
    Check(cuda_.Allocate(&memory, bytes));
    Check(cuda_.MakeEvent(&block->landed));
    block->memory = static_cast<char*>(memory);
    blocks_.push_back(block);
    return block;
  }

  // What a call reads is where it reads it, or will be by then.
  void Send(std::initializer_list<Span> spans) {
    bool all_on_device = true, none = true;
    for (const Span& span : spans) {
      all_on_device = all_on_device && span.block != nullptr;
      none = none && span.block == nullptr;
    }
    if (!all_on_device) Check(cuda_.Synchronize(stream_));  // what the host reads has landed
    if (none) return;
    for (const std::shared_ptr<Work>& work : on_host_) work->Wait().IgnoreError();
    on_host_.clear();
    for (const Span& span : spans) {
      if (span.block != nullptr) Check(cuda_.Copy(span.device, span.host, span.bytes, stream_));
    }
    device_.SetStream(stream_);
  }
  void Land(const Span& output) {
    if (output.block == nullptr) return;
    Check(cuda_.Copy(output.host, output.device, output.bytes, stream_));
    Check(cuda_.Record(output.block->landed, stream_));
    output.block->is_taken = true;
  }

  absl::Status Run(std::initializer_list<Span> spans, const Span& output, const std::function<absl::Status()>& call) {
    Send(spans);
    const absl::Status status = call();
    device_.SetStream(nullptr);
    if (status.ok()) Land(output);
    Check(cuda_.Synchronize(stream_));
    return status;
  }
  absl::StatusOr<std::unique_ptr<Work>> Start(std::initializer_list<Span> spans, const Span& output,
                                              const std::function<absl::StatusOr<std::unique_ptr<Work>>()>& call) {
    Send(spans);
    auto started = call();
    device_.SetStream(nullptr);
    if (!started.ok()) return started;
    const std::shared_ptr<Work> work = *std::move(started);
    bool some_on_device = false;
    for (const Span& span : spans) some_on_device = some_on_device || span.block != nullptr;
    if (!some_on_device) {
      on_host_.push_back(work);
    } else if (device_.Follow(*work, stream_).ok()) {
      Land(output);
    }
    return std::make_unique<LandingWork>(cuda_, work, output.block);
  }

  std::unique_ptr<Communicator> owned_;  // or null
  Communicator& inner_;
  DeviceCollectives& device_;
  CudaApi& cuda_;
  const OnDevice on_device_;
  const int device_number_ = device_.device();
  Capabilities capabilities_;
  CudaStream stream_ = nullptr;
  int64_t buffers_ = 0;
  std::vector<std::shared_ptr<Block>> blocks_;
  std::vector<std::shared_ptr<Work>> on_host_;  // started, with all their buffers in host memory
};

}  // namespace

std::unique_ptr<Communicator> WithDeviceMemory(Communicator& inner, CudaApi& cuda, OnDevice on_device) {
  return std::make_unique<DeviceMemoryCommunicator>(inner, nullptr, cuda, std::move(on_device));
}

}  // namespace muster::test

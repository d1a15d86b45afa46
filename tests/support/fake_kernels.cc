#include "tests/support/fake_kernels.h"

#include <utility>
#include <vector>

#include "runtime/kernels/convert.h"
#include "runtime/kernels/kernel_table.h"
#include "runtime/training/update.h"

namespace muster::test {
namespace {

// Any plan, which runtime/kernels makes only of partials.
void ReduceNow(const DeviceReduce& call) {
  const int combine = call.op == ReduceOp::kMin ? 1 : call.op == ReduceOp::kMax ? 2 : call.op == ReduceOp::kProd ? 3 : 0;
  kernels::kPlainKernels.reduce[static_cast<int>(call.type)][combine]({.sources = call.sources,
                                                                       .merges = call.merges,
                                                                       .destinations = &call.destination,
                                                                       .count = call.count,
                                                                       .sources_count = call.sources_count,
                                                                       .destinations_count = 1,
                                                                       .divisor = call.op == ReduceOp::kAvg ? call.divisor : 0,
                                                                       .leaf_shaped = false});
}

}  // namespace

int FakeKernels::Enqueue(DeviceQueue queue, std::function<void()> work) {
  if (const int code = cuda_.SetDevice(queue.device); code != kCudaOk) return code;
  return cuda_.Enqueue(queue.stream, std::move(work));
}

int FakeKernels::Update(const kernels::UpdateNumbers& numbers, int64_t count, const kernels::UpdateInput& input,
                        const kernels::UpdateOutput& output, DeviceQueue queue) {
  kernels::UpdateInput from{cuda_.HostView(input.gradient), cuda_.HostView(input.value), {}};
  kernels::UpdateOutput to{cuda_.HostView(output.value), {}};
  for (int moment = 0; moment < 2; ++moment) {
    if (input.moment[moment] == nullptr) continue;
    from.moment[moment] = cuda_.HostView(input.moment[moment]);
    to.moment[moment] = cuda_.HostView(output.moment[moment]);
  }
  return Enqueue(queue, [=] { muster::Update(numbers, count, from, to); });
}

int FakeKernels::Reduce(const DeviceReduce& call, DeviceQueue queue) {
  DeviceReduce seen = call;
  for (int i = 0; i < call.sources_count; ++i) seen.sources[i] = cuda_.HostView(call.sources[i]);
  seen.destination = cuda_.HostView(call.destination);
  return Enqueue(queue, [seen] { ReduceNow(seen); });
}

int FakeKernels::Divide(void* buffer, int64_t count, DataType type, int32_t divisor, DeviceQueue queue) {
  DeviceReduce call;
  call.sources[0] = buffer;
  call.sources_count = 1;
  call.type = type;
  call.op = ReduceOp::kAvg;
  call.divisor = divisor;
  call.destination = buffer;
  call.count = count;
  return Reduce(call, queue);
}

int FakeKernels::Widen(DataType half, const void* source, float* destination, int64_t count, DeviceQueue queue) {
  return Enqueue(
      queue, [=, from = cuda_.HostView(source), to = cuda_.HostView(destination)] { WidenToFloat32(half, from, to, count); });
}

int FakeKernels::Round(DataType half, const float* source, void* destination, int64_t count, DeviceQueue queue) {
  return Enqueue(
      queue, [=, from = cuda_.HostView(source), to = cuda_.HostView(destination)] { RoundFromFloat32(half, from, to, count); });
}

}  // namespace muster::test

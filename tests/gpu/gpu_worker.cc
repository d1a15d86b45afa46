// A rank of the checks that scripts/gpu-check makes: under muster run, over whichever backend it names.
//
//   gpu_worker gpus                     how many GPUs can be trained on here; 69 and why if none
//   gpu_worker until-error DYING        all-reduces until one fails, and says how it failed; rank DYING kills itself (SIGKILL) on the way
//   gpu_worker overlap                  whether an all-reduce ends before kernels that were queued behind it
//   gpu_worker rate                     how fast all-reduces are
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "muster/device.h"
#include "muster/session.h"
#include "muster/trainer.h"
#include "runtime/base/status.h"
#include "runtime/device/cuda_library.h"
#include "runtime/device/kernels_library.h"

namespace muster {
namespace {

constexpr int kNoGpu = 69;

// A buffer where this backend likes it: in the GPU's memory if it can.
absl::StatusOr<std::unique_ptr<Window>> MakeBuffer(Communicator& world, int64_t bytes) {
  DeviceCollectives* const device = world.capabilities().device;
  if (device == nullptr) return world.CreateWindow(bytes);
  return device->CreateDeviceWindow(bytes);
}

absl::Status UntilError(Session& session, int dying) {
  constexpr int kDiesAt = 50, kEnd = 100'000;
  constexpr int64_t kFloats = 1 << 16;
  Communicator& world = session.world();
  MUSTER_ASSIGN_OR_RETURN(const auto buffer, MakeBuffer(world, kFloats * SizeOf(DataType::kFloat32)));
  for (int i = 0; i < kEnd; ++i) {
    if (i == kDiesAt && session.rank() == dying) ::kill(::getpid(), SIGKILL);
    const absl::Status status = world.AllReduce({buffer->data(), kFloats, DataType::kFloat32}, ReduceOp::kSum);
    if (status.ok()) continue;
    std::printf("survivor %d: all-reduce %d: %s\n", session.rank(), i, status.ToString().c_str());
    std::fflush(stdout);
    ::_exit(EXIT_FAILURE);  // the session is over: nothing to leave
  }
  return absl::InternalError("nothing failed");
}

// Kernels that keep a stream busy for a while.
struct BusyStream {
  std::shared_ptr<CudaApi> cuda;
  DeviceKernels* kernels = nullptr;
  int device = 0;
  CudaStream stream = nullptr;
  void* memory = nullptr;
  static constexpr int64_t kFloats = int64_t{1} << 26;

  absl::Status Check(int code) const {
    if (code == kCudaOk) return absl::OkStatus();
    char text[256] = {};
    cuda->ErrorText(code, text, sizeof(text));
    return absl::InternalError(text);
  }
  absl::Status Make() {
    MUSTER_RETURN_IF_ERROR(Check(cuda->SetDevice(device)));
    MUSTER_RETURN_IF_ERROR(Check(cuda->MakeStream(&stream)));
    MUSTER_RETURN_IF_ERROR(Check(cuda->Allocate(&memory, kFloats * SizeOf(DataType::kFloat32))));
    return Check(cuda->Zero(memory, kFloats * SizeOf(DataType::kFloat32), stream));
  }
  absl::Status Launch(int times) const {
    DeviceReduce call;
    for (int i = 0; i < 8; ++i) call.sources[i] = memory;
    call.merges[7] = 7;
    call.sources_count = 8;
    call.destination = memory;
    call.count = kFloats;
    for (int i = 0; i < times; ++i) MUSTER_RETURN_IF_ERROR(Check(kernels->Reduce(call, {device, stream})));
    return absl::OkStatus();
  }
};

absl::Status Overlap(Session& session) {
  constexpr int64_t kFloats = 1 << 20;
  Communicator& world = session.world();
  DeviceCollectives* const device = world.capabilities().device;
  if (device == nullptr) return absl::FailedPreconditionError("this backend has no collectives on a GPU's memory");
  BusyStream busy;
  const char* const library = std::getenv("MUSTER_CUDA_LIBRARY");
  MUSTER_ASSIGN_OR_RETURN(busy.cuda, OpenCudaLibrary(library == nullptr ? "" : library));
  MUSTER_ASSIGN_OR_RETURN(busy.kernels, OpenCudaKernels());
  busy.device = device->device();
  MUSTER_RETURN_IF_ERROR(busy.Make());
  MUSTER_ASSIGN_OR_RETURN(const auto buffer, device->CreateDeviceWindow(kFloats * SizeOf(DataType::kFloat32)));
  device->SetStream(busy.stream);
  const Tensor tensor{buffer->data(), kFloats, DataType::kFloat32};
  MUSTER_RETURN_IF_ERROR(world.AllReduce(tensor, ReduceOp::kSum));  // what NCCL does once
  MUSTER_RETURN_IF_ERROR(busy.Launch(1));
  MUSTER_ASSIGN_OR_RETURN(const auto work, world.StartAllReduce(tensor, ReduceOp::kSum));
  MUSTER_RETURN_IF_ERROR(busy.Launch(600));
  MUSTER_RETURN_IF_ERROR(work->Wait());
  bool done = true;
  MUSTER_RETURN_IF_ERROR(busy.Check(busy.cuda->StreamDone(busy.stream, &done)));
  // And what is to come after the collective does.
  MUSTER_RETURN_IF_ERROR(device->Follow(*work, busy.stream));
  MUSTER_RETURN_IF_ERROR(busy.Check(busy.cuda->Synchronize(busy.stream)));
  device->SetStream(nullptr);
  std::printf("rank %d: the all-reduce ended %s 600 kernels that were queued behind it\n", session.rank(),
              done ? "only after" : "beside");
  return done ? absl::InternalError("no overlap") : absl::OkStatus();
}

absl::Status Rate(Session& session) {
  Communicator& world = session.world();
  for (int64_t bytes = int64_t{1} << 12; bytes <= int64_t{1} << 28; bytes <<= 4) {
    MUSTER_ASSIGN_OR_RETURN(const auto buffer, MakeBuffer(world, bytes));
    const Tensor tensor{buffer->data(), bytes / SizeOf(DataType::kFloat32), DataType::kFloat32};
    const int times = bytes > (1 << 22) ? 5 : 20;
    MUSTER_RETURN_IF_ERROR(world.AllReduce(tensor, ReduceOp::kSum));
    MUSTER_RETURN_IF_ERROR(world.Barrier());
    const absl::Time begin = absl::Now();
    for (int i = 0; i < times; ++i) MUSTER_RETURN_IF_ERROR(world.AllReduce(tensor, ReduceOp::kSum));
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin) / times;
    if (session.rank() != 0) continue;
    std::printf("%s, %d ranks, %s memory: all-reduce of %ld bytes takes %.1f us, %.3f GB/s\n", world.capabilities().backend,
                world.world_size(), world.capabilities().device == nullptr ? "host" : "GPU", static_cast<long>(bytes),
                seconds * 1e6, static_cast<double>(bytes) / seconds * 1e-9);
  }
  return absl::OkStatus();
}

int SayGpus() {
  const absl::StatusOr<int> gpus = CudaDevices();
  if (gpus.ok()) return std::printf("%d\n", *gpus), EXIT_SUCCESS;
  std::printf("%s\n", std::string(gpus.status().message()).c_str());
  return kNoGpu;
}

int Run(const std::string& mode, const std::string& argument) {
  int dying = -1;
  if (mode == "until-error" && !absl::SimpleAtoi(argument, &dying)) return 64;
  auto session = Session::Create();
  absl::Status status = session.status();
  if (status.ok()) {
    status = mode == "until-error" ? UntilError(**session, dying) : mode == "overlap" ? Overlap(**session) : Rate(**session);
  }
  if (status.ok()) return EXIT_SUCCESS;
  std::fprintf(stderr, "gpu_worker %s: %s\n", mode.c_str(), status.ToString().c_str());
  return EXIT_FAILURE;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "gpus") return muster::SayGpus();
  if (mode == "until-error" || mode == "overlap" || mode == "rate") return muster::Run(mode, argc > 2 ? argv[2] : "");
  std::fprintf(stderr, "usage: gpu_worker gpus | until-error DYING | overlap | rate\n");
  return 64;
}

// The NCCL backend over NCCL and GPUs in memory: with buffers in device memory, on the host (then it is the native backend that runs), and
// in a mix of both.
#include "absl/strings/str_cat.h"
#include "tests/conformance/conformance.h"
#include "tests/support/device_memory.h"
#include "tests/support/fake_kernels.h"
#include "tests/support/fake_nccl.h"

namespace muster::test {
namespace {

constexpr NcclPowers kAll = {true, true, true, true, true, true};

struct Variant {
  NcclPowers powers = kAll;
  int64_t scratch_bytes = 4 << 20;
  bool has_kernels = false;
};

// Powers of two of ranks: NCCL multiplies by 1/n for an average, which is exact for those alone.
World Make(const std::string& name, int ranks, const OnDevice& on_device, Variant variant = {}) {
  return {name, ranks, [=](const std::function<void(Communicator&)>& body) {
            FakeCuda cuda({.devices = ranks});
            FakeKernels kernels(cuda);
            FakeNccl nccl(cuda, {.powers = variant.powers});
            FakeNode node({.ranks = ranks});
            RunNcclRanks(
                cuda, nccl, node, [&](Communicator& comm) { body(*WithDeviceMemory(comm, cuda, on_device)); },
                [&](int, NcclOptions& options) {
                  options.scratch_bytes = variant.scratch_bytes;
                  options.kernels = variant.has_kernels ? &kernels : nullptr;
                });
          }};
}

// As programs have it that know nothing of GPUs.
World MakeOnHost(int ranks) {
  return {absl::StrCat("HostBuffers", ranks), ranks, [=](const std::function<void(Communicator&)>& body) {
            FakeCuda cuda({.devices = ranks});
            FakeNccl nccl(cuda, {});
            FakeNode node({.ranks = ranks});
            RunNcclRanks(cuda, nccl, node, body);
          }};
}

}  // namespace

std::vector<World> ConformanceWorlds() {
  const OnDevice always = [](int, int64_t) { return true; };
  const OnDevice even_ranks = [](int rank, int64_t) { return rank % 2 == 0; };
  // Two buffers on all devices, two on all hosts, four here and there.
  const OnDevice any = [](int rank, int64_t buffer) {
    return buffer % 8 < 4 ? buffer % 8 < 2 : (rank + buffer + buffer / 8) % 2 == 0;
  };
  World anywhere = Make("Anywhere", 4, any);
  anywhere.buffers_stay = false;
  return {Make("FakeNccl1", 1, always),
          Make("FakeNccl4", 4, always),
          Make("Kernels2", 2, always, {.has_kernels = true}),
          Make("SmallPieces", 4, always, {.scratch_bytes = 12 * 1024}),
          Make("OldLibrary", 2, always, {.powers = {}, .scratch_bytes = 1 << 20}),
          Make("EvenRanksOnDevice", 2, even_ranks, {.scratch_bytes = 12 * 1024}),
          anywhere,
          MakeOnHost(3)};
}

}  // namespace muster::test

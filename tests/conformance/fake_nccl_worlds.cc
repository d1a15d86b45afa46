// The NCCL backend over NCCL and GPUs in memory: once as it comes, once in small pieces, once with an old library.
#include "absl/strings/str_cat.h"
#include "tests/conformance/conformance.h"
#include "tests/support/fake_nccl.h"

namespace muster::test {
namespace {

World Make(const std::string& name, int ranks, NcclPowers powers, int64_t scratch_bytes) {
  return {name, ranks, [=](const std::function<void(Communicator&)>& body) {
            FakeCuda cuda({.devices = ranks});
            FakeNccl nccl(cuda, {.powers = powers});
            FakeNode node({.ranks = ranks});
            RunNcclRanks(cuda, nccl, node, body, [=](int, NcclOptions& options) { options.scratch_bytes = scratch_bytes; });
          }};
}

}  // namespace

std::vector<World> ConformanceWorlds() {
  const NcclPowers all = {true, true, true, true, true, true};
  return {Make("FakeNccl1", 1, all, 4 << 20), Make("FakeNccl3", 3, all, 4 << 20), Make("SmallPieces", 3, all, 12 * 1024),
          Make("OldLibrary", 2, {}, 1 << 20)};
}

}  // namespace muster::test

// The world that this process's session is a member of, whoever started it: mpirun, or muster run with some --backend. Where that reduces in
// a GPU's memory it is two: with buffers there, and on the host.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include "absl/strings/str_cat.h"
#include "muster/session.h"
#include "runtime/device/cuda_library.h"
#include "tests/conformance/conformance.h"
#include "tests/support/device_memory.h"

namespace {

muster::Session* session = nullptr;
muster::CudaApi* cuda = nullptr;  // null: the backend takes host memory only

}  // namespace

namespace muster::test {

std::vector<World> ConformanceWorlds() {
  const World plain = {"Session", session->world_size(),
                       [](const std::function<void(Communicator&)>& body) { body(session->world()); }};
  if (cuda == nullptr) return {plain};
  World on_device = plain, on_host = plain;
  on_device.run = [](const std::function<void(Communicator&)>& body) {
    body(*WithDeviceMemory(session->world(), *cuda, [](int, int64_t) { return true; }));
  };
  on_host.name = "SessionOnHost";
  return {on_device, on_host};
}

}  // namespace muster::test

int main(int argc, char** argv) {
  auto opened = muster::Session::Create();
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", opened.status().ToString().c_str());
    return 2;
  }
  session = opened->get();
  std::shared_ptr<muster::CudaApi> library;
  if (session->world().capabilities().device != nullptr) {
    const char* const path = std::getenv("MUSTER_CUDA_LIBRARY");
    auto loaded = muster::OpenCudaLibrary(path == nullptr ? "" : path);
    if (!loaded.ok()) {
      std::fprintf(stderr, "%s\n", loaded.status().ToString().c_str());
      return 2;
    }
    library = *std::move(loaded);
    cuda = library.get();
  }
  // All ranks make the same values.
  const char* chosen = std::getenv("MUSTER_TEST_SEED");
  int64_t seed = chosen != nullptr ? std::atoll(chosen) : static_cast<int64_t>(std::random_device()());
  if (!session->world().Broadcast(muster::MakeTensor(&seed, 1), 0).ok()) return 2;
  setenv("MUSTER_TEST_SEED", absl::StrCat(seed).c_str(), 1);
  testing::InitGoogleTest(&argc, argv);
  const int failed = RUN_ALL_TESTS();
  std::printf("conformance over %s: rank %d of %d %s\n", session->world().capabilities().backend, session->rank(),
              session->world_size(), failed == 0 ? "passed" : "FAILED");
  std::fflush(stdout);
  opened->reset();
  return failed;
}

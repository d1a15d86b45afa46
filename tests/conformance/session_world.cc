// The world that this process's session is a member of, whoever started it: mpirun, or muster run with some --backend.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include "absl/strings/str_cat.h"
#include "muster/session.h"
#include "tests/conformance/conformance.h"

namespace {

muster::Session* session = nullptr;

}  // namespace

namespace muster::test {

std::vector<World> ConformanceWorlds() {
  return {{"Session", session->world_size(), [](const std::function<void(Communicator&)>& body) { body(session->world()); }}};
}

}  // namespace muster::test

int main(int argc, char** argv) {
  auto opened = muster::Session::Create();
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", opened.status().ToString().c_str());
    return 2;
  }
  session = opened->get();
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

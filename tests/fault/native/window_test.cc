// A window that cannot be made fails on every rank alike, and leaves the communicator usable.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/fake_node.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

TEST(Window, BeyondTheMemoryLimitIsRefusedWithTheRemedy) {
  FakeNode node({.ranks = 3, .memory_limit_bytes = 3 * 8192});
  RunRanks(node, [](Communicator& comm) {
    auto small = comm.CreateWindow(4096);
    ASSERT_TRUE(small.ok()) << small.status();
    const absl::Status refused = comm.CreateWindow(4097).status();
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    for (const char* part : {"4097 bytes", "3 ranks", "12288 bytes in windows already", "memory limit of 24576 bytes",
                             "/sys/fs/cgroup/memory.max", "raise the limit"}) {
      EXPECT_THAT(std::string(refused.message()), HasSubstr(part));
    }
    ASSERT_TRUE(comm.Barrier().ok());
    small->reset();
    EXPECT_TRUE(comm.CreateWindow(8192).ok());  // the first one's room is free again
  });
  EXPECT_TRUE(node.blames().empty());
}

TEST(Window, BeyondTheMachinesMemoryIsRefused) {
  RunRanks(2, [](Communicator& comm) {
    const absl::Status refused = comm.CreateWindow(int64_t{1} << 50).status();
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("MemAvailable"));
    EXPECT_TRUE(comm.Barrier().ok());
  });
}

TEST(Window, OneRanksFailureIsEveryRanks) {
  FakeNode node({.ranks = 3, .offer_fails_on_rank = 1});
  RunRanks(node, [](Communicator& comm) {
    const absl::Status failed = comm.CreateWindow(4096).status();
    EXPECT_TRUE(absl::IsResourceExhausted(failed)) << failed;
    EXPECT_THAT(std::string(failed.message()), HasSubstr(comm.rank() == 1 ? "no descriptor is free" : "rank 1 could not"));
    EXPECT_TRUE(comm.Barrier().ok());
  });
}

TEST(Window, IsZeroAlignedAndOutlivesItsCommunicator) {
  FakeNode node({.ranks = 1});
  auto comm = node.Join(0);
  auto window = comm->CreateWindow(10'000);
  ASSERT_TRUE(window.ok());
  comm.reset();
  auto* data = static_cast<char*>((*window)->data());
  EXPECT_EQ((*window)->bytes(), 10'000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 4096, 0u);
  for (int i = 0; i < 10'000; ++i) ASSERT_EQ(data[i], 0);
}

}  // namespace
}  // namespace muster::test

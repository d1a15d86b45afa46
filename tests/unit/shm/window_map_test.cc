#include "runtime/shm/window_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

namespace muster {
namespace {

constexpr int64_t kBytes = 3 * 4096;

std::vector<Mapping> TwoRanks() {
  std::vector<Mapping> mappings;
  for (int r = 0; r < 2; ++r) {
    auto fd = CreateSealedMemory("muster-test", kBytes);
    EXPECT_TRUE(fd.ok()) << fd.status();
    mappings.push_back(*Mapping::Map(fd->get(), kBytes));
  }
  return mappings;
}

TEST(SealedMemory, IsZeroAndCannotChangeItsSize) {
  auto fd = CreateSealedMemory("muster-test", kBytes);
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_EQ(::ftruncate(fd->get(), 1), -1);
  EXPECT_EQ(::ftruncate(fd->get(), 2 * kBytes), -1);
  EXPECT_NE(::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, 0);
  auto mapping = Mapping::Map(fd->get(), kBytes);
  ASSERT_TRUE(mapping.ok());
  EXPECT_TRUE(std::all_of(mapping->data(), mapping->data() + kBytes, [](char c) { return c == 0; }));
}

TEST(SealedMemory, WhatCannotBeHadIsRefused) {
  EXPECT_TRUE(absl::IsResourceExhausted(CreateSealedMemory("muster-test", int64_t{1} << 50).status()));
}

TEST(Mapping, ForkedChildLeavesAloneWhatTookItsPlace) {
  auto fd = CreateSealedMemory("muster-test", kBytes);
  ASSERT_TRUE(fd.ok()) << fd.status();
  Mapping mapping = *Mapping::Map(fd->get(), kBytes);
  const pid_t child = ::fork();
  if (child == 0) {
    // The mapping is not inherited; the kernel gives its place to the next one that fits.
    void* other =
        ::mmap(mapping.data(), kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (other != mapping.data()) ::_exit(1);
    mapping = Mapping();
    ::_exit(::msync(other, kBytes, MS_ASYNC) == 0 ? 0 : 2);  // an error where nothing is mapped
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "exit code " << WEXITSTATUS(status);
}

TEST(WindowMap, FindsWholeBuffersOfThisRankOnly) {
  WindowMap map;
  std::vector<Mapping> mappings = TwoRanks();
  char* const own = mappings[1].data();
  char* const peer = mappings[0].data();
  map.Add(5, 1, std::move(mappings));
  EXPECT_EQ(map.own_bytes(), kBytes);
  EXPECT_EQ(map.Find(own + 100, 8).window, 5u);
  EXPECT_EQ(map.Find(own + 100, 8).offset, 100u);
  EXPECT_EQ(map.Find(own, kBytes).window, 5u);
  EXPECT_EQ(map.Find(own, kBytes + 1).window, v1::kPrivateMemory);
  EXPECT_EQ(map.Find(own + kBytes - 4, 8).window, v1::kPrivateMemory);
  EXPECT_EQ(map.Find(peer, 8).window, v1::kPrivateMemory);
  EXPECT_EQ(map.Bases(5), (std::vector<char*>{peer, own}));
  map.Remove(5);
  EXPECT_EQ(map.Find(own, 8).window, v1::kPrivateMemory);
  EXPECT_EQ(map.own_bytes(), 0);
}

}  // namespace
}  // namespace muster

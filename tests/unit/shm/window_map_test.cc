#include "runtime/shm/window_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
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

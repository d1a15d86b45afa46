#include "launcher/agent/process_state.h"

#include <unistd.h>

#include "gtest/gtest.h"

namespace muster {
namespace {

TEST(ProcessState, ReadsAroundANameThatLooksLikeFields) {
  const ProcessState state =
      ParseProcessStat("812 (a) S 1 (b) T 1 812 812 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 12345 1 1", 100);
  EXPECT_EQ(state.letter, 'T');
  EXPECT_EQ(state.cpu_ms, 3000u);
}

TEST(ProcessState, WhatIsNoStatIsNothing) {
  EXPECT_EQ(ParseProcessStat("", 100).letter, 0);
  EXPECT_EQ(ParseProcessStat("812 (a) S 1 2", 100).letter, 0);
  EXPECT_EQ(ParseProcessStat("812 (a", 100).letter, 0);
}

TEST(ProcessState, SeesThisProcess) {
  EXPECT_EQ(ReadProcessState(::getpid()).letter, 'R');
  EXPECT_EQ(ReadProcessState(0).letter, 0);
}

}  // namespace
}  // namespace muster

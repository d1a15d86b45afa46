#include "runtime/collectives/registry.h"

#include <gtest/gtest.h>

#include <string>

namespace muster {
namespace {

std::string Choice(int ranks, int64_t bytes, Placement placement) {
  const Algorithm* algorithm = Select({ranks, bytes, v1::kSlotBytes, placement});
  return algorithm == nullptr ? "none" : algorithm->name;
}

TEST(Registry, TheSizeDecidesWhereItIsSmall) {
  for (Placement placement : {Placement::kUnknown, Placement::kOneWindow, Placement::kMixed}) {
    EXPECT_EQ(Choice(2, 0, placement), "flag_line");
    EXPECT_EQ(Choice(2, 48, placement), "flag_line");
  }
}

TEST(Registry, ThePlacementDecidesWhereItIsLarge) {
  EXPECT_EQ(Choice(2, 49, Placement::kUnknown), "none");
  EXPECT_EQ(Choice(2, 49, Placement::kMixed), "slots");
  EXPECT_EQ(Choice(256, v1::kSlotBytes, Placement::kMixed), "slots");
  EXPECT_EQ(Choice(2, v1::kSlotBytes, Placement::kOneWindow), "one_pass");
  EXPECT_EQ(Choice(2, v1::kSlotBytes + 1, Placement::kOneWindow), "one_pass");
  EXPECT_EQ(Choice(2, v1::kSlotBytes + 1, Placement::kMixed), "staged");
  EXPECT_EQ(Choice(9, int64_t{1} << 40, Placement::kMixed), "staged");
}

TEST(Registry, AWorldOfOneExchangesNothing) { EXPECT_EQ(Choice(1, int64_t{1} << 40, Placement::kUnknown), "alone"); }

}  // namespace
}  // namespace muster

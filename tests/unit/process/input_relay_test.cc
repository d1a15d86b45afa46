// Standard input on its way to rank 0, over restarts.
#include "launcher/process/input_relay.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class InputRelayTest : public ::testing::Test {
 protected:
  void Offer(const std::string& bytes, bool end = false) {
    v1::Input input;
    input.set_bytes(bytes);
    input.set_end(end);
    relay_.Offer(std::move(input));
  }
  void Taken(bool closed = false) {
    v1::InputTaken taken;
    taken.set_closed(closed);
    relay_.Taken(taken);
  }
  std::vector<std::string> sent_;
  int taken_ = 0;
  InputRelay relay_{{[this](const v1::Input& input) { sent_.push_back(absl::StrCat(input.bytes(), input.end() ? "|" : "")); },
                     [this] { ++taken_; }}};
};

TEST_F(InputRelayTest, WaitsForARank0AndThenForEachPiece) {
  Offer("a");
  EXPECT_THAT(sent_, IsEmpty());
  relay_.Running(1);
  EXPECT_THAT(sent_, ElementsAre("a"));
  EXPECT_EQ(taken_, 0);
  Taken();
  EXPECT_EQ(taken_, 1);
  Offer("b", true);
  Taken();
  EXPECT_THAT(sent_, ElementsAre("a", "b|"));
  EXPECT_EQ(taken_, 2);
}

TEST_F(InputRelayTest, ASuccessorGetsWhatComesAfter) {
  relay_.Running(1);
  Offer("lost");
  relay_.Pause();
  EXPECT_EQ(taken_, 0);
  relay_.Running(2);
  EXPECT_EQ(taken_, 1) << "asks for the next piece";
  Offer("next");
  EXPECT_THAT(sent_, ElementsAre("lost", "next"));
}

TEST_F(InputRelayTest, EachRank0SeesTheEnd) {
  relay_.Running(1);
  Offer("all", true);
  Taken();
  relay_.Running(1);
  relay_.Pause();
  relay_.Running(3);
  EXPECT_THAT(sent_, ElementsAre("all|", "|"));
  Taken();
  EXPECT_EQ(taken_, 1) << "the command has been told of its end once";
}

TEST_F(InputRelayTest, AsksForNothingWhileNobodyReads) {
  relay_.Running(1);
  Offer("a");
  Taken(true);
  EXPECT_EQ(taken_, 0);
  relay_.Running(2);
  EXPECT_EQ(taken_, 1);
}

}  // namespace
}  // namespace muster

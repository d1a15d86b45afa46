// Standard input on its way to the nodes that read it, over restarts.
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
  void Taken(bool closed = false, uint32_t node = 0) {
    v1::InputTaken taken;
    taken.set_closed(closed);
    relay_.Taken(node, taken);
  }
  std::vector<std::string> sent_;
  int taken_ = 0;
  InputRelay relay_{{[this](uint32_t node, const v1::Input& input) {
                       sent_.push_back(
                           absl::StrCat(node > 0 ? absl::StrCat(node, ":") : "", input.bytes(), input.end() ? "|" : ""));
                     },
                     [this] { ++taken_; }}};
};

TEST_F(InputRelayTest, WaitsForARank0AndThenForEachPiece) {
  Offer("a");
  EXPECT_THAT(sent_, IsEmpty());
  relay_.Running(1, {0});
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
  relay_.Running(1, {0});
  Offer("lost");
  relay_.Pause();
  EXPECT_EQ(taken_, 0);
  relay_.Running(2, {0});
  EXPECT_EQ(taken_, 1) << "asks for the next piece";
  Offer("next");
  EXPECT_THAT(sent_, ElementsAre("lost", "next"));
}

TEST_F(InputRelayTest, EachRank0SeesTheEnd) {
  relay_.Running(1, {0});
  Offer("all", true);
  Taken();
  relay_.Running(1, {0});
  relay_.Pause();
  relay_.Running(3, {0});
  EXPECT_THAT(sent_, ElementsAre("all|", "|"));
  Taken();
  EXPECT_EQ(taken_, 1) << "the command has been told of its end once";
}

TEST_F(InputRelayTest, AsksForNothingWhileNobodyReads) {
  relay_.Running(1, {0});
  Offer("a");
  Taken(true);
  EXPECT_EQ(taken_, 0);
  relay_.Running(2, {0});
  EXPECT_EQ(taken_, 1);
}

TEST_F(InputRelayTest, TheSlowestNodeSetsThePace) {
  relay_.Running(1, {1, 2, 3});
  Offer("a");
  EXPECT_THAT(sent_, ElementsAre("1:a", "2:a", "3:a"));
  Taken(false, 3);
  Taken(false, 1);
  EXPECT_EQ(taken_, 0);
  Taken(false, 1);
  EXPECT_EQ(taken_, 0) << "said twice";
  Taken(false, 2);
  EXPECT_EQ(taken_, 1);
}

TEST_F(InputRelayTest, ANodeThatReadsNoMoreIsNotWaitedFor) {
  relay_.Running(1, {1, 2, 3});
  Offer("a");
  Taken(true, 1);
  Taken(false, 2);
  EXPECT_EQ(taken_, 0);
  relay_.Lost(3);
  EXPECT_EQ(taken_, 1);
  Offer("b", true);
  EXPECT_THAT(sent_, ElementsAre("1:a", "2:a", "3:a", "2:b|"));
  relay_.Running(2, {1, 3});
  EXPECT_THAT(std::vector<std::string>(sent_.begin() + 4, sent_.end()), ElementsAre("1:|", "3:|"))
      << "all new readers see the end";
}

TEST_F(InputRelayTest, WhereNobodyReadsThePieceWaits) {
  relay_.Running(1, {});
  Offer("a");
  EXPECT_THAT(sent_, IsEmpty());
  relay_.Running(2, {4});
  EXPECT_THAT(sent_, ElementsAre("4:a"));
}

TEST(ReaderNodes, AreThoseOfTheReaders) {
  v1::Members members;
  for (uint32_t rank = 0; rank < 4; ++rank) {
    v1::Place* place = members.add_places();
    place->set_rank(rank);
    place->set_node(10 + rank / 2);
  }
  v1::StdinSettings settings;
  EXPECT_THAT(ReaderNodes(settings, members), ElementsAre(10));
  settings.set_rank(3);
  EXPECT_THAT(ReaderNodes(settings, members), ElementsAre(11));
  settings.set_readers(v1::StdinSettings::ALL);
  EXPECT_THAT(ReaderNodes(settings, members), ElementsAre(10, 11));
  settings.set_readers(v1::StdinSettings::NONE);
  EXPECT_THAT(ReaderNodes(settings, members), IsEmpty());
}

}  // namespace
}  // namespace muster

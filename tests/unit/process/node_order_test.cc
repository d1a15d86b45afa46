#include "launcher/process/node_order.h"

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::NetworkKnowledge Knowledge(std::vector<std::pair<std::string, std::string>> files) {
  v1::NetworkKnowledge knowledge;
  for (const auto& [name, text] : files) {
    v1::NetworkFile* file = knowledge.add_files();
    file->set_name(name);
    file->set_text(text);
  }
  return knowledge;
}
std::vector<membership::NodeOffer> Offers(const std::vector<std::string>& hosts) {
  std::vector<membership::NodeOffer> offers;
  for (const std::string& host : hosts) offers.push_back({static_cast<uint32_t>(offers.size()), host, 1, {}, {}, {}, {}});
  return offers;
}
membership::NodeOrder Order(const v1::NetworkKnowledge& knowledge, const std::vector<membership::NodeOffer>& offers) {
  const auto order = MakeOrderFunction(knowledge);
  if (!order.ok() || *order == nullptr) {
    ADD_FAILURE() << order.status();
    return {};
  }
  return (*order)(offers, {});
}

constexpr char kTwoLeaves[] = "SwitchName=l0 Nodes=a,c\nSwitchName=l1 Nodes=b,d\nSwitchName=s Switches=l[0-1]\n";

TEST(NodeOrder, GoesLeafByLeafAndSaysWhatItGains) {
  const membership::NodeOrder order = Order(Knowledge({{"topology.conf", kTwoLeaves}}), Offers({"a", "b", "c", "d"}));
  EXPECT_THAT(order.nodes, ElementsAre(0, 2, 1, 3));
  EXPECT_EQ(order.plan,
            "ranks follow the network (topology.conf): the ring leaves a leaf 2 times, by the numbers of nodes it would 4");
  EXPECT_THAT(order.notes, IsEmpty());
}

TEST(NodeOrder, SurvivorsAndNewcomersKeepTheOrder) {
  const auto knowledge = Knowledge({{"topology.conf", kTwoLeaves}});
  std::vector<membership::NodeOffer> offers = Offers({"a", "b", "c", "d"});
  const auto order = MakeOrderFunction(knowledge);
  ASSERT_TRUE(order.ok());
  // Each of these is a nested order, whose nodes stay where they are among each other.
  const std::vector<uint32_t> former = {3, 1, 2, 0};
  EXPECT_EQ((*order)(offers, former).nodes, former);
  offers.erase(offers.begin() + 1);
  EXPECT_THAT((*order)(offers, former).nodes, ElementsAre(3, 2, 0));
  const std::vector<membership::NodeOffer> all = Offers({"a", "b", "c", "d"});
  const std::vector<uint32_t> joined = (*order)(all, {3, 2, 0}).nodes;
  // Node 1 comes between others of its leaf and of the other one; the ring closes behind its last node.
  EXPECT_THAT(joined, ::testing::AnyOf(ElementsAre(3, 1, 2, 0), ElementsAre(1, 3, 2, 0), ElementsAre(3, 2, 0, 1)));
  // One that is not nested is planned anew.
  EXPECT_THAT((*order)(all, {0, 1, 2, 3}).nodes, ElementsAre(0, 2, 1, 3));
}

TEST(NodeOrder, WhatAgentsTellIsTakenWhereFilesSayNothing) {
  std::vector<membership::NodeOffer> offers = Offers({"a", "b", "c"});
  for (membership::NodeOffer& offer : offers) {
    offer.network.set_source("Slurm");
    v1::NetworkLabel* label = offer.network.add_path();
    label->set_level("leaf");
    label->set_value(offer.host == "b" ? "l1" : "l0");
  }
  EXPECT_THAT(Order({}, offers).nodes, ElementsAre(0, 2, 1));
  EXPECT_THAT(Order({}, offers).plan, HasSubstr("(Slurm)"));
  // The user's file goes before it, and the contradiction is said.
  const membership::NodeOrder order = Order(Knowledge({{"f", "SwitchName=x Nodes=a,b\nSwitchName=y Nodes=c"}}), offers);
  EXPECT_THAT(order.nodes, ElementsAre(0, 1, 2));
  EXPECT_THAT(order.notes,
              ElementsAre(HasSubstr("f puts a and b together in leaf x without c, Slurm puts a and c together in leaf l0 "
                                    "without b; f is taken")));
}

TEST(NodeOrder, WithoutKnowledgeNodesFollowTheirNumbers) {
  const membership::NodeOrder order = Order({}, Offers({"b", "a"}));
  EXPECT_THAT(order.nodes, ElementsAre(0, 1));
  EXPECT_EQ(order.plan, "");
  EXPECT_THAT(Order(Knowledge({{"topology.conf", kTwoLeaves}}), Offers({"x", "y"})).notes,
              ElementsAre("topology.conf says of none of the nodes (x, y) where it stands, and is left out"));
}

TEST(NodeOrder, WhatAnAgentCouldNotReadIsSaid) {
  std::vector<membership::NodeOffer> offers = Offers({"a", "b"});
  offers[1].network.set_source("Slurm");
  offers[1].network.set_note("host b: unreadable");
  const membership::NodeOrder order = Order({}, offers);
  EXPECT_THAT(order.nodes, ElementsAre(0, 1));
  EXPECT_THAT(order.notes, ElementsAre("host b: unreadable"));
}

TEST(NodeOrder, ThereIsNoneWhereTheUserHasChosenAnother) {
  v1::NetworkKnowledge knowledge = Knowledge({{"topology.conf", kTwoLeaves}});
  knowledge.set_order_is_chosen(true);
  EXPECT_EQ(*MakeOrderFunction(knowledge), nullptr);
}

TEST(NodeOrder, BrokenFilesAreErrors) {
  EXPECT_THAT(MakeOrderFunction(Knowledge({{"slurm:t", "SwitchName=a Switches=a"}})).status().message(),
              HasSubstr("hangs below itself"));
}

}  // namespace
}  // namespace muster

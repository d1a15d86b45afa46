// How many workers each node gets, from the list of hosts and from what their agents say.
#include "launcher/process/node_slots.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<uint32_t> All(const NodeSlots& slots, uint32_t nodes) {
  std::vector<uint32_t> all;
  for (uint32_t node = 0; node < nodes; ++node) all.push_back(slots.of(node));
  return all;
}

v1::Launch OfHosts(uint32_t workers, const std::vector<uint32_t>& listed) {
  v1::Launch launch;
  launch.set_workers(workers);
  launch.set_nodes(static_cast<uint32_t>(listed.size()));
  for (size_t i = 0; i < listed.size(); ++i) {
    v1::LaunchHost* host = launch.add_hosts();
    host->set_name("host" + std::to_string(i));
    host->set_slots_listed(listed[i]);
  }
  return launch;
}

v1::AgentMessage JoinWith(uint32_t cores) {
  v1::AgentMessage message;
  message.mutable_join()->set_usable_cores(cores);
  return message;
}

TEST(NodeSlots, AsEvenAsCanBeWithoutHosts) {
  v1::Launch launch;
  launch.set_workers(7);
  launch.set_nodes(3);
  const NodeSlots slots(&launch);
  EXPECT_FALSE(slots.open());
  EXPECT_THAT(All(slots, 3), ElementsAre(3, 2, 2));
  EXPECT_FALSE(slots.more_than_needed());
}

TEST(NodeSlots, AsTheHostsSay) {
  v1::Launch launch = OfHosts(5, {4, 1});
  launch.mutable_hosts(0)->set_slots(4);
  launch.mutable_hosts(1)->set_slots(1);
  const NodeSlots slots(&launch);
  EXPECT_FALSE(slots.open());
  EXPECT_THAT(All(slots, 2), ElementsAre(4, 1));
}

TEST(NodeSlots, HostsThatAreOpenGetAsManyAsTheyHaveCores) {
  const v1::Launch launch = OfHosts(6, {0, 2, 0, 0});
  NodeSlots slots(&launch);
  EXPECT_TRUE(slots.open());
  EXPECT_FALSE(slots.Hold(0, JoinWith(3)));
  EXPECT_FALSE(slots.Hold(1, JoinWith(64)));  // its two slots are listed
  EXPECT_FALSE(slots.Hold(3, JoinWith(8)));
  EXPECT_TRUE(slots.LetGo(3));  // lost, and back again
  EXPECT_FALSE(slots.LetGo(3));
  EXPECT_FALSE(slots.Hold(2, JoinWith(8)));
  EXPECT_TRUE(slots.Hold(3, JoinWith(8)));
  ASSERT_TRUE(slots.Fill().ok());
  EXPECT_FALSE(slots.open());
  EXPECT_THAT(All(slots, 4), ElementsAre(3, 2, 1, 0));
  EXPECT_EQ(slots.TakeHeld().size(), 4u);
  EXPECT_TRUE(slots.TakeHeld().empty());
}

TEST(NodeSlots, SparesAreTheLastNodesAndNobodyWaitsForThem) {
  v1::Launch alike;
  alike.set_workers(5);
  alike.set_nodes(3);
  alike.set_spares(1);
  EXPECT_THAT(All(NodeSlots(&alike), 3), ElementsAre(3, 2, 3));
  EXPECT_EQ(NodeSlots(&alike).needed(), 2u);
  EXPECT_TRUE(NodeSlots(&alike).more_than_needed());

  v1::Launch launch = OfHosts(4, {0, 0, 0});
  launch.set_spares(1);
  NodeSlots slots(&launch);
  EXPECT_FALSE(slots.Hold(2, JoinWith(6)));
  EXPECT_FALSE(slots.Hold(0, JoinWith(3)));
  EXPECT_TRUE(slots.Hold(1, JoinWith(3)));
  ASSERT_TRUE(slots.Fill().ok());
  EXPECT_THAT(All(slots, 3), ElementsAre(3, 1, 0));
  slots.Learn(2, JoinWith(6).join());
  EXPECT_THAT(All(slots, 3), ElementsAre(3, 1, 6));
}

TEST(NodeSlots, HostsAreFilledAsRanksAreMapped) {
  v1::Launch launch = OfHosts(4, {0, 0});
  launch.mutable_job()->mutable_placement()->set_map_by("node");
  NodeSlots slots(&launch);
  slots.Hold(0, JoinWith(8));
  EXPECT_TRUE(slots.Hold(1, JoinWith(8)));
  ASSERT_TRUE(slots.Fill().ok());
  EXPECT_THAT(All(slots, 2), ElementsAre(2, 2));
}

TEST(NodeSlots, TooFewCoresAreSaidWithTheirRemedy) {
  const v1::Launch launch = OfHosts(6, {0, 0});
  NodeSlots slots(&launch);
  slots.Hold(0, JoinWith(2));
  EXPECT_TRUE(slots.Hold(1, JoinWith(3)));
  const absl::Status filled = slots.Fill();
  EXPECT_THAT(std::string(filled.message()), HasSubstr("--oversubscribe"));
}

}  // namespace
}  // namespace muster

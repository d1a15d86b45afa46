#include "launcher/pmix/pmix_world.h"

#include <gmock/gmock.h>

namespace muster {
namespace {

using ::testing::ElementsAre;

v1::PmixWorld WorldOf(const std::vector<uint32_t>& nodes, uint32_t own) {
  v1::PmixWorld world;
  world.set_name_space("world");
  world.set_node(own);
  uint32_t hosts = 0;
  for (const uint32_t node : nodes) {
    world.add_places()->set_node(node);
    hosts = std::max(hosts, node + 1);
  }
  for (uint32_t i = 0; i < hosts; ++i) world.add_hosts("host" + std::to_string(i));
  return world;
}

TEST(PmixWorld, MapsAreAsLibpmixReadsThem) {
  const PmixMaps maps = MapsOf(WorldOf({0, 1, 0, 1, 2}, 1));
  EXPECT_EQ(maps.hosts, "host0,host1,host2");
  EXPECT_EQ(maps.ranks, "0,2;1,3;4");
  EXPECT_THAT(maps.local_ranks, ElementsAre(1, 3));
}

TEST(PmixWorld, WhatDoesNotFitIsRefused) {
  EXPECT_TRUE(CheckWorld(WorldOf({0, 1}, 1)).ok());
  EXPECT_FALSE(CheckWorld(WorldOf({0, 0}, 1)).ok());
  EXPECT_FALSE(CheckWorld(v1::PmixWorld()).ok());
  v1::PmixWorld world = WorldOf({0, 1}, 0);
  world.mutable_places(1)->set_node(2);
  EXPECT_FALSE(CheckWorld(world).ok());
}

TEST(FenceNames, AreTheSameOnEveryNodeAndNeverTwice) {
  const v1::PmixWorld world = WorldOf({0, 0, 1, 1, 2, 2}, 0);
  FenceNames here, there;
  const v1::PmixFence all = here.Next(world, {});
  EXPECT_THAT(all.nodes(), ElementsAre(0, 1, 2));
  EXPECT_EQ(there.Next(world, {}).name(), all.name());
  EXPECT_NE(here.Next(world, {}).name(), all.name());
  const v1::PmixFence some = here.Next(world, {4, 0});
  EXPECT_THAT(some.nodes(), ElementsAre(0, 2));
  EXPECT_EQ(some.rank(), 0u);
  EXPECT_EQ(there.Next(world, {0, 4}).name(), some.name());
  EXPECT_NE(here.Next(world, {0, 5}).name(), some.name());
}

TEST(FenceNames, SayWhichRankOfTheirNodeWaits) {
  FenceNames names;
  const v1::PmixWorld world = WorldOf({0, 0, 1, 1, 0, 1}, 1);
  EXPECT_EQ(names.Next(world, {}).rank(), 2u);
  EXPECT_EQ(names.Next(world, {5, 3, 0}).rank(), 3u);
}

}  // namespace
}  // namespace muster

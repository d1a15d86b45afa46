// What makes rates max-min fair, and what a ring's rate is.
#include <algorithm>
#include <limits>
#include <map>

#include "gtest/gtest.h"
#include "launcher/fabric/fair_share.h"
#include "launcher/fabric/generate.h"
#include "launcher/fabric/ring_forecast.h"
#include "tests/support/seeds.h"

namespace muster {
namespace {

constexpr char kProgram[] = "fabric_property_test";
constexpr double kInfinite = std::numeric_limits<double>::infinity();

size_t At(int index) { return static_cast<size_t>(index); }

TEST(FairRates, NoFlowCanGrowButAtTheCostOfOneThatIsNotFaster) {
  ForEachSeed(500, kProgram, [](std::mt19937_64& random) {
    std::vector<double> capacities;
    for (int link = 1 + Below(random, 12); link > 0; --link)
      capacities.push_back(Below(random, 8) == 0 ? kInfinite : 1 + Below(random, 100));
    std::vector<Flow> flows(At(1 + Below(random, 15)));
    for (Flow& flow : flows) {
      for (int use = Below(random, 6); use > 0; --use) {
        flow.uses.push_back(
            {Below(random, static_cast<int>(capacities.size())), Below(random, 3) == 0 ? 1.0 + Below(random, 4) : 1.0});
      }
    }
    const std::vector<double> rates = FairRates(capacities, flows);
    std::vector<double> load(capacities.size(), 0);
    for (size_t f = 0; f < flows.size(); ++f) {
      for (const Flow::Use& use : flows[f].uses) {
        if (rates[f] < kInfinite) load[At(use.link)] += rates[f] * use.share;
      }
    }
    for (size_t link = 0; link < capacities.size(); ++link) EXPECT_LE(load[link], capacities[link] * (1 + 1e-9));
    for (size_t f = 0; f < flows.size(); ++f) {
      const bool bounded = std::any_of(flows[f].uses.begin(), flows[f].uses.end(),
                                       [&](const Flow::Use& use) { return capacities[At(use.link)] < kInfinite; });
      EXPECT_EQ(bounded, rates[f] < kInfinite);
      if (!bounded) continue;
      EXPECT_GT(rates[f], 0);
      // It has a bottleneck: a link that is full, on which nobody is faster.
      const bool held = std::any_of(flows[f].uses.begin(), flows[f].uses.end(), [&](const Flow::Use& mine) {
        if (load[At(mine.link)] < capacities[At(mine.link)] * (1 - 1e-9)) return false;
        for (size_t other = 0; other < flows.size(); ++other) {
          for (const Flow::Use& use : flows[other].uses) {
            if (use.link == mine.link && rates[other] > rates[f] * (1 + 1e-9)) return false;
          }
        }
        return true;
      });
      EXPECT_TRUE(held) << "flow " << f << " at " << rates[f];
    }
  });
}

// One ring through a tree, in any order, beside a plain count of the edges that leave and enter each group.
TEST(RingForecast, OneRingIsAsFastAsItsMostLoadedLink) {
  ForEachSeed(100, kProgram, [](std::mt19937_64& random) {
    const std::vector<int> fan_out = {1 + Below(random, 4), 1 + Below(random, 4), 2 + Below(random, 5)};
    const double oversubscription = 1 + Below(random, 8);
    const NodeKind kind = {.gpus = 1, .nics = 1, .nic_bytes_per_second = 1e9};
    const Cluster cluster = FatTree(fan_out, oversubscription, kind, NodeNames::kShuffled, random());
    ASSERT_TRUE(CheckCluster(cluster).ok()) << CheckCluster(cluster);
    const GroupTree tree(cluster);
    const Network network(cluster, tree);
    ForecastRing ring;
    for (int node = 0; node < tree.nodes(); ++node) ring.nodes.push_back(node);
    std::shuffle(ring.nodes.begin(), ring.nodes.end(), random);
    ring.nics.assign(ring.nodes.size(), 0);

    double slowest = 1e9;
    for (int level = 0; level < tree.levels(); ++level) {
      std::map<std::vector<std::string>, int> out, in;
      for (size_t i = 0; i < ring.nodes.size(); ++i) {
        std::vector<std::string> from = cluster.nodes[At(ring.nodes[i])].labels,
                                 to = cluster.nodes[At(ring.nodes[(i + 1) % ring.nodes.size()])].labels;
        from.resize(At(level + 1));
        to.resize(At(level + 1));
        if (from == to) continue;
        ++out[from];
        ++in[to];
      }
      for (const auto& counts : {out, in}) {
        for (const auto& [group, edges] : counts)
          slowest = std::min(slowest, cluster.levels[At(level)].uplink_bytes_per_second / edges);
      }
    }
    EXPECT_NEAR(ForecastAllReduce(network, {ring}, 1e6).bus_bytes_per_second, slowest, 1e-3);
  });
}

}  // namespace
}  // namespace muster

// Orders of nodes: the fewest crossings there can be, whatever the labels; joins and leaves; rings; trees.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/planner/rank_map.h"
#include "launcher/planner/ring_order.h"
#include "launcher/planner/rings.h"
#include "launcher/planner/trees.h"
#include "tests/support/seeds.h"

namespace muster {
namespace {

constexpr char kProgram[] = "planner_order_property_test";

using Sizes = std::vector<int>;

size_t At(int index) { return static_cast<size_t>(index); }

// All ways to write `total` as a sum of parts, the greatest first, none above `most`.
void Partitions(int total, int most, Sizes* open, std::vector<Sizes>* found) {
  if (total == 0) found->push_back(*open);
  for (int part = std::min(total, most); part > 0; --part) {
    open->push_back(part);
    Partitions(total - part, part, open, found);
    open->pop_back();
  }
}

std::vector<Sizes> PartitionsOf(int total) {
  Sizes open;
  std::vector<Sizes> found;
  Partitions(total, total, &open, &found);
  return found;
}

// All ways to cut a rack's nodes into leaves for every rack of `racks`: {racks[0]'s leaves, racks[1]'s, ...}.
void LeavesOf(const Sizes& racks, size_t rack, std::vector<Sizes>* open, std::vector<std::vector<Sizes>>* found) {
  if (rack == racks.size()) {
    found->push_back(*open);
    return;
  }
  for (const Sizes& leaves : PartitionsOf(racks[rack])) {
    // Racks of the same size are alike: their leaves in one order only.
    if (rack > 0 && racks[rack] == racks[rack - 1] && leaves > open->back()) continue;
    open->push_back(leaves);
    LeavesOf(racks, rack + 1, open, found);
    open->pop_back();
  }
}

Cluster TwoLevels(const std::vector<Sizes>& racks, std::mt19937_64& random) {
  Cluster cluster;
  cluster.levels = {{.name = "rack"}, {.name = "leaf"}};
  for (size_t rack = 0; rack < racks.size(); ++rack) {
    for (size_t leaf = 0; leaf < racks[rack].size(); ++leaf) {
      for (int node = 0; node < racks[rack][leaf]; ++node) {
        cluster.nodes.push_back({.labels = {absl::StrCat("r", rack), absl::StrCat("l", leaf)}});
      }
    }
  }
  // Names that say nothing of the place.
  std::vector<int> numbers(cluster.nodes.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  std::shuffle(numbers.begin(), numbers.end(), random);
  for (size_t i = 0; i < numbers.size(); ++i) cluster.nodes[i].name = absl::StrCat("n", numbers[i]);
  return cluster;
}

// The least crossings on each level by itself, over all cycles.
std::vector<int> BruteForce(const GroupTree& tree) {
  std::vector<int> order(At(tree.nodes())), least(At(tree.levels()), tree.nodes());
  std::iota(order.begin(), order.end(), 0);
  do {
    for (int level = 0; level < tree.levels(); ++level) {
      int crossings = 0;
      for (size_t i = 0; i < order.size(); ++i) {
        crossings += tree.GroupOf(order[i], level) != tree.GroupOf(order[i + 1 < order.size() ? i + 1 : 0], level);
      }
      least[At(level)] = std::min(least[At(level)], crossings);
    }
  } while (std::next_permutation(order.begin() + 1, order.end()));
  return least;
}

TEST(Order, HasTheFewestCrossingsOfAllOrdersForAllPartitionsOfNineNodes) {
  std::mt19937_64 random(1);
  int tried = 0;
  for (int nodes = 1; nodes <= 9; ++nodes) {
    for (const Sizes& racks : PartitionsOf(nodes)) {
      std::vector<Sizes> open;
      std::vector<std::vector<Sizes>> all;
      LeavesOf(racks, 0, &open, &all);
      for (const std::vector<Sizes>& leaves : all) {
        const Cluster cluster = TwoLevels(leaves, random);
        const GroupTree tree(cluster);
        const std::vector<Crossings> ours = CountCrossings(tree, PlanOrder(cluster, tree, 1).nodes);
        const std::vector<int> least = BruteForce(tree);
        for (int level = 0; level < 2; ++level)
          ASSERT_EQ(ours[At(level)].crossings, least[At(level)]) << nodes << " nodes, level " << level;
        ++tried;
      }
    }
  }
  EXPECT_EQ(tried, 1 + 3 + 6 + 14 + 27 + 58 + 111 + 223 + 424) << "the number of partitions of partitions (OEIS A001970)";
}

// --- Random clusters ---

// Up to three levels, groups of unequal sizes, some labels not known.
Cluster RandomCluster(std::mt19937_64& random, int nodes_max) {
  Cluster cluster;
  const int levels = Below(random, 4);
  for (int level = 0; level < levels; ++level) cluster.levels.push_back({.name = absl::StrCat("level", level)});
  const int nodes = 1 + Below(random, nodes_max), fan = 1 + Below(random, 5);
  std::vector<int> numbers(At(nodes));
  std::iota(numbers.begin(), numbers.end(), 1);
  std::shuffle(numbers.begin(), numbers.end(), random);
  for (int i = 0; i < nodes; ++i) {
    Cluster::Node& node = cluster.nodes.emplace_back();
    node.name = absl::StrCat("node", numbers[At(i)]);
    for (int level = 0; level < levels; ++level) {
      node.labels.push_back(Below(random, 12) == 0 ? "" : absl::StrCat("g", Below(random, fan)));
    }
    node.nics.resize(At(1 + Below(random, 3)));
  }
  if (Below(random, 2) == 0) {
    for (int i = Below(random, 200); i > 0; --i) {
      const int from = Below(random, nodes), to = Below(random, nodes);
      const bool known = std::any_of(cluster.measurements.begin(), cluster.measurements.end(),
                                     [&](const auto& one) { return one.from == from && one.to == to; });
      if (from == to || known) continue;
      cluster.measurements.push_back({from, to, 1 + Below(random, 1000), 1e9 * (1 + Below(random, 10))});
    }
  }
  return cluster;
}

std::vector<int> LeastCrossings(const GroupTree& tree, const std::vector<int>& ring) {
  std::vector<int> least;
  for (const Crossings& level : CountCrossings(tree, ring)) least.push_back(level.groups > 1 ? level.groups : 0);
  return least;
}

std::vector<int> CrossingsOf(const GroupTree& tree, const std::vector<int>& ring) {
  std::vector<int> crossings;
  for (const Crossings& level : CountCrossings(tree, ring)) crossings.push_back(level.crossings);
  return crossings;
}

// The cluster with its nodes in another order; `moved[i]` is the new place of node i.
Cluster Reordered(const Cluster& cluster, const std::vector<int>& moved, std::mt19937_64& random) {
  Cluster other = cluster;
  for (size_t i = 0; i < moved.size(); ++i) other.nodes[At(moved[i])] = cluster.nodes[i];
  for (Cluster::Measurement& one : other.measurements) {
    one.from = moved[At(one.from)];
    one.to = moved[At(one.to)];
  }
  std::shuffle(other.measurements.begin(), other.measurements.end(), random);
  return other;
}

std::vector<std::string> Names(const Cluster& cluster, const std::vector<int>& nodes) {
  std::vector<std::string> names;
  for (const int node : nodes) names.push_back(cluster.nodes[At(node)].name);
  return names;
}

TEST(Order, DoesNotDependOnTheOrderOfItsInput) {
  ForEachSeed(150, kProgram, [](std::mt19937_64& random) {
    const Cluster cluster = RandomCluster(random, 30);
    std::vector<int> moved(cluster.nodes.size());
    std::iota(moved.begin(), moved.end(), 0);
    std::shuffle(moved.begin(), moved.end(), random);
    const Cluster other = Reordered(cluster, moved, random);
    const GroupTree tree(cluster), other_tree(other);
    const int rings = 1 + Below(random, 2);
    EXPECT_EQ(Names(cluster, PlanOrder(cluster, tree, rings).nodes), Names(other, PlanOrder(other, other_tree, rings).nodes));
    EXPECT_EQ(LabelDoubts(cluster, tree), LabelDoubts(other, other_tree));
  });
}

TEST(Order, OfLabelledAndMeasuredNodesIsTheFastestOfThoseWithTheFewestCrossings) {
  ForEachSeed(60, kProgram, [](std::mt19937_64& random) {
    Cluster cluster;
    cluster.levels = {{.name = "rack"}, {.name = "leaf"}};
    const int nodes = 4 + Below(random, 4);
    for (int i = 0; i < nodes; ++i) {
      cluster.nodes.push_back(
          {.name = absl::StrCat("n", i), .labels = {absl::StrCat("r", Below(random, 2)), absl::StrCat("l", Below(random, 2))}});
    }
    for (int i = 0; i < nodes; ++i) {
      for (int j = 0; j < nodes; ++j) {
        if (i != j) cluster.measurements.push_back({i, j, 1000, 1e9 * (1 + Below(random, 50))});
      }
    }
    const GroupTree tree(cluster);
    const auto slowest = [&](const std::vector<int>& ring) {
      double speed = 1e300;
      for (size_t i = 0; i < ring.size(); ++i) {
        const int from = ring[i], to = ring[(i + 1) % ring.size()];
        speed = std::min(speed, cluster.measurements[At(from * (nodes - 1) + to - (to > from ? 1 : 0))].bytes_per_second);
      }
      return speed;
    };
    const std::vector<int> ours = PlanOrder(cluster, tree, 1).nodes;
    EXPECT_EQ(CrossingsOf(tree, ours), LeastCrossings(tree, ours));
    std::vector<int> order(At(nodes));
    std::iota(order.begin(), order.end(), 0);
    double best = 0;
    do {
      if (CrossingsOf(tree, order) == LeastCrossings(tree, order)) best = std::max(best, slowest(order));
    } while (std::next_permutation(order.begin() + 1, order.end()));
    EXPECT_GE(slowest(ours) * 1.02, best);
  });
}

using Edge = std::pair<int, int>;
std::multiset<Edge> EdgesOf(const std::vector<int>& ring) {
  std::multiset<Edge> edges;
  for (size_t i = 0; i < ring.size() && ring.size() > 1; ++i) edges.emplace(ring[i], ring[(i + 1) % ring.size()]);
  return edges;
}

std::vector<Edge> Without(const std::multiset<Edge>& edges, const std::multiset<Edge>& others) {
  std::vector<Edge> rest;
  std::set_difference(edges.begin(), edges.end(), others.begin(), others.end(), std::back_inserter(rest));
  return rest;
}

TEST(Order, AJoinOrALeaveChangesTwoEdgesAndKeepsTheFewestCrossings) {
  ForEachSeed(150, kProgram, [](std::mt19937_64& random) {
    const Cluster cluster = RandomCluster(random, 60);
    const GroupTree tree(cluster);
    const std::vector<std::vector<int>> rings = PlanRings(tree, PlanOrder(cluster, tree, 2).nodes, 1 + Below(random, 5));
    std::vector<int> ring = rings.back();
    std::vector<int> out;
    for (int step = 0; step < 30; ++step) {
      std::vector<int> next;
      std::vector<Edge> gone, come;
      const bool leaves = out.empty() || (ring.size() > 1 && Below(random, 2) == 0);
      if (leaves && ring.size() < 2) break;
      if (leaves) {
        const int node = ring[At(Below(random, static_cast<int>(ring.size())))];
        out.push_back(node);
        next = Shrink(ring, node);
      } else {
        std::swap(out[At(Below(random, static_cast<int>(out.size())))], out.back());
        next = Extend(cluster, tree, ring, out.back());
        out.pop_back();
      }
      gone = Without(EdgesOf(ring), EdgesOf(next));
      come = Without(EdgesOf(next), EdgesOf(ring));
      ASSERT_EQ(next.size(), ring.size() + (leaves ? -1 : 1));
      EXPECT_LE(gone.size(), leaves ? 2u : 1u);
      EXPECT_LE(come.size(), leaves ? 1u : 2u);
      EXPECT_EQ(CrossingsOf(tree, next), LeastCrossings(tree, next));
      ring = next;
    }
  });
}

// Beside a plain search over all places of a newcomer, where all pairs are measured.
TEST(Order, ANewcomerStandsWhereItsSlowerStepIsTheFastest) {
  ForEachSeed(150, kProgram, [](std::mt19937_64& random) {
    Cluster cluster = RandomCluster(random, 30);
    const int size = static_cast<int>(cluster.nodes.size());
    if (size < 3) return;
    cluster.measurements.clear();
    std::map<Edge, double> slowness;
    for (int from = 0; from < size; ++from) {
      for (int to = 0; to < size; ++to) {
        if (from == to) continue;
        const double speed = 1e9 * (1 + Below(random, 1000));
        slowness[{from, to}] = 1 / speed;
        cluster.measurements.push_back({from, to, 1000, speed});
      }
    }
    std::shuffle(cluster.measurements.begin(), cluster.measurements.end(), random);
    const GroupTree tree(cluster);
    std::vector<int> ring = PlanOrder(cluster, tree, 1).nodes;
    const int node = ring[At(Below(random, size))];
    ring = Shrink(ring, node);
    const auto slower = [&](const std::vector<int>& one) {
      const auto here = std::find(one.begin(), one.end(), node) - one.begin();
      const int before = one[At(static_cast<int>((here + size - 1) % size))],
                after = one[At(static_cast<int>((here + 1) % size))];
      return std::max(slowness.at({before, node}), slowness.at({node, after}));
    };
    std::pair<std::vector<int>, double> best;
    for (int place = 0; place < size - 1; ++place) {
      std::vector<int> one = ring;
      one.insert(one.begin() + place, node);
      std::pair<std::vector<int>, double> cost(CrossingsOf(tree, one), slower(one));
      if (place == 0 || cost < best) best = std::move(cost);
    }
    const std::vector<int> extended = Extend(cluster, tree, ring, node);
    EXPECT_EQ(CrossingsOf(tree, extended), best.first);
    EXPECT_EQ(slower(extended), best.second);
  });
}

TEST(Rings, EachHasTheFewestCrossingsAndTheyLeaveAGroupFromDifferentNodes) {
  ForEachSeed(150, kProgram, [](std::mt19937_64& random) {
    const Cluster cluster = RandomCluster(random, 60);
    const GroupTree tree(cluster);
    const int count = 1 + Below(random, 8);
    const std::vector<int> order = PlanOrder(cluster, tree, count).nodes;
    const std::vector<std::vector<int>> rings = PlanRings(tree, order, count);
    ASSERT_EQ(rings.size(), At(count));
    EXPECT_EQ(rings[0], order);
    std::map<int, std::multiset<int>> exits;  // group of the innermost level -> nodes that leave it
    for (const std::vector<int>& ring : rings) {
      EXPECT_EQ(std::set<int>(ring.begin(), ring.end()).size(), cluster.nodes.size());
      EXPECT_EQ(CrossingsOf(tree, ring), LeastCrossings(tree, ring));
      for (const auto& [from, to] : EdgesOf(ring)) {
        if (tree.SplitLevel(from, to) < tree.levels()) exits[tree.GroupOf(from, tree.levels() - 1)].insert(from);
      }
    }
    for (const auto& [group, nodes] : exits) {
      const int size = tree.groups()[At(group)].size;
      EXPECT_EQ(static_cast<int>(std::set<int>(nodes.begin(), nodes.end()).size()), std::min(size, count));
    }
  });
}

TEST(Trees, SpanWithOneCrossingLessThanThereAreGroups) {
  ForEachSeed(150, kProgram, [](std::mt19937_64& random) {
    const Cluster cluster = RandomCluster(random, 100);
    const GroupTree tree(cluster);
    std::vector<int> order = PlanOrder(cluster, tree, 1).nodes;
    std::rotate(order.begin(), order.begin() + Below(random, static_cast<int>(order.size())), order.end());
    const std::vector<ReductionTree> trees = PlanTrees(tree, order);
    ASSERT_EQ(trees.size(), 2u);
    for (const ReductionTree& one : trees) {
      EXPECT_EQ(std::count(one.parent.begin(), one.parent.end(), -1), 1);
      EXPECT_EQ(one.parent[At(one.root)], -1);
      for (int node = 0; node < tree.nodes(); ++node) {
        int at = node;
        for (int steps = 0; one.parent[At(at)] >= 0; ++steps, at = one.parent[At(at)]) ASSERT_LE(steps, tree.nodes());
        EXPECT_EQ(at, one.root);
      }
      for (int level = 0; level < tree.levels(); ++level)
        EXPECT_EQ(CountTreeCrossings(tree, one)[At(level)], tree.GroupsOn(level) - 1);
      // On each level at most the depth of the binary tree of the group with the most members.
      std::vector<int> most(At(tree.levels() + 1), 1);
      for (const GroupTree::Group& group : tree.groups()) {
        const int members = static_cast<int>(group.children.empty() ? group.nodes.size() : group.children.size());
        most[At(group.level + 1)] = std::max(most[At(group.level + 1)], members);
      }
      int depth = 0;
      for (int members : most) {
        for (; members > 1; members /= 2) ++depth;
      }
      EXPECT_LE(DepthOf(one, order), depth);
    }
    // Who has children among its own group's nodes in both.
    std::set<int> inner[2];
    for (int t = 0; t < 2; ++t) {
      for (int node = 0; node < tree.nodes(); ++node) {
        const int parent = trees[At(t)].parent[At(node)];
        if (parent >= 0 && tree.SplitLevel(node, parent) == tree.levels()) inner[t].insert(parent);
      }
    }
    std::vector<int> both;
    std::set_intersection(inner[0].begin(), inner[0].end(), inner[1].begin(), inner[1].end(), std::back_inserter(both));
    EXPECT_TRUE(both.empty());
  });
}

// --- NICs ---

PciDistance RandomDistance(std::mt19937_64& random) { return static_cast<PciDistance>(Below(random, 6)); }

// How many GPUs have each distance, the farthest first; the least over all ways that give NICs equally many.
std::vector<int> LeastDistances(const Cluster::Node& node, std::vector<int>* chosen, std::vector<int>* load, size_t gpu) {
  const size_t gpus = node.gpus.size(), nics = node.nics.size();
  if (gpu == gpus) {
    std::vector<int> cost(6, 0);
    for (size_t g = 0; g < gpus; ++g) ++cost[5 - static_cast<size_t>(node.distances[g * nics + At((*chosen)[g])])];
    return cost;
  }
  std::vector<int> best;
  for (size_t nic = 0; nic < nics; ++nic) {
    const size_t share = gpus / nics, left = gpus % nics;
    const size_t above = static_cast<size_t>(std::count(load->begin(), load->end(), static_cast<int>(share) + 1));
    const size_t now = At((*load)[nic]);
    if (now > share || (now == share && above >= left)) continue;
    ++(*load)[nic];
    (*chosen)[gpu] = static_cast<int>(nic);
    std::vector<int> cost = LeastDistances(node, chosen, load, gpu + 1);
    if (!cost.empty() && (best.empty() || cost < best)) best = std::move(cost);
    --(*load)[nic];
  }
  return best;
}

TEST(Nics, AreAsNearAsNicsThatServeEquallyManyCanBe) {
  ForEachSeed(500, kProgram, [](std::mt19937_64& random) {
    Cluster::Node node;
    node.gpus.resize(At(Below(random, 7)));
    node.nics.resize(At(1 + Below(random, 4)));
    for (size_t i = 0; i < node.gpus.size() * node.nics.size(); ++i) node.distances.push_back(RandomDistance(random));
    const std::vector<int> chosen = NicsOfGpus(node);
    ASSERT_EQ(chosen.size(), node.gpus.size());
    std::vector<int> cost(6, 0), load(node.nics.size(), 0);
    for (size_t g = 0; g < chosen.size(); ++g) {
      ++cost[5 - static_cast<size_t>(node.distances[g * node.nics.size() + At(chosen[g])])];
      ++load[At(chosen[g])];
    }
    EXPECT_LE(*std::max_element(load.begin(), load.end()) - *std::min_element(load.begin(), load.end()), 1);
    std::vector<int> scratch(node.gpus.size()), empty(node.nics.size(), 0);
    EXPECT_EQ(cost, LeastDistances(node, &scratch, &empty, 0));
  });
}

}  // namespace
}  // namespace muster

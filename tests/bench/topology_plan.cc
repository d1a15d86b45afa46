// How good plans are on clusters of many kinds, and how long planning takes.
//
//   topology_plan table    the table of docs/topology.md: the same on every machine
//   topology_plan time     a line for each cluster: what it is, nodes, GPUs, seconds to plan, seconds to judge the plan
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/fabric/generate.h"
#include "launcher/fabric/network.h"
#include "launcher/planner/compare.h"
#include "launcher/planner/plan.h"

namespace muster {
namespace {

struct Case {
  std::string name;
  Cluster cluster;
};

constexpr uint64_t kSeed = 1;

Case Fat(const std::string& name, const std::vector<int>& fan_out, double oversubscription,
         NodeNames names = NodeNames::kShuffled) {
  return {name, FatTree(fan_out, oversubscription, {}, names, kSeed)};
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  cases.push_back(Fat("fat tree 4:1, 8 leaves of 8", {8, 8}, 4));
  for (const int oversubscription : {1, 2, 4, 8}) {
    cases.push_back(
        Fat(absl::StrCat("fat tree ", oversubscription, ":1, 4 blocks of 16 leaves of 32"), {4, 16, 32}, oversubscription));
  }
  cases.push_back(Fat("the same 4:1, hosts named by place", {4, 16, 32}, 4, NodeNames::kByPlace));
  cases.push_back({"dragonfly 1:1, 16 groups, all linked",
                   Dragonfly(16, 8, 16, {1, 2, 3, 4, 5, 6, 7, 8}, 1, {}, NodeNames::kShuffled, kSeed)});
  cases.push_back(
      {"dragonfly 1:1, 16 groups, each linked to 6", Dragonfly(16, 8, 16, {2, 3, 5}, 1, {}, NodeNames::kShuffled, kSeed)});
  cases.push_back({"rail-optimised 1:1, 64 pods of 32", RailOptimised(64, 32, 1, {}, NodeNames::kShuffled, kSeed)});
  cases.push_back({"rail-optimised 4:1, 64 pods of 32", RailOptimised(64, 32, 4, {}, NodeNames::kShuffled, kSeed)});
  return cases;
}

std::string CrossingsText(const OrderQuality& quality) {
  std::string text;
  for (const double crossings : quality.crossings) absl::StrAppendFormat(&text, "%s%.0f", text.empty() ? "" : " / ", crossings);
  return text;
}

void PrintTable() {
  std::printf(
      "| topology | GPUs | levels | crossings: planned | by host name | random | bus GB/s: planned | by host name | random | "
      "gain over names |\n");
  std::printf("|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Case& one : Cases()) {
    const GroupTree tree(one.cluster);
    const Network network(one.cluster, tree);
    const Plan plan = MakePlan(one.cluster, tree, {});
    const int rings = static_cast<int>(plan.rings.size());
    const OrderQuality planned = JudgeRings(one.cluster, tree, network, plan.rings);
    const OrderQuality by_name = JudgeOrder(one.cluster, tree, network, HostNameOrder(one.cluster), rings);
    const OrderQuality random = JudgeRandomOrders(one.cluster, tree, network, rings);
    std::string levels;
    for (const Cluster::Level& level : one.cluster.levels) absl::StrAppend(&levels, levels.empty() ? "" : " / ", level.name);
    std::printf("%s\n",
                absl::StrFormat("| %s | %d | %s | %s | %s | %s | %.0f | %.1f | %.1f | %.1f |", one.name, plan.ranks.size(),
                                levels, CrossingsText(planned), CrossingsText(by_name), CrossingsText(random),
                                planned.bus_bytes_per_second / 1e9, by_name.bus_bytes_per_second / 1e9,
                                random.bus_bytes_per_second / 1e9, planned.bus_bytes_per_second / by_name.bus_bytes_per_second)
                    .c_str());
  }
}

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void Time(const std::string& name, const Cluster& cluster) {
  const double begin = Seconds();
  const GroupTree tree(cluster);
  const Plan plan = MakePlan(cluster, tree, {});
  const double planned = Seconds();
  const Network network(cluster, tree);
  const OrderQuality quality = JudgeRings(cluster, tree, network, plan.rings);
  const double judged = Seconds();
  const int groups = tree.GroupsOn(0);
  if (quality.crossings[0] != (groups > 1 ? groups : 0)) std::printf("%s: not the fewest crossings\n", name.c_str());
  std::printf("%s\t%zu\t%zu\t%.6f\t%.6f\n", name.c_str(), cluster.nodes.size(), plan.ranks.size(), planned - begin,
              judged - planned);
}

// 64 nodes of which nothing is known but every pair's bandwidth and latency.
Cluster Measured() {
  Cluster cluster = FatTree({8, 8}, 4, {}, NodeNames::kShuffled, kSeed);
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < 64; ++j) {
      const double noise = 1 + 0.05 * ((i * 131 + j * 197) % 101) / 101.0;
      if (i != j)
        cluster.measurements.push_back(
            {i, j, static_cast<int64_t>((i / 8 == j / 8 ? 2000 : 5000) * noise), (i / 8 == j / 8 ? 5e10 : 1.2e10) / noise});
    }
  }
  cluster.levels = {{.name = "site"}};
  for (Cluster::Node& node : cluster.nodes) node.labels = {"one"};
  return cluster;
}

void PrintTimes() {
  Time("fat tree, 64 leaves of 32 nodes of 8 GPUs", FatTree({4, 16, 32}, 4, {}, NodeNames::kShuffled, kSeed));
  Time("fat tree, 512 leaves of 32 nodes of 1 GPU",
       FatTree({4, 128, 32}, 4, {.gpus = 1, .nics = 1}, NodeNames::kShuffled, kSeed));
  Time("rail-optimised, 64 pods of 32 nodes of 8 GPUs", RailOptimised(64, 32, 4, {}, NodeNames::kShuffled, kSeed));
  Time("dragonfly, 16 groups of 128 nodes of 8 GPUs, each linked to 6",
       Dragonfly(16, 8, 16, {2, 3, 5}, 1, {}, NodeNames::kShuffled, kSeed));
  Time("64 nodes of 8 GPUs, all pairs measured, no labels", Measured());
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "table") == 0) {
    muster::PrintTable();
  } else if (argc == 2 && std::strcmp(argv[1], "time") == 0) {
    muster::PrintTimes();
  } else {
    std::fprintf(stderr, "usage: topology_plan table | time\n");
    return 64;
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}

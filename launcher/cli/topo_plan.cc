#include "launcher/cli/topo_plan.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/cli/cluster_source.h"
#include "launcher/cli/console.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/subcommand.h"
#include "launcher/fabric/network.h"
#include "launcher/hosts/host_list.h"
#include "launcher/job/write_file.h"
#include "launcher/nccl/nccl_settings.h"
#include "launcher/planner/compare.h"
#include "launcher/planner/explain.h"
#include "launcher/planner/plan.h"
#include "launcher/planner/plan_svg.h"
#include "launcher/planner/plan_text.h"
#include "launcher/planner/rings.h"
#include "launcher/process/exit_codes.h"
#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

size_t At(int index) { return static_cast<size_t>(index); }

struct PlanFlags {
  std::string cluster;
  std::string hosts;
  int64_t per_node = 0;
  int64_t rings = 0;
  int64_t rank = -1;
  bool explain = false;
  bool json = false;
  std::string svg;
  std::string hostfile;
};

FlagSet Declare(PlanFlags* plan) {
  FlagSet flags("muster topo plan");
  flags.Text("--cluster", "[KIND:]FILE", &plan->cluster,
             "nodes, switches and how fast links are: a cluster file (YAML,\ndocs/topology.md), Slurm's topology.conf or "
             "topology.yaml, or nodes of\nKubernetes as JSON. KIND (cluster, slurm, slurm-yaml[/NAME], kubernetes)\nwhere the "
             "text does not tell");
  flags.Text("-H --host", "LIST", &plan->hosts, "plan for these of its nodes only: node[01-16],login");
  flags.Count("--nproc-per-node", "N", &plan->per_node, 1, kHostSlotsMax,
              "ranks on each node; without it one for each GPU, and one on a node\nwithout GPUs");
  flags.Count("--rings", "K", &plan->rings, 1, static_cast<int64_t>(kNodeDevicesMax),
              "rings; without it one for each NIC of the node with the fewest");
  flags.Switch("--explain", &plan->explain, "say why a rank is where it is (rank 0, or that of --rank)");
  flags.Count("--rank", "N", &plan->rank, 0, int64_t{1} << 24, "the rank to explain");
  flags.Switch("--json", &plan->json,
               "one JSON object: order, ranks, rings, trees, crossings and\nbus_bytes_per_second of the planned order, "
               "host_name_order and\nrandom_order");
  flags.Text("--svg", "FILE", &plan->svg, "draw the ring beside that of the host names");
  flags.Text("--write-hostfile", "FILE", &plan->hostfile,
             "write the nodes in their order, with slots: for --hostfile of\nmuster run and mpirun");
  return flags;
}

// Everything that is worked out of one cluster.
struct Planned {
  Planned(ClusterSource source, const PlanOptions& options)
      : cluster(std::move(source.cluster)),
        tree(cluster),
        network(cluster, tree),
        plan(MakePlan(cluster, tree, options)),
        notes(std::move(source.notes)) {
    std::move(plan.doubts.begin(), plan.doubts.end(), std::back_inserter(notes));
    const int rings = static_cast<int>(plan.rings.size());
    planned = JudgeRings(cluster, tree, network, plan.rings);
    by_name = JudgeOrder(cluster, tree, network, HostNameOrder(cluster), rings);
    random = JudgeRandomOrders(cluster, tree, network, rings);
  }

  const Cluster cluster;
  const GroupTree tree;
  const Network network;
  Plan plan;
  std::vector<std::string> notes;
  OrderQuality planned, by_name, random;
};

std::vector<std::string> Names(const Cluster& cluster, const std::vector<int>& nodes) {
  std::vector<std::string> names;
  for (const int node : nodes) names.push_back(cluster.nodes[At(node)].name);
  return names;
}

Json QualityJson(const Planned& all, const OrderQuality& quality) {
  Json crossings = Json::object(), worst = Json::object();
  for (int level = 0; level < all.tree.levels(); ++level) {
    const auto number = [](double value) {
      return value == static_cast<double>(static_cast<int64_t>(value)) ? Json(static_cast<int64_t>(value)) : Json(value);
    };
    crossings[all.cluster.levels[At(level)].name] = number(quality.crossings[At(level)]);
    worst[all.cluster.levels[At(level)].name] = number(quality.worst[At(level)]);
  }
  Json json = {{"crossings", std::move(crossings)}, {"most_that_leave_a_group", std::move(worst)}};
  json["bus_bytes_per_second"] = quality.bus_bytes_per_second > 0 ? Json(quality.bus_bytes_per_second) : Json(nullptr);
  if (!quality.slowest_link.empty()) {
    json["slowest_link"] = quality.slowest_link;
    json["slowest_link_steps"] = quality.slowest_link_edges;
  }
  return json;
}

Json TreeJson(const Planned& all, const ReductionTree& tree) {
  Json parents = Json::object();
  for (const int node : all.plan.order.nodes) {
    const int parent = tree.parent[At(node)];
    if (parent >= 0) parents[all.cluster.nodes[At(node)].name] = all.cluster.nodes[At(parent)].name;
  }
  Json crossings = Json::object();
  const std::vector<int> counts = CountTreeCrossings(all.tree, tree);
  for (int level = 0; level < all.tree.levels(); ++level) crossings[all.cluster.levels[At(level)].name] = counts[At(level)];
  return {{"root", all.cluster.nodes[At(tree.root)].name},
          {"depth", DepthOf(tree, all.plan.order.nodes)},
          {"crossings", std::move(crossings)},
          {"parents", std::move(parents)}};
}

// Why the rank is where it is, and what NCCL will be told there.
std::vector<std::string> Explanation(const Planned& all, const PlanFlags& flags) {
  const int rank = static_cast<int>(std::max<int64_t>(flags.rank, 0));
  std::vector<std::string> sentences = ExplainRank(all.cluster, all.tree, all.plan, rank);
  for (const std::string& one : ForeseeNccl(all.cluster, all.plan.ranks[At(rank)].node, flags.cluster)) {
    sentences.push_back(absl::StrCat(one, "."));
  }
  return sentences;
}

std::string PlanJson(const Planned& all, const PlanFlags& flags) {
  Json json = {{"nodes", all.cluster.nodes.size()}, {"world_size", all.plan.ranks.size()}};
  Json groups = Json::object();
  for (int level = 0; level < all.tree.levels(); ++level) groups[all.cluster.levels[At(level)].name] = all.tree.GroupsOn(level);
  json["groups"] = std::move(groups);
  json.update(QualityJson(all, all.planned));
  json["host_name_order"] = QualityJson(all, all.by_name);
  json["random_order"] = QualityJson(all, all.random);
  json["order"] = Names(all.cluster, all.plan.order.nodes);
  json["rings"] = Json::array();
  for (const std::vector<int>& ring : all.plan.rings) json["rings"].push_back(Names(all.cluster, ring));
  json["trees"] = Json::array();
  for (const ReductionTree& tree : all.plan.trees) json["trees"].push_back(TreeJson(all, tree));
  json["ranks"] = Json::array();
  for (const RankPlace& rank : all.plan.ranks) {
    const Cluster::Node& node = all.cluster.nodes[At(rank.node)];
    Json one = {{"node", node.name}, {"local_rank", rank.local_rank}};
    if (rank.gpu >= 0) one["gpu"] = rank.gpu;
    if (rank.nic >= 0)
      one["nic"] = node.nics[At(rank.nic)].name.empty() ? absl::StrCat(rank.nic) : node.nics[At(rank.nic)].name;
    json["ranks"].push_back(std::move(one));
  }
  json["notes"] = all.notes;
  if (flags.explain) json["explanation"] = Explanation(all, flags);
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string Count(size_t count, const std::string& what) { return absl::StrCat(count, " ", what, count == 1 ? "" : "s"); }

std::string Title(const Planned& all, const PlanFlags& flags) {
  return absl::StrCat(flags.cluster, ": ", Count(all.cluster.nodes.size(), "node"), ", ", Count(all.plan.ranks.size(), "rank"),
                      ", ", Count(all.plan.rings.size(), "ring"));
}

std::string PlanLines(const Planned& all, const PlanFlags& flags) {
  std::string text = absl::StrCat(Title(all, flags), "\n\n");
  absl::StrAppend(&text, QualityText(all.cluster, all.tree,
                                     {{"planned", all.planned}, {"by host name", all.by_name}, {"random", all.random}}));
  absl::StrAppend(&text, "\nthe ring\n", RingText(all.cluster, all.tree, all.plan));
  return text;
}

// "crossings: block 4, leaf 32": no plurals, which nobody knows of a level's name.
std::string Caption(const Planned& all, const OrderQuality& quality) {
  std::string text = "crossings: ";
  for (int level = 0; level < all.tree.levels(); ++level) {
    absl::StrAppend(&text, level > 0 ? ", " : "", all.cluster.levels[At(level)].name, " ", quality.crossings[At(level)]);
  }
  return all.tree.levels() > 0 ? text : "";
}

std::string Drawing(const Planned& all) {
  std::vector<RingPanel> panels = {{"planned", {Caption(all, all.planned)}, all.plan.rings},
                                   {"by host name", {Caption(all, all.by_name)}, {HostNameOrder(all.cluster)}}};
  if (all.planned.bus_bytes_per_second > 0) {
    panels[0].captions.push_back(absl::StrCat("bus bandwidth ", BusText(all.planned.bus_bytes_per_second)));
    panels[1].captions.push_back(absl::StrCat("bus bandwidth ", BusText(all.by_name.bus_bytes_per_second)));
  }
  const std::string title = absl::StrCat(Count(all.cluster.nodes.size(), "node"), ", ", Count(all.plan.rings.size(), "ring"));
  return PlanSvg(all.cluster, all.tree, title, panels);
}

std::string HostfileText(const Planned& all) {
  std::string text = "# in the order of the ring, by muster topo plan\n";
  std::map<int, int> slots;
  for (const RankPlace& rank : all.plan.ranks) ++slots[rank.node];
  for (const int node : all.plan.order.nodes)
    absl::StrAppend(&text, all.cluster.nodes[At(node)].name, " slots=", slots[node], "\n");
  return text;
}

absl::StatusOr<ClusterSource> SourceOf(const PlanFlags& flags) {
  absl::StatusOr<ClusterSource> source = ReadCluster("--cluster", flags.cluster);
  if (!source.ok() || flags.hosts.empty()) return source;
  const absl::StatusOr<std::vector<Host>> hosts = ParseHostList("-H", flags.hosts);
  if (!hosts.ok()) return absl::NotFoundError(hosts.status().message());
  std::vector<std::string> names;
  for (const Host& host : *hosts) names.push_back(host.name);
  MUSTER_ASSIGN_OR_RETURN(source->cluster, ChooseNodes(source->cluster, "-H", names));
  return source;
}

int Written(const std::string& flag, const std::string& path, const std::string& text) {
  const absl::Status status = path.empty() ? absl::OkStatus() : WriteFile(path, text);
  if (status.ok()) return kExitOk;
  Say(absl::StrCat(flag, ": ", path, " cannot be written: ", status.message()));
  return kExitCannotWrite;
}

}  // namespace

std::vector<FlagDescription> TopoPlanFlags() {
  PlanFlags unused;
  return Declare(&unused).Describe();
}

int TopoPlan(const std::vector<std::string>& arguments) {
  PlanFlags options;
  FlagSet flags = Declare(&options);
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(TopoPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  if (!rest->empty())
    return UsageError(
        absl::StrCat("muster topo plan takes no ", rest->front(), "; the file of the cluster is given by --cluster"));
  if (options.cluster.empty())
    return UsageError(
        "muster topo plan needs --cluster FILE: where nodes stand and how fast links are; docs/topology.md has the format");
  options.explain = options.explain || options.rank >= 0;

  absl::StatusOr<ClusterSource> source = SourceOf(options);
  if (!source.ok()) {
    Say(source.status().message());
    return absl::IsInvalidArgument(source.status()) ? kExitJobFile : kExitUsage;
  }
  const Planned all(*std::move(source),
                    {.ranks_per_node = static_cast<int>(options.per_node), .rings = static_cast<int>(options.rings)});
  if (options.rank >= static_cast<int64_t>(all.plan.ranks.size())) {
    return UsageError(absl::StrCat("--rank ", options.rank, ": the plan has ranks 0 to ", all.plan.ranks.size() - 1));
  }
  if (const int written = Written("--svg", options.svg, options.svg.empty() ? "" : Drawing(all)); written != kExitOk)
    return written;
  if (const int written = Written("--write-hostfile", options.hostfile, HostfileText(all)); written != kExitOk) return written;
  std::string text;
  if (options.json) {
    text = PlanJson(all, options);
  } else if (options.explain) {
    for (const std::string& sentence : Explanation(all, options)) absl::StrAppend(&text, sentence, "\n");
  } else {
    text = PlanLines(all, options);
  }
  for (const std::string& note : all.notes) Say(absl::StrCat(options.cluster, ": ", note));
  return Print(text);
}

}  // namespace muster

// What is known of the network between nodes, and of this machine.
#include "launcher/cli/topo_show.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "launcher/cli/cluster_json.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/own_environment.h"
#include "launcher/cli/subcommand.h"
#include "launcher/cli/topo_measure.h"
#include "launcher/cli/topology_files.h"
#include "launcher/discovery/machine_text.h"
#include "launcher/discovery/slurm_query.h"
#include "launcher/discovery/this_machine.h"
#include "launcher/hosts/host_file.h"
#include "launcher/hosts/host_list.h"
#include "launcher/hosts/slurm_allocation.h"
#include "launcher/job/write_file.h"
#include "launcher/labels/network.h"
#include "launcher/labels/slurm_labels.h"
#include "launcher/process/exit_codes.h"
#include "launcher/topology/cluster_picture.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

struct ShowFlags {
  std::string cluster;
  TopologyFileOptions labels;
  std::vector<std::string> hosts;
  std::string hostfile;
  int64_t nodes = 0;
  int64_t all_pairs = -1;  // -1: not said
  std::string starter;
  bool measure = false;
  std::string svg;
  bool json = false;
};

FlagSet Declare(ShowFlags* show) {
  FlagSet flags("muster topo show");
  flags.Text("--cluster", "FILE", &show->cluster, "a cluster file of muster's; more trusted than --labels-from");
  DeclareTopologyFiles(&flags, "--labels-from", &show->labels);
  flags.Texts("-H --host", "LIST", &show->hosts, "only these nodes: node-a,rack[1-2]-node[01-16]");
  flags.Switch("--measure", &show->measure,
               "start a job of one rank on each node (-H, --hostfile, --nodes or an\n"
               "allocation of Slurm, as with muster run) and measure latency and bandwidth\n"
               "between them: all pairs of up to 64 nodes, a sample of more. About 50 ms\n"
               "and at most 8 MiB each way a pair");
  flags.Text("--hostfile", "FILE", &show->hostfile, "with --measure: hosts, one a line");
  flags.Count("--nodes", "K", &show->nodes, 1, 128, "with --measure: K nodes, on this machine where no hosts are named");
  flags.Count("--all-pairs", "N", &show->all_pairs, 0, 4096,
              absl::StrCat("with --measure: up to N nodes all pairs are measured, of more a sample (",
                           kAllPairsMax, ")"));
  flags.Text("--starter", "WAY", &show->starter, "with --measure: how nodes are reached, as with muster run");
  flags.Text("--svg", "FILE", &show->svg, "draw it, as SVG");
  flags.Switch("--json", &show->json, "one JSON object, which is a cluster file again");
  return flags;
}

std::string OwnName() {
  char name[HOST_NAME_MAX + 1] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

// What is shown: a network, or this machine as a cluster of one.
struct Found {
  KnownNetwork network;
  std::optional<MachineView> machine;
  std::string measured;  // a line about the measurements; empty: none were made
};

absl::StatusOr<std::vector<std::string>> WantedNodes(const ShowFlags& show, const std::vector<Host>& allocation) {
  std::vector<std::string> nodes;
  if (!show.hosts.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<Host> named, ParseHostList("-H", absl::StrJoin(show.hosts, ",")));
    for (const Host& host : named) nodes.push_back(host.name);
  } else {
    for (const Host& host : allocation) nodes.push_back(host.name);
  }
  return nodes;
}

// Slurm's controller knows where all nodes stand; a task knows it of its own node.
std::vector<NetworkSource> AskSlurm(std::vector<std::string>* notes) {
  std::vector<NetworkSource> sources;
  const auto text = ShowSlurmTopology(absl::Seconds(10));
  const auto set = text.ok() ? ReadSlurmTopologyConf("scontrol show topology", *text) : absl::StatusOr<LabelSet>(text.status());
  if (set.ok()) {
    sources.push_back({*set, {}, false});
    return sources;
  }
  notes->emplace_back(set.status().message());
  const auto address = Variable("SLURM_TOPOLOGY_ADDR"), pattern = Variable("SLURM_TOPOLOGY_ADDR_PATTERN");
  if (!address || !pattern) return sources;
  const auto own = ReadSlurmAddress(*address, *pattern);
  if (own.ok()) {
    sources.push_back({{"SLURM_TOPOLOGY_ADDR", {*own}, {}}, {}, false});
  } else {
    notes->emplace_back(own.status().message());
  }
  return sources;
}

absl::StatusOr<MeasureOptions> MeasureOf(const ShowFlags& show, const std::vector<Host>& allocation) {
  MeasureOptions options;
  std::vector<Host> hosts = allocation;
  if (!show.hosts.empty()) {
    const std::string list = absl::StrJoin(show.hosts, ",");
    options.run_words = {"-H", list};
    MUSTER_ASSIGN_OR_RETURN(hosts, ParseHostList("-H", list));
  } else if (!show.hostfile.empty()) {
    options.run_words = {"--hostfile", show.hostfile};
    MUSTER_ASSIGN_OR_RETURN(const std::string text, ReadTextFile("--hostfile", show.hostfile));
    MUSTER_ASSIGN_OR_RETURN(hosts, ParseHostFile(show.hostfile, text));
  }
  if (show.all_pairs >= 0) options.all_pairs_max = static_cast<int>(show.all_pairs);
  options.nodes = hosts.empty() ? static_cast<int>(show.nodes) : static_cast<int>(hosts.size());
  if (!hosts.empty() && show.nodes > 0) options.nodes = std::min(options.nodes, static_cast<int>(show.nodes));
  for (size_t i = 0; !hosts.empty() && i < static_cast<size_t>(options.nodes); ++i) options.names.push_back(hosts[i].name);
  if (hosts.empty()) {
    options.run_words = {"-np", absl::StrCat(options.nodes)};
  } else {
    options.run_words.insert(options.run_words.end(), {"--nproc-per-node", "1"});
  }
  options.run_words.insert(options.run_words.end(), {"--nodes", absl::StrCat(options.nodes)});
  if (!show.starter.empty()) options.run_words.insert(options.run_words.end(), {"--starter", show.starter});
  return options;
}

// Measured groups are the least trusted source; the measurements themselves are kept whoever is taken.
absl::Status AddMeasured(const MeasuredLinks& links, std::vector<NetworkSource>* sources, Found* found) {
  sources->push_back({LabelsOfMeasured(links), {}, false});
  auto network = KnowNetwork(*sources, links.names);
  if (!network.ok()) return absl::FailedPreconditionError(network.status().message());
  found->network = *std::move(network);
  if (found->network.source.empty()) found->network.source = "measured";
  found->network.cluster.measurements = links.measurements;
  found->measured = MeasuredText(links);
  return absl::OkStatus();
}

absl::StatusOr<Found> Find(const ShowFlags& show) {
  Found found;
  TopologyFileOptions files = show.labels;
  if (!show.cluster.empty()) files.files.insert(files.files.begin(), "cluster:" + show.cluster);
  MUSTER_ASSIGN_OR_RETURN(const std::optional<LabelDialect> keys, OwnLabelKeys(files));
  MUSTER_ASSIGN_OR_RETURN(const std::vector<NetworkFile> texts, ReadTopologyFiles("--labels-from", files));
  const std::string own_name = OwnName();
  auto read = ReadNetworkFiles(texts, keys ? &*keys : nullptr, own_name);
  if (!read.ok()) return absl::FailedPreconditionError(read.status().message());
  std::vector<NetworkSource> sources = *std::move(read);
  std::vector<Host> allocation;
  std::vector<std::string> notes;
  if (texts.empty() || show.measure) {
    MUSTER_ASSIGN_OR_RETURN(allocation, FindSlurmAllocation(Variable));
  }
  if (texts.empty() && !allocation.empty()) sources = AskSlurm(&notes);
  if (show.measure) {
    MUSTER_ASSIGN_OR_RETURN(const MeasureOptions measure, MeasureOf(show, allocation));
    MUSTER_ASSIGN_OR_RETURN(const MeasuredLinks links, MeasureLinks(measure));
    MUSTER_RETURN_IF_ERROR(AddMeasured(links, &sources, &found));
    found.network.notes.insert(found.network.notes.begin(), notes.begin(), notes.end());
    return found;
  }
  if (!show.hostfile.empty() || show.nodes > 0 || show.all_pairs >= 0 || !show.starter.empty()) {
    return absl::InvalidArgumentError("--hostfile, --nodes, --all-pairs and --starter say what to measure; add --measure");
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<std::string> nodes, WantedNodes(show, allocation));
  if (texts.empty() && allocation.empty()) {
    if (!nodes.empty()) {
      return absl::InvalidArgumentError("-H chooses among the nodes of --cluster or --labels-from; add one of them");
    }
    MUSTER_ASSIGN_OR_RETURN(found.machine, DiscoverThisMachine(own_name));
    found.network.cluster.nodes = {found.machine->node};
    found.network.notes = found.machine->notes;
    return found;
  }
  auto network = KnowNetwork(sources, nodes);
  if (!network.ok()) return absl::FailedPreconditionError(network.status().message());
  found.network = *std::move(network);
  found.network.notes.insert(found.network.notes.begin(), notes.begin(), notes.end());
  return found;
}

std::string Text(const Found& found) {
  if (found.machine) return MachineText(*found.machine);
  const Cluster& cluster = found.network.cluster;
  const std::string levels = absl::StrJoin(
      cluster.levels, ", ", [](std::string* out, const Cluster::Level& level) { absl::StrAppend(out, level.name); });
  return absl::StrCat(found.network.source.empty() ? "nobody says where the nodes stand" : found.network.source, ": ",
                      cluster.nodes.size(), cluster.nodes.size() == 1 ? " node" : " nodes",
                      levels.empty() ? "" : absl::StrCat("; levels ", levels), "\n", ClusterTree(cluster),
                      found.measured.empty() ? "" : found.measured + "\n");
}

}  // namespace

std::vector<FlagDescription> TopoShowFlags() {
  ShowFlags unused;
  return Declare(&unused).Describe();
}

int TopoShow(const std::vector<std::string>& arguments) {
  ShowFlags show;
  FlagSet flags = Declare(&show);
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(TopoPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  if (!rest->empty())
    return UsageError(
        absl::StrCat("muster topo show takes no ", rest->front(), "; name a file with --cluster or --labels-from"));
  const auto found = Find(show);
  if (!found.ok()) {
    if (absl::IsInvalidArgument(found.status())) return UsageError(found.status().message());
    for (const absl::string_view line : absl::StrSplit(found.status().message(), '\n')) Say(line);
    return absl::IsInternal(found.status())      ? kExitInternal
           : absl::IsUnavailable(found.status()) ? kExitUnavailable
                                                 : kExitJobFile;
  }
  for (const std::string& note : found->network.notes) Say(note);
  if (!show.svg.empty()) {
    const std::string title = found->machine ? found->machine->node.name : found->network.source;
    if (const absl::Status written = WriteFile(show.svg, ClusterSvg(found->network.cluster, title)); !written.ok()) {
      Say(absl::StrCat("--svg: ", written.message()));
      return kExitCannotWrite;
    }
  }
  return Print(show.json ? ClusterJson(found->network.cluster) : Text(*found));
}

}  // namespace muster

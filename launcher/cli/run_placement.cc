#include "launcher/cli/run_placement.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/placement/map_text.h"
#include "launcher/placement/place.h"
#include "launcher/placement/policy.h"
#include "launcher/process/seating.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::StatusOr<Topology> MachineOf(const PlacementOptions& options) {
  if (options.topology.empty()) return Topology::Discover();
  std::error_code error;
  absl::StatusOr<Topology> machine = absl::InternalError("");
  if (std::filesystem::is_regular_file(options.topology, error)) {
    std::ifstream file(options.topology);
    machine = Topology::FromXml(std::string(std::istreambuf_iterator<char>(file), {}));
  } else {
    machine = Topology::FromSynthetic(options.topology);
  }
  if (machine.ok()) return machine;
  return absl::InvalidArgumentError(absl::StrCat("--topology ", options.topology, ": ", machine.status().message(),
                                                 "; or name a file that lstopo has written"));
}

// `flag` means `value` for the flag `target` stands for, unless that was said already.
absl::Status Take(bool said, const std::string& flag, const std::string& value, const std::string& name, std::string* target) {
  if (!said) return absl::OkStatus();
  if (!target->empty())
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " is --", name, " ", value, ", and --", name, " ", *target, " was given too; leave one out"));
  *target = value;
  return absl::OkStatus();
}

}  // namespace

bool PlacementOptions::wanted() const {
  return !map_by.empty() || !rank_by.empty() || !bind_to.empty() || !cpu_list.empty() || cpus_per_rank > 0 || hwthread_cpus ||
         report_bindings || display_map;
}

void DeclarePlacement(FlagSet* flags, PlacementOptions* options) {
  flags->Text("--map-by", "OBJECT", &options->map_by,
              "put ranks on one OBJECT after the other: slot, node, package (socket),\n"
              "numa, l3cache, l2cache, l1cache, core, hwthread; or ppr:N:OBJECT, N on\n"
              "each. Modifiers: :PE=N processors a rank, :SPAN, :OVERSUBSCRIBE. With one\n"
              "of the next three given, the others' defaults are mpirun's; without any,\n"
              "ranks are spread evenly over the nodes and bound to nothing.");
  flags->Text("--rank-by", "OBJECT", &options->rank_by,
              "number ranks across objects in turn: slot, node, package, numa, core, ...");
  flags->Text("--bind-to", "OBJECT", &options->bind_to,
              "bind each rank, and its memory: none, core, hwthread, l3cache, numa,\n"
              "package, ...; :overload-allowed for more ranks than cores,\n"
              ":if-supported to run unbound where the system refuses");
  flags->Switch("--report-bindings", &options->report_bindings, "say what each rank is bound to");
  flags->Switch("--display-map --display-allocation", &options->display_map,
                "say which rank runs where, and the devices near to it");
  flags->Count("--npernode", "N", &options->per_node, 1, 100'000, "N ranks on each node: --map-by ppr:N:node");
  flags->Count("--npersocket", "N", &options->per_package, 1, 100'000, "N ranks on each package: --map-by ppr:N:package");
  flags->Count("--cpus-per-proc --cpus-per-rank", "N", &options->cpus_per_rank, 1, 100'000,
               "N processors for each rank, as :PE=N");
  flags->Switch("--use-hwthread-cpus", &options->hwthread_cpus, "count hardware threads as processors");
  flags->Text("--cpu-set --cpu-list", "LIST", &options->cpu_list, "use only these processors of each node, such as 0-3,8");
  flags->Switch("--bynode", &options->by_node, "--map-by node");
  flags->Switch("--byslot", &options->by_slot, "--map-by slot");
  flags->Switch("--bycore", &options->by_core, "--map-by core");
  flags->Switch("--bysocket", &options->by_package, "--map-by package");
  flags->Switch("--bind-to-core", &options->bind_to_core, "--bind-to core");
  flags->Switch("--bind-to-socket", &options->bind_to_package, "--bind-to package");
  flags->Switch("--bind-to-none", &options->bind_to_none, "--bind-to none");
}

void DeclarePlanning(FlagSet* flags, PlacementOptions* options) {
  flags->Switch("--do-not-launch --donotlaunch", &options->do_not_launch, "print the map and start nothing");
  flags->Text("--topology", "MACHINE", &options->topology,
              "with --do-not-launch: what if the nodes were \"pack:2 numa:2 core:8 pu:2\",\n"
              "or as in an XML file of lstopo");
}

absl::Status CheckPlacement(PlacementOptions* options) {
  std::string* map_by = &options->map_by;
  MUSTER_RETURN_IF_ERROR(Take(options->by_node, "--bynode", "node", "map-by", map_by));
  MUSTER_RETURN_IF_ERROR(Take(options->by_slot, "--byslot", "slot", "map-by", map_by));
  MUSTER_RETURN_IF_ERROR(Take(options->by_core, "--bycore", "core", "map-by", map_by));
  MUSTER_RETURN_IF_ERROR(Take(options->by_package, "--bysocket", "package", "map-by", map_by));
  MUSTER_RETURN_IF_ERROR(
      Take(options->per_node > 0, "--npernode", absl::StrCat("ppr:", options->per_node, ":node"), "map-by", map_by));
  MUSTER_RETURN_IF_ERROR(
      Take(options->per_package > 0, "--npersocket", absl::StrCat("ppr:", options->per_package, ":package"), "map-by", map_by));
  MUSTER_RETURN_IF_ERROR(Take(options->bind_to_core, "--bind-to-core", "core", "bind-to", &options->bind_to));
  MUSTER_RETURN_IF_ERROR(Take(options->bind_to_package, "--bind-to-socket", "package", "bind-to", &options->bind_to));
  MUSTER_RETURN_IF_ERROR(Take(options->bind_to_none, "--bind-to-none", "none", "bind-to", &options->bind_to));
  if (!options->do_not_launch) {
    MUSTER_RETURN_IF_ERROR(OutOfPlace({{"--topology", !options->topology.empty()}}, "planning", "add --do-not-launch"));
  }
  options->order_is_chosen = !options->map_by.empty() || !options->rank_by.empty();
  // To be shown is no wish to be moved.
  if (options->report_bindings || options->display_map || options->do_not_launch) {
    PlacementOptions wishes = *options;
    wishes.report_bindings = wishes.display_map = false;
    if (!wishes.wanted()) {
      options->map_by = "slot";
      options->bind_to = "none";
    }
  }
  const auto policy = PolicyOf(PlacementOf(*options));
  if (!policy.ok() && absl::IsInvalidArgument(policy.status()) && !CpuSet::Parse(options->cpu_list).ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--cpu-set: ", policy.status().message()));
  }
  return policy.status();
}

absl::StatusOr<int64_t> WorkersOfPlacement(const PlacementOptions& options, int64_t nodes, int64_t usable) {
  PlacementOptions wishes = options;
  wishes.report_bindings = wishes.display_map = false;
  if (!wishes.wanted()) return 0;
  MUSTER_ASSIGN_OR_RETURN(const PlacementPolicy policy, PolicyOf(PlacementOf(options)));
  MUSTER_ASSIGN_OR_RETURN(Topology machine, MachineOf(options));
  if (!policy.cpu_list.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const CpuSet wanted, CpuSet::Parse(policy.cpu_list));
    auto part = machine.Restricted(wanted);
    if (!part.ok()) return absl::InvalidArgumentError(absl::StrCat("--cpu-set: ", part.status().message()));
    machine = *std::move(part);
  }
  if (policy.per_object > 0) return nodes * WorkersOfPattern(policy, {{"", 0, machine, {}}});
  int64_t processors = machine.ProcessorsIn(machine.cpus(), policy.hwthread_cpus);
  if (options.topology.empty()) processors = std::min(processors, usable);
  return nodes * std::max<int64_t>(1, processors / std::max<int64_t>(1, policy.cpus_per_rank));
}

v1::Placement PlacementOf(const PlacementOptions& options) {
  v1::Placement placement;
  placement.set_map_by(options.map_by);
  placement.set_rank_by(options.rank_by);
  placement.set_bind_to(options.bind_to);
  placement.set_cpus_per_rank(static_cast<uint32_t>(options.cpus_per_rank));
  placement.set_hwthread_cpus(options.hwthread_cpus);
  placement.set_cpu_list(options.cpu_list);
  placement.set_report_bindings(options.report_bindings);
  placement.set_display_map(options.display_map);
  return placement;
}

absl::StatusOr<std::string> PlannedMap(const PlacementOptions& options, int64_t workers, const std::vector<std::string>& hosts,
                                       std::vector<uint32_t> slots) {
  MUSTER_ASSIGN_OR_RETURN(const PlacementPolicy policy, PolicyOf(PlacementOf(options)));
  MUSTER_ASSIGN_OR_RETURN(const Topology machine, MachineOf(options));
  if (slots.empty()) {
    slots = DefaultSlots(policy, static_cast<uint32_t>(workers), static_cast<uint32_t>(hosts.size()), machine);
  }
  std::vector<PlacementNode> nodes;
  for (size_t i = 0; i < hosts.size(); ++i) nodes.push_back({hosts[i], slots[i], machine, {}});
  MUSTER_ASSIGN_OR_RETURN(const PlacementMap map, PlaceRanks(policy, static_cast<uint32_t>(workers), nodes));
  std::string text = MapTable(map, nodes);
  for (size_t rank = 0; options.report_bindings && rank < map.ranks.size(); ++rank) {
    const PlacedRank& placed = map.ranks[rank];
    absl::StrAppend(&text, BindingLine(hosts[placed.node], static_cast<uint32_t>(rank), machine, placed.cpus), "\n");
  }
  for (const std::string& note : map.notes) absl::StrAppend(&text, "note: ", note, "\n");
  return text;
}

}  // namespace muster

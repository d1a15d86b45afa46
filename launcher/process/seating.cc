#include "launcher/process/seating.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/placement/map_text.h"
#include "launcher/placement/place.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

class Placer {
 public:
  Placer(const v1::Placement& placement, PlacementPolicy policy) : placement_(placement), policy_(std::move(policy)) {}

  absl::StatusOr<membership::Seating> Place(uint32_t workers, const std::vector<membership::NodeOffer>& offers) {
    std::vector<PlacementNode> nodes;
    for (const membership::NodeOffer& offer : offers) {
      MUSTER_ASSIGN_OR_RETURN(const Topology machine, Read(offer));
      PlacementNode& node = nodes.emplace_back(PlacementNode{offer.host, offer.slots, machine, {}});
      for (const v1::HeldProcessors& held : offer.topology.held()) {
        MUSTER_ASSIGN_OR_RETURN(CpuSet cpus, CpuSet::Parse(held.cpus()));
        node.held.push_back({std::move(cpus), held.pid()});
      }
    }
    MUSTER_ASSIGN_OR_RETURN(const PlacementMap map, PlaceRanks(policy_, workers, nodes));
    membership::Seating seating;
    for (const PlacedRank& rank : map.ranks) {
      seating.ranks.push_back({offers[rank.node].node, rank.local_rank, rank.cpus.ListText(), rank.memory_nodes.ListText()});
    }
    AddLines(map, nodes, &seating.lines);
    return seating;
  }

 private:
  absl::StatusOr<Topology> Read(const membership::NodeOffer& offer) {
    const std::string& xml = offer.topology.xml();
    if (xml.empty()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "host ", offer.host, " cannot say what processors it has: look at its agent's log, or run without placement"));
    }
    const auto known = read_.find(xml);
    if (known != read_.end()) return known->second;
    auto machine = Topology::FromXml(xml);
    if (!machine.ok()) {
      return absl::ResourceExhaustedError(absl::StrCat("the topology of host ", offer.host, ": ", machine.status().message()));
    }
    if (read_.size() >= kReadMax) read_.clear();
    read_.emplace(xml, *machine);
    return *machine;
  }

  void AddLines(const PlacementMap& map, const std::vector<PlacementNode>& nodes, std::vector<std::string>* lines) const {
    if (placement_.display_map()) {
      for (absl::string_view line : absl::StrSplit(MapTable(map, nodes), '\n', absl::SkipEmpty())) lines->emplace_back(line);
    }
    if (placement_.report_bindings()) {
      for (size_t rank = 0; rank < map.ranks.size(); ++rank) {
        const PlacementNode& node = nodes[map.ranks[rank].node];
        lines->push_back(BindingLine(node.host, static_cast<uint32_t>(rank), node.topology, map.ranks[rank].cpus));
      }
    }
    lines->insert(lines->end(), map.notes.begin(), map.notes.end());
  }

  static constexpr size_t kReadMax = 256;

  const v1::Placement placement_;
  const PlacementPolicy policy_;
  std::map<std::string, Topology> read_;  // by their XML
};

}  // namespace

absl::StatusOr<PlacementPolicy> PolicyOf(const v1::Placement& placement) {
  PlacementPolicy policy;
  if (!placement.map_by().empty()) MUSTER_RETURN_IF_ERROR(ParseMapBy(placement.map_by(), &policy));
  if (!placement.rank_by().empty()) MUSTER_RETURN_IF_ERROR(ParseRankBy(placement.rank_by(), &policy));
  if (!placement.bind_to().empty()) MUSTER_RETURN_IF_ERROR(ParseBindTo(placement.bind_to(), &policy));
  if (placement.cpus_per_rank() > 0) policy.cpus_per_rank = placement.cpus_per_rank();
  policy.hwthread_cpus = placement.hwthread_cpus();
  policy.cpu_list = placement.cpu_list();
  MUSTER_RETURN_IF_ERROR(CpuSet::Parse(policy.cpu_list).status());
  return policy;
}

void TakeFill(const PlacementPolicy& policy, HostWishes* wishes) {
  if (policy.oversubscribe) wishes->oversubscribe = *policy.oversubscribe;
  const PlacementLevel map_by = policy.map_by.value_or(PlacementLevel::kSlot);
  if (policy.per_object > 0 && map_by == PlacementLevel::kNode) {
    wishes->fill = HostFill::kPattern;
    wishes->per_host = policy.per_object;
  } else if (policy.per_object > 0 || (policy.span && map_by != PlacementLevel::kSlot && map_by != PlacementLevel::kNode)) {
    wishes->fill = HostFill::kEvery;
  } else if (map_by == PlacementLevel::kNode) {
    wishes->fill = HostFill::kNode;
  }
}

absl::StatusOr<membership::PlaceFunction> MakePlaceFunction(const v1::Placement& placement) {
  MUSTER_ASSIGN_OR_RETURN(PlacementPolicy policy, PolicyOf(placement));
  auto placer = std::make_shared<Placer>(placement, std::move(policy));
  return
      [placer](uint32_t workers, const std::vector<membership::NodeOffer>& offers) { return placer->Place(workers, offers); };
}

}  // namespace muster

#include "launcher/process/node_slots.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "launcher/hosts/host_slots.h"
#include "launcher/placement/place.h"
#include "launcher/process/seating.h"
#include "launcher/starter/starter.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// Where a pattern (ppr:N:OBJECT) fills the nodes of this machine one after the other; empty: there is none, or this machine cannot
// be read, which its agents will say.
std::vector<uint32_t> SlotsOfPattern(const PlacementPolicy& policy, uint32_t workers, uint32_t nodes) {
  if (policy.per_object == 0) return {};
  const auto machine = Topology::Discover();
  if (!machine.ok()) return {};
  return DefaultSlots(policy, workers, nodes, *machine);
}

HostWishes WishesOf(const v1::Launch& launch) {
  HostWishes wishes = {.workers = launch.workers(), .oversubscribe = launch.oversubscribe()};
  if (const auto policy = PolicyOf(launch.job().placement()); policy.ok()) TakeFill(*policy, &wishes);
  return wishes;
}

// Of nodes that nobody has listed: as even as can be, unless placement has its own idea.
std::vector<uint32_t> SlotsOfAlike(const v1::Launch& launch, uint32_t nodes) {
  const auto policy = PolicyOf(launch.job().placement());
  if (policy.ok() && launch.starter() == v1::Launch::LOCAL) {
    if (std::vector<uint32_t> slots = SlotsOfPattern(*policy, launch.workers(), nodes); !slots.empty()) return slots;
  }
  const HostFill fill = WishesOf(launch).fill;
  if (fill == HostFill::kEvery || fill == HostFill::kPattern) {
    return std::vector<uint32_t>(nodes, std::min<uint32_t>(launch.workers(), v1::kLocalRanksMax));
  }
  return SpreadSlots(launch.workers(), nodes);
}

// How many workers each node may hold. Spares that nobody has listed are as good as the best of the others.
std::vector<uint32_t> SlotsOf(const v1::Launch& launch, uint32_t needed) {
  std::vector<uint32_t> slots;
  for (const v1::LaunchHost& host : launch.hosts()) slots.push_back(host.slots());
  if (!slots.empty()) return slots;
  slots = SlotsOfAlike(launch, needed);
  slots.resize(launch.nodes(), *std::max_element(slots.begin(), slots.end()));
  return slots;
}

uint32_t CoresOf(const v1::Join& join) { return std::clamp<uint32_t>(join.usable_cores(), 1, v1::kLocalRanksMax); }

}  // namespace

NodeSlots::NodeSlots(const v1::Launch* launch)
    : launch_(launch),
      needed_(launch->nodes() - launch->spares()),
      slots_(SlotsOf(*launch, needed_)),
      open_(std::count(slots_.begin(), slots_.begin() + needed_, 0u) > 0) {}

bool NodeSlots::more_than_needed() const {
  return open_ || needed_ < slots_.size() || std::accumulate(slots_.begin(), slots_.end(), uint64_t{0}) > launch_->workers();
}

void NodeSlots::Learn(uint32_t node, const v1::Join& join) {
  if (node >= needed_ && slots_[node] == 0) slots_[node] = CoresOf(join);
}

bool NodeSlots::Hold(uint32_t node, v1::AgentMessage join) {
  held_[node] = std::move(join);
  return std::distance(held_.begin(), held_.lower_bound(needed_)) == static_cast<std::ptrdiff_t>(needed_);
}

absl::Status NodeSlots::Fill() {
  std::vector<Host> hosts;
  for (uint32_t node = 0; node < needed_; ++node) {
    const v1::LaunchHost& listed = launch_->hosts(static_cast<int>(node));
    Host& host = hosts.emplace_back();
    host.name = listed.name();
    host.slots = listed.slots_listed() > 0 ? listed.slots_listed() : CoresOf(held_.at(node).join());
    host.slots_given = true;
    host.slots_max = listed.slots_max() > 0 ? listed.slots_max() : v1::kLocalRanksMax;
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<HostShare> shares, FillHosts(hosts, WishesOf(*launch_)));
  open_ = false;
  size_t next = 0;
  for (uint32_t node = 0; node < needed_; ++node) {
    const bool used = next < shares.size() && shares[next].host.name == hosts[node].name;
    slots_[node] = used ? static_cast<uint32_t>(shares[next++].workers) : 0;
  }
  return absl::OkStatus();
}

std::map<uint32_t, v1::AgentMessage> NodeSlots::TakeHeld() { return std::exchange(held_, {}); }

}  // namespace muster

#include "launcher/process/node_slots.h"

#include <algorithm>
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
std::vector<uint32_t> SlotsOfPattern(const v1::Launch& launch) {
  const auto policy = PolicyOf(launch.job().placement());
  if (!policy.ok() || policy->per_object == 0) return {};
  const auto machine = Topology::Discover();
  if (!machine.ok()) return {};
  return DefaultSlots(*policy, launch.workers(), launch.nodes(), *machine);
}

// How many workers each node holds: what the host list says, else as even as can be.
std::vector<uint32_t> SlotsOf(const v1::Launch& launch) {
  if (launch.hosts().empty() && launch.starter() == v1::Launch::LOCAL && launch.job().has_placement()) {
    if (std::vector<uint32_t> slots = SlotsOfPattern(launch); !slots.empty()) return slots;
  }
  if (launch.hosts().empty()) return SpreadSlots(launch.workers(), launch.nodes());
  std::vector<uint32_t> slots;
  for (const v1::LaunchHost& host : launch.hosts()) slots.push_back(host.slots());
  return slots;
}

}  // namespace

NodeSlots::NodeSlots(const v1::Launch* launch)
    : launch_(launch), slots_(SlotsOf(*launch)), open_(std::count(slots_.begin(), slots_.end(), 0u) > 0) {}

uint32_t NodeSlots::total() const { return std::accumulate(slots_.begin(), slots_.end(), 0u); }

bool NodeSlots::Hold(uint32_t node, v1::AgentMessage join) {
  held_[node] = std::move(join);
  return held_.size() == slots_.size();
}

absl::Status NodeSlots::Fill() {
  std::vector<Host> hosts;
  for (uint32_t node = 0; node < slots_.size(); ++node) {
    const v1::LaunchHost& listed = launch_->hosts(static_cast<int>(node));
    const uint32_t cores = std::clamp<uint32_t>(held_.at(node).join().usable_cores(), 1, v1::kLocalRanksMax);
    Host& host = hosts.emplace_back();
    host.name = listed.name();
    host.slots = listed.slots_listed() > 0 ? listed.slots_listed() : cores;
    host.slots_given = true;
    host.slots_max = listed.slots_max() > 0 ? listed.slots_max() : v1::kLocalRanksMax;
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<HostShare> shares,
                          FillBySlot(hosts, {.workers = launch_->workers(), .oversubscribe = launch_->oversubscribe()}));
  open_ = false;
  size_t next = 0;
  for (uint32_t node = 0; node < slots_.size(); ++node) {
    const bool used = next < shares.size() && shares[next].host.name == hosts[node].name;
    slots_[node] = used ? static_cast<uint32_t>(shares[next++].workers) : 0;
  }
  return absl::OkStatus();
}

std::map<uint32_t, v1::AgentMessage> NodeSlots::TakeHeld() { return std::exchange(held_, {}); }

}  // namespace muster

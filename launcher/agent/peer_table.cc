#include "launcher/agent/peer_table.h"

#include <arpa/inet.h>

#include <cstring>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::Status Wrong(uint32_t rank, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("the member table's rank ", rank, " ", what));
}

absl::StatusOr<v1::PeerEntry> EntryOf(const v1::Place& place, const v1::Node& node) {
  v1::PeerEntry entry = {};
  entry.local_rank = place.local_rank();
  entry.slot = place.slot();
  entry.spawn = place.spawn();
  if (place.data_port() == 0 || place.data_port() > 0xffff) return Wrong(place.rank(), "takes connections nowhere");
  entry.port = static_cast<uint16_t>(place.data_port());
  if (::inet_pton(AF_INET, node.address().c_str(), entry.address) == 1) {
    entry.family = 4;
  } else if (::inet_pton(AF_INET6, node.address().c_str(), entry.address) == 1) {
    entry.family = 6;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("node ", node.node(), " (", node.host(), ") has no numeric address, but \"", node.address(), "\""));
  }
  std::memcpy(entry.host, node.host().data(), std::min(node.host().size(), sizeof entry.host - 1));
  return entry;
}

}  // namespace

bool RanksFollowEachOther(const v1::Members& members) {
  std::set<uint32_t> nodes_seen;
  uint32_t last_node = 0;
  for (int rank = 0; rank < members.places_size(); ++rank) {
    const uint32_t node = members.places(rank).node();
    if ((rank == 0 || node != last_node) && !nodes_seen.insert(node).second) return false;
    last_node = node;
  }
  return true;
}

absl::StatusOr<std::vector<v1::PeerEntry>> PeersOf(const v1::Members& members, uint32_t world_size) {
  std::map<uint32_t, const v1::Node*> nodes;
  for (const v1::Node& node : members.nodes()) nodes[node.node()] = &node;
  std::map<uint32_t, const v1::Place*> places;
  for (const v1::Place& place : members.places()) {
    if (place.rank() >= world_size || !places.emplace(place.rank(), &place).second) {
      return Wrong(place.rank(), absl::StrCat("is there twice, or beyond the world of ", world_size));
    }
  }
  std::vector<v1::PeerEntry> peers;
  peers.reserve(world_size);
  std::set<uint32_t> nodes_seen;
  uint32_t last_node = 0, local_rank = 0;
  for (uint32_t rank = 0; rank < world_size; ++rank) {
    const auto place = places.find(rank);
    if (place == places.end()) return Wrong(rank, "is missing");
    const auto node = nodes.find(place->second->node());
    if (node == nodes.end()) return Wrong(rank, absl::StrCat("is on node ", place->second->node(), ", which is not there"));
    if (rank == 0 || node->first != last_node) {
      if (!nodes_seen.insert(node->first).second) return Wrong(rank, "does not follow the others of its node");
      last_node = node->first;
      local_rank = 0;
    }
    if (place->second->local_rank() != local_rank++) {
      return Wrong(rank, absl::StrCat("has local rank ", place->second->local_rank(), ", not ", local_rank - 1));
    }
    MUSTER_ASSIGN_OR_RETURN(v1::PeerEntry entry, EntryOf(*place->second, *node->second));
    entry.node = static_cast<uint32_t>(nodes_seen.size()) - 1;
    peers.push_back(entry);
  }
  return peers;
}

}  // namespace muster

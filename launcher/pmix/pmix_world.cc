#include "launcher/pmix/pmix_world.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster {
namespace {

// FNV-1a, 64 bit. Source: Fowler, Noll, Vo; http://www.isthe.com/chongo/tech/comp/fnv
uint64_t HashOf(const std::vector<uint32_t>& ranks) {
  uint64_t hash = 14695981039346656037ull;
  for (const uint32_t rank : ranks) {
    for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ (rank >> shift & 0xff)) * 1099511628211ull;
  }
  return hash;
}

// Of `ranks`, ascending (empty: of all), and on this node.
uint32_t LowestHere(const v1::PmixWorld& world, const std::vector<uint32_t>& ranks) {
  for (int rank = 0; rank < world.places_size(); ++rank) {
    const bool meant = ranks.empty() || std::binary_search(ranks.begin(), ranks.end(), static_cast<uint32_t>(rank));
    if (meant && world.places(rank).node() == world.node()) return static_cast<uint32_t>(rank);
  }
  return 0;
}

}  // namespace

absl::Status CheckWorld(const v1::PmixWorld& world) {
  if (world.name_space().empty() || world.hosts().empty() || world.node() >= static_cast<uint32_t>(world.hosts_size())) {
    return absl::InvalidArgumentError("a world without a name, or without this node");
  }
  bool here = false;
  for (const v1::PmixPlace& place : world.places()) {
    if (place.node() >= static_cast<uint32_t>(world.hosts_size())) return absl::InvalidArgumentError("a rank on no node");
    here = here || place.node() == world.node();
  }
  return here ? absl::OkStatus() : absl::InvalidArgumentError("a world without a rank on this node");
}

PmixMaps MapsOf(const v1::PmixWorld& world) {
  PmixMaps maps;
  std::vector<std::vector<uint32_t>> ranks(static_cast<size_t>(world.hosts_size()));
  for (int rank = 0; rank < world.places_size(); ++rank) {
    ranks[world.places(rank).node()].push_back(static_cast<uint32_t>(rank));
  }
  maps.hosts = absl::StrJoin(world.hosts(), ",");
  maps.ranks = absl::StrJoin(ranks, ";", [](std::string* text, const std::vector<uint32_t>& of_node) {
    absl::StrAppend(text, absl::StrJoin(of_node, ","));
  });
  maps.local_ranks = ranks[world.node()];
  return maps;
}

v1::PmixFence FenceNames::Next(const v1::PmixWorld& world, std::vector<uint32_t> ranks) {
  std::sort(ranks.begin(), ranks.end());
  v1::PmixFence fence;
  std::set<uint32_t> nodes;
  for (const uint32_t rank : ranks) {
    if (rank < static_cast<uint32_t>(world.places_size())) nodes.insert(world.places(static_cast<int>(rank)).node());
  }
  if (ranks.empty()) {
    for (const v1::PmixPlace& place : world.places()) nodes.insert(place.node());
  }
  fence.set_rank(LowestHere(world, ranks));
  fence.mutable_nodes()->Add(nodes.begin(), nodes.end());
  const uint64_t number = ++fences_[ranks];
  fence.set_name(ranks.empty() ? absl::StrCat("all-", number)
                               : absl::StrCat(ranks.size(), "-", absl::Hex(HashOf(ranks)), "-", number));
  return fence;
}

}  // namespace muster

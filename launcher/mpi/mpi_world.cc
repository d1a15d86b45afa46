#include "launcher/mpi/mpi_world.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace muster {
namespace {

struct Block {
  uint32_t first_node = 0;
  uint32_t nodes = 1;
  uint32_t ranks = 0;  // on each
  bool operator==(const Block&) const = default;
};

// Ranks that follow each other on a node, and nodes that follow each other with as many.
std::vector<Block> BlocksOf(const std::vector<MpiPlace>& places) {
  std::vector<Block> runs;
  for (const MpiPlace& place : places) {
    if (runs.empty() || runs.back().first_node != place.node) runs.push_back({place.node, 1, 0});
    ++runs.back().ranks;
  }
  std::vector<Block> blocks;
  for (const Block& run : runs) {
    Block* const last = blocks.empty() ? nullptr : &blocks.back();
    if (last != nullptr && last->ranks == run.ranks && last->first_node + last->nodes == run.first_node) {
      ++last->nodes;
    } else {
      blocks.push_back(run);
    }
  }
  return blocks;
}

// What is left of a list that repeats itself.
void KeepPeriod(std::vector<Block>* blocks) {
  for (size_t period = 1; period < blocks->size(); ++period) {
    bool repeats = true;
    for (size_t i = period; i < blocks->size() && repeats; ++i) repeats = (*blocks)[i] == (*blocks)[i - period];
    if (!repeats) continue;
    blocks->resize(period);
    return;
  }
}

}  // namespace

std::vector<uint32_t> MpiWorld::LocalRanks() const {
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < places.size(); ++rank) {
    if (places[rank].node == node) ranks.push_back(rank);
  }
  return ranks;
}

absl::StatusOr<MpiWorld> MakeMpiWorld(const std::string& job_id, uint64_t generation, const v1::Prepare& prepare,
                                      const v1::Members* members, const std::string& host,
                                      std::vector<uint32_t> application_workers) {
  MpiWorld world;
  world.job_id = job_id;
  world.generation = generation;
  world.application_workers = std::move(application_workers);
  if (world.application_workers.empty()) world.application_workers.push_back(prepare.world_size());
  const auto& places = members == nullptr ? prepare.places() : members->places();
  if (prepare.places().empty()) return absl::InternalError("a generation without a place on this node");
  std::map<uint32_t, std::string> host_of;  // by the job's number
  for (const v1::Place& place : places) host_of[place.node()] = host;
  if (members != nullptr) {
    for (const v1::Node& node : members->nodes()) {
      if (host_of.contains(node.node())) host_of[node.node()] = node.host();
    }
  }
  std::map<std::string, int> used;
  for (const auto& [number, name] : host_of) ++used[name];
  std::map<uint32_t, uint32_t> index_of;
  for (const auto& [number, name] : host_of) {
    index_of[number] = static_cast<uint32_t>(world.nodes.size());
    world.nodes.push_back(number);
    // Nodes that share a machine would else share their shared memory's names too.
    world.hosts.push_back(used[name] > 1 ? absl::StrCat(name, "-node", number) : name);
  }
  world.node = index_of[prepare.places(0).node()];
  world.places.resize(prepare.world_size());
  std::vector<bool> seen(world.places.size(), false);
  for (const v1::Place& place : places) {
    if (place.rank() >= world.places.size() || seen[place.rank()]) {
      return absl::InternalError(absl::StrCat("rank ", place.rank(), " twice, or beyond the world of ", world.places.size()));
    }
    seen[place.rank()] = true;
    world.places[place.rank()] = {index_of[place.node()], place.local_rank(), place.application()};
  }
  if (std::count(seen.begin(), seen.end(), false) > 0) return absl::InternalError("ranks without a place");
  return world;
}

std::string MpiNameSpace(const std::string& job_id, uint64_t generation) {
  return absl::StrCat("muster-", absl::BytesToHexString(job_id), "-", generation);
}

std::string ProcessMapping(const std::vector<MpiPlace>& places, size_t bytes_max) {
  std::vector<Block> blocks = BlocksOf(places);
  KeepPeriod(&blocks);
  std::string text = "(vector";
  for (const Block& block : blocks) absl::StrAppend(&text, ",(", block.first_node, ",", block.nodes, ",", block.ranks, ")");
  text += ")";
  return text.size() <= bytes_max ? text : "";
}

}  // namespace muster

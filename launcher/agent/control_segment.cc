#include "launcher/agent/control_segment.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/muster/v1/control_wake.h"
#include "runtime/base/log.h"
#include "runtime/base/sealed_memory.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr uint32_t kSlotBytes = 32 * 1024;
constexpr uint32_t kStagingBytes = 256 * 1024;
constexpr uint32_t kRanksWithFullStaging = 32;

std::vector<uint32_t> NodeSizes(uint32_t local_size, std::span<const v1::PeerEntry> peers) {
  if (peers.empty()) return {local_size};
  std::map<uint32_t, uint32_t> ranks;  // by node
  for (const v1::PeerEntry& peer : peers) ++ranks[peer.node];
  std::vector<uint32_t> sizes;
  for (const auto& [node, count] : ranks) sizes.push_back(count);
  return sizes;
}

}  // namespace

uint32_t StagingBytesFor(std::span<const uint32_t> node_sizes) {
  const auto [smallest, largest] = std::minmax_element(node_sizes.begin(), node_sizes.end());
  uint64_t bytes = kStagingBytes;
  for (uint32_t ranks = *largest; ranks > kRanksWithFullStaging; ranks = (ranks + 1) / 2) bytes /= 2;
  bytes = std::max<uint64_t>(bytes, v1::StagingBytesMin(*largest));
  if (node_sizes.size() > 1) bytes = std::max(bytes, v1::StagingBytesMinAcross(node_sizes.size(), *smallest));
  return static_cast<uint32_t>(bytes);
}

absl::StatusOr<std::shared_ptr<ControlSegment>> ControlSegment::Create(uint64_t generation, const std::string& job_id,
                                                                       uint32_t world_size, uint32_t local_size,
                                                                       std::span<const v1::PeerEntry> peers) {
  MUSTER_CHECK(peers.empty() || peers.size() == world_size, "a peer table for all ranks");
  if (local_size == 0 || local_size > v1::kLocalRanksMax || job_id.size() != 16) {
    return absl::InvalidArgumentError(
        absl::StrCat("control memory for ", local_size, " ranks on one node; 1 to ", v1::kLocalRanksMax, " are possible"));
  }
  const uint32_t staging_bytes = StagingBytesFor(NodeSizes(local_size, peers));
  const auto peer_count = static_cast<uint32_t>(peers.size());
  const auto bytes = static_cast<int64_t>(v1::ControlMemoryBytes(local_size, kSlotBytes, staging_bytes, peer_count));
  MUSTER_ASSIGN_OR_RETURN(UniqueFd fd, MakeSealedMemory("muster-control", bytes));
  MUSTER_ASSIGN_OR_RETURN(void* memory, MapSharedMemory(fd.get(), bytes));
  v1::ControlHeader* header = v1::FormatControlMemory(memory, generation, reinterpret_cast<const uint8_t*>(job_id.data()),
                                                      world_size, local_size, kSlotBytes, staging_bytes, peer_count);
  for (uint32_t rank = 0; rank < peer_count; ++rank) v1::PeerEntryOf(header, rank) = peers[rank];
  return std::shared_ptr<ControlSegment>(new ControlSegment(std::move(fd), header, local_size, bytes));
}

ControlSegment::ControlSegment(UniqueFd fd, v1::ControlHeader* header, uint32_t local_size, int64_t bytes)
    : fd_(std::move(fd)), header_(header), local_size_(local_size), bytes_(bytes) {}

ControlSegment::~ControlSegment() { ::munmap(header_, static_cast<size_t>(bytes_)); }

// By what we know, not by what the header says now.
v1::RankArea& ControlSegment::AreaOf(uint32_t local_rank) const {
  char* areas = reinterpret_cast<char*>(header_) + v1::RoundUp(sizeof(v1::ControlHeader), v1::kPageBytes);
  return reinterpret_cast<v1::RankArea*>(areas)[local_rank];
}

void ControlSegment::RingAll() {
  for (uint32_t i = 0; i < local_size_; ++i) v1::RingDoorbell(AreaOf(i));
}

void ControlSegment::Abort(uint64_t word) {
  uint64_t none = v1::kNoAbort;
  header_->abort_word.compare_exchange_strong(none, word);
  RingAll();
}

void ControlSegment::MarkLeft(uint32_t local_rank) {
  if (local_rank >= local_size_) return;
  AreaOf(local_rank).left.exchange(1);
  RingAll();
}

v1::SplitFlightEntry ControlSegment::LastOperation(uint32_t local_rank) const {
  v1::SplitFlightEntry newest = {};
  if (local_rank >= local_size_) return newest;
  const v1::RankArea& area = AreaOf(local_rank);
  for (const v1::FlightEntry& entry : area.flight) {
    v1::FlightEntry copy;
    std::memcpy(&copy, &entry, sizeof copy);
    if (copy.op_seq > newest.entry.op_seq) newest.entry = copy;
  }
  // Each communicator counts by itself; all read one clock.
  for (const v1::SplitFlightEntry& entry : area.split_flight) {
    v1::SplitFlightEntry copy;
    std::memcpy(&copy, &entry, sizeof copy);
    if (copy.entry.op_seq != 0 && copy.communicator != 0 && copy.entry.begin_ns > newest.entry.begin_ns) newest = copy;
  }
  return newest;
}

}  // namespace muster

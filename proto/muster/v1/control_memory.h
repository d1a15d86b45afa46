// The control memory of one generation on one node: what its agent and its local workers share besides the windows.
//
// One memfd, made, filled and sealed by the agent, which keeps it mapped; handed to the workers in Generation. A communicator of
// some ranks has such a memory of its own on each node, made by one of them, in which the agent has no part: its ranks sleep on the
// doorbells of the generation's memory and heed its abort word and `left` too (runtime/shm/node_memory.h). All fields are
// fixed-width and lock-free. The layout is: ControlHeader, then one RankArea for each local rank (by local rank), then the
// payload area of each local rank (slots and staging), which only the data plane reads, then where the world has several nodes
// the peer table: one PeerEntry for each rank of the world.
//
// Waiting (who may write what; runtime/shm/waiter.h has the protocol, control_wake.h what the agent needs of it):
//   doorbell   any member and the agent, by atomic add
//   asleep     only its rank, by seq_cst exchange
//   abort      compare-exchange from kNoAbort, by agent or member; then bump every doorbell and wake it
// Everything else in a RankArea has its rank as the only writer.
#ifndef MUSTER_PROTO_V1_CONTROL_MEMORY_H_
#define MUSTER_PROTO_V1_CONTROL_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace muster::v1 {

inline constexpr uint64_t kControlMagic = 0x6c7274637274736dULL;  // "mstrctrl"
inline constexpr uint32_t kControlVersion = 4;
inline constexpr size_t kLineBytes = 128;  // two cache lines: processors prefetch the neighbour
inline constexpr size_t kPageBytes = 4096;
inline constexpr int kLocalRanksMax = 256;
inline constexpr uint32_t kSlotBytes = 32 * 1024;      // what an agent chooses unless it knows better
inline constexpr uint32_t kStagingBytes = 256 * 1024;  // three of them for each rank stay in its second-level cache

enum class AbortReason : uint8_t {
  kNone = 0,
  kPeerLost = 1,        // the process is dead
  kPeerLeft = 2,        // it closed its session while others still needed it
  kMismatch = 3,        // its call differs from the others'
  kAborted = 4,         // Communicator::Abort
  kGenerationOver = 5,  // the agent ends the generation
  kDeadline = 6,        // a member's deadline passed
  kAgentLost = 7,       // the node's agent is gone
  kMpi = 8,             // what its MPI library, or muster's server for it, has against it; in messages only
};

// Whether every communicator of the generation is over, in whichever it is found.
constexpr bool EndsGeneration(AbortReason reason) {
  return reason == AbortReason::kPeerLost || reason == AbortReason::kAgentLost || reason == AbortReason::kGenerationOver;
}

// reason in the low 8 bits, the blamed world rank in the next 24 (kNoRank: none), a detail above: of kPeerLost the signal or exit
// status when known; of kAborted and kMismatch 1 + the local rank whose abort_text says more; else 0.
inline constexpr uint64_t kNoAbort = 0;
inline constexpr uint32_t kNoRank = 0xffffff;
constexpr uint64_t PackAbort(AbortReason reason, uint32_t rank, uint32_t detail) {
  return static_cast<uint64_t>(reason) | static_cast<uint64_t>(rank & kNoRank) << 8 | static_cast<uint64_t>(detail) << 32;
}
constexpr AbortReason AbortReasonOf(uint64_t word) { return static_cast<AbortReason>(word & 0xff); }
constexpr uint32_t AbortRankOf(uint64_t word) { return static_cast<uint32_t>(word >> 8) & kNoRank; }
constexpr uint32_t AbortDetailOf(uint64_t word) { return static_cast<uint32_t>(word >> 32); }

// How to wait, computed by the agent from all workers' masks, the CPU quota and the busiest core, and rewritten when they
// change.
struct WaitingPolicy {
  std::atomic<uint32_t> spin_nanoseconds;  // poll this long before sleeping; 0 when ranks share cores
  std::atomic<uint32_t> yields;            // then sched_yield this often
  std::atomic<uint32_t> oversubscribed;    // 1: ranks > usable cores, any running rank may claim a ready chunk
};

struct ControlHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t header_bytes;
  uint64_t total_bytes;
  uint64_t generation;
  uint8_t job_id[16];
  uint32_t world_size;
  uint32_t local_size;
  uint32_t slot_bytes;         // one-shot slot; each rank has two
  uint32_t staging_bytes;      // staging buffer; each rank has three: one filled, one reduced, one emptied
  uint64_t rank_areas_offset;  // local_size * sizeof(RankArea)
  uint64_t payload_offset;     // local_size * PayloadBytes(...)
  uint64_t peers_offset;       // world_size * sizeof(PeerEntry); 0: all ranks are on this node
  alignas(kLineBytes) std::atomic<uint64_t> abort_word;  // PackAbort
  alignas(kLineBytes) WaitingPolicy waiting;
};

// What a rank announces for an operation, so that a call that differs is named instead of hanging. Written before the
// operation's number is released in the flag line, which carries a digest of it: peers read the whole of it only where they
// need it.
enum class OpKind : uint8_t {
  kNone = 0,
  kAllReduce = 1,
  kAllReduceShards = 2,
  kBroadcast = 3,
  kAllGather = 4,
  kReduceScatter = 5,
  kBarrier = 6,
  kCreateWindow = 7,
  kSplit = 8,
};
inline constexpr uint32_t kPrivateMemory = 0xffffffff;

struct OpDescriptor {
  OpKind kind;
  uint8_t type;  // DataType
  uint8_t op;    // ReduceOp
  uint8_t reserved;
  int32_t root;     // or the number of shards
  int64_t count;    // elements of the buffer that the documentation of Communicator calls `send` or `buffer`; bytes for windows
  int64_t stride;   // ShardedTensor::stride_bytes, else 0
  uint32_t window;  // where the input lives: a window's number, or kPrivateMemory
  uint32_t window2;  // where the output lives, when it is another buffer
  uint64_t offset;   // within the window
  uint64_t offset2;
};
static_assert(sizeof(OpDescriptor) == 48);

// One finished or running operation of the flight record.
struct FlightEntry {
  uint64_t op_seq;  // 0: empty
  OpDescriptor what;
  uint64_t begin_ns;  // CLOCK_MONOTONIC
  uint64_t end_ns;    // 0 while it runs; equal to begin_ns where the payload rode in the flag line (its end is not timed)
};
inline constexpr int kFlightEntries = 32;

// The last operation in one communicator made by Split, by which threads may work at once: each has its entry, and lines of its own.
struct alignas(kLineBytes) SplitFlightEntry {
  FlightEntry entry;      // its op_seq counts in that communicator
  uint64_t communicator;  // its number in the generation, the same on all its ranks; not 0
  uint32_t world_size;    // its ranks
  uint32_t rank;          // this one, among them
};
static_assert(sizeof(SplitFlightEntry) == kLineBytes);
inline constexpr int kSplitFlightEntries = 64;

struct RankArea {
  alignas(kLineBytes) std::atomic<uint32_t> doorbell;
  alignas(kLineBytes) std::atomic<uint32_t> asleep;
  // Counters of the waiting protocol, for tests and `muster bench`; read at any time, written by the rank.
  std::atomic<uint64_t> yields;
  std::atomic<uint64_t> sleeps;
  std::atomic<uint64_t> wakes_sent;
  // Found what it waited for only by the 100 ms look: must stay 0. In the generation's memory, for all communicators of the rank.
  std::atomic<uint64_t> late_wakes;
  // Set once, before a clean leave: a waiter that still needs this rank reports kPeerLeft.
  alignas(kLineBytes) std::atomic<uint32_t> left;
  // In the generation's memory: what the windows of all communicators of this rank take.
  std::atomic<int64_t> window_bytes;
  // The flag line: an operation's number, released after the digest of its descriptor and a payload of up to 48 bytes are
  // written. Double-buffered by the number's parity: who has seen every rank's flag of operation n knows that all have finished
  // operation n - 1, hence nobody reads the lines, slots and descriptors of n - 1 any more.
  struct alignas(kLineBytes) FlagLine {
    std::atomic<uint64_t> op_seq;
    uint64_t digest;
    uint64_t payload[6];
  } flags[2];
  alignas(kLineBytes) OpDescriptor descriptors[2];  // by parity, like the flags
  // Progress inside the larger algorithms, single-writer. `steps` counts all steps of the communicator's life; `chunks` is the
  // operation's number << kChunkBits | the chunks of it that this rank has finished.
  alignas(kLineBytes) std::atomic<uint64_t> steps;
  alignas(kLineBytes) std::atomic<uint64_t> chunks;
  // The chunks of this rank's part of an operation: the number of the last operation in which somebody claimed it, by
  // compare-exchange from any older one.
  static constexpr int kClaims = 16;
  struct alignas(64) ClaimLine {
    std::atomic<uint64_t> op_seq;
  } claims[kClaims];
  // Why Communicator::Abort was called, on this rank or another node, or what calls differ; zero-terminated, written once, before
  // the abort word refers to it.
  alignas(kLineBytes) char abort_text[512];
  // A dead worker's last operations stay readable here.
  alignas(kLineBytes) std::atomic<uint64_t> flight_next;
  FlightEntry flight[kFlightEntries];
  // In the generation's memory, for all communicators of this rank that Split has made. An entry outlives its communicator until another
  // one that has taken its place begins an operation.
  SplitFlightEntry split_flight[kSplitFlightEntries];
};
// Where a rank of the world lives, by rank. Ranks of one node follow each other; nodes are numbered by their first rank.
struct PeerEntry {
  uint32_t node;  // among the nodes of this generation
  uint32_t local_rank;
  uint32_t slot;
  uint32_t spawn;
  uint16_t port;    // where it takes connections of its peers
  uint16_t family;  // 4 or 6
  uint32_t reserved;
  uint8_t address[16];  // IPv4 in the first four bytes; network order
  char host[64];        // for messages; zero-terminated, cut where it is longer
};
static_assert(sizeof(PeerEntry) == 104);

inline constexpr int kChunkBits = 16;
inline constexpr size_t kFlagPayloadBytes = sizeof(RankArea::FlagLine::payload);

static_assert(std::atomic<uint32_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(RankArea) % kLineBytes == 0);

constexpr uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// Rows that a rank's staging buffer may have to hold of one vector: partials, two for each level of the largest tree over shards.
inline constexpr uint32_t kStagingRowsMax = 26;
// What a staging buffer must hold at least on a node of so many ranks, where a buffer is cut into 64 bytes for each rank or row; and with
// several nodes, `lanes` the ranks of the smallest: of every piece of a chunk, whatever partials a rank has, an element (staged_across.cc).
// Buffers are equal on all nodes of a generation, since the choice of algorithm follows them.
constexpr uint32_t StagingBytesMin(uint32_t local_ranks) {
  return 64 * (local_ranks > kStagingRowsMax ? local_ranks : kStagingRowsMax);
}
constexpr uint64_t StagingBytesMinAcross(uint64_t nodes, uint64_t lanes) {
  const uint64_t pieces = nodes * (kStagingRowsMax * lanes + 1);
  return RoundUp((2 * 8 * pieces + 2) / 3, 64);
}
constexpr uint64_t PayloadBytes(uint32_t slot_bytes, uint32_t staging_bytes) {
  return RoundUp(2ull * slot_bytes + 3ull * staging_bytes, kPageBytes);
}
// `peers`: entries of the peer table; 0 on a single node.
constexpr uint64_t ControlMemoryBytes(uint32_t local_size, uint32_t slot_bytes, uint32_t staging_bytes, uint32_t peers = 0) {
  return RoundUp(sizeof(ControlHeader), kPageBytes) + RoundUp(local_size * sizeof(RankArea), kPageBytes) +
         local_size * PayloadBytes(slot_bytes, staging_bytes) + RoundUp(peers * sizeof(PeerEntry), kPageBytes);
}

// Fills a zeroed mapping of ControlMemoryBytes(...) bytes. Called once, before anyone else can see it.
inline ControlHeader* FormatControlMemory(void* memory, uint64_t generation, const uint8_t job_id[16], uint32_t world_size,
                                          uint32_t local_size, uint32_t slot_bytes, uint32_t staging_bytes,
                                          uint32_t peers = 0) {
  auto* header = static_cast<ControlHeader*>(memory);
  header->magic = kControlMagic;
  header->version = kControlVersion;
  header->header_bytes = sizeof(ControlHeader);
  header->total_bytes = ControlMemoryBytes(local_size, slot_bytes, staging_bytes, peers);
  header->generation = generation;
  for (int i = 0; i < 16; ++i) header->job_id[i] = job_id[i];
  header->world_size = world_size;
  header->local_size = local_size;
  header->slot_bytes = slot_bytes;
  header->staging_bytes = staging_bytes;
  header->rank_areas_offset = RoundUp(sizeof(ControlHeader), kPageBytes);
  header->payload_offset = header->rank_areas_offset + RoundUp(local_size * sizeof(RankArea), kPageBytes);
  header->peers_offset = peers == 0 ? 0 : header->payload_offset + local_size * PayloadBytes(slot_bytes, staging_bytes);
  return header;
}

inline RankArea& RankAreaOf(ControlHeader* header, uint32_t local_rank) {
  return reinterpret_cast<RankArea*>(reinterpret_cast<char*>(header) + header->rank_areas_offset)[local_rank];
}
// Only where peers_offset is not 0.
inline PeerEntry& PeerEntryOf(ControlHeader* header, uint32_t rank) {
  return reinterpret_cast<PeerEntry*>(reinterpret_cast<char*>(header) + header->peers_offset)[rank];
}
inline char* SlotOf(ControlHeader* header, uint32_t local_rank, int parity) {
  return reinterpret_cast<char*>(header) + header->payload_offset +
         local_rank * PayloadBytes(header->slot_bytes, header->staging_bytes) +
         static_cast<uint64_t>(parity) * header->slot_bytes;
}
inline char* StagingOf(ControlHeader* header, uint32_t local_rank, int buffer) {
  return SlotOf(header, local_rank, 0) + 2ull * header->slot_bytes + static_cast<uint64_t>(buffer) * header->staging_bytes;
}

}  // namespace muster::v1

#endif  // MUSTER_PROTO_V1_CONTROL_MEMORY_H_

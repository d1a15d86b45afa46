// The worker port's smaller parts.
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "launcher/agent/control_segment.h"
#include "launcher/agent/worker_identity.h"
#include "launcher/agent/worker_port_impl.h"
#include "launcher/agent/worker_resources.h"
#include "muster/tensor.h"
#include "proto/muster/v1/operation_text.h"
#include "runtime/base/fd.h"
#include "runtime/base/sealed_memory.h"

namespace muster {
namespace {

TEST(WorkerIdentity, ReadsTheParentWhateverTheNameIs) {
  EXPECT_EQ(ParentIn("42 (train) S 7 42 42 0 -1"), 7);
  EXPECT_EQ(ParentIn("42 (a ) S 9 (b) R 7 42"), 7);
  EXPECT_EQ(ParentIn("42 (train"), 0);
  EXPECT_EQ(ParentIn(""), 0);
}

TEST(WorkerIdentity, DescentIsByProc) {
  EXPECT_TRUE(DescendsFrom(::getpid(), ::getpid()));
  EXPECT_TRUE(DescendsFrom(::getpid(), ::getppid()));
  EXPECT_FALSE(DescendsFrom(::getppid(), ::getpid()));
  EXPECT_FALSE(DescendsFrom(0, 0)) << "a peer that is not visible from here";
}

TEST(WorkerIdentity, PeerOfASocket) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  UniqueFd left(ends[0]), right(ends[1]);
  const auto peer = IdentifyPeer(left.get());
  ASSERT_TRUE(peer.ok());
  EXPECT_EQ(peer->pid, ::getpid());
  EXPECT_EQ(peer->uid, ::geteuid());
}

TEST(WorkerResources, MemAvailable) {
  EXPECT_EQ(MemAvailableIn("MemTotal:  2048 kB\nMemAvailable:    1536 kB\n"), 1536 * 1024);
  EXPECT_EQ(MemAvailableIn("MemTotal:  2048 kB\n"), 0);
  const WindowMemory memory = FindWindowMemory();
  EXPECT_GT(memory.bytes, 0);
  EXPECT_EQ(::access(memory.source.c_str(), R_OK), 0) << memory.source;
}

TEST(WorkerResources, Processors) {
  EXPECT_FALSE(ProcessorsOf(::getpid()).empty());
  EXPECT_TRUE(ProcessorsOf(-1).empty());
}

uint32_t StagingOf(std::vector<uint32_t> node_sizes) { return StagingBytesFor(node_sizes); }

TEST(ControlSegment, StagingShrinksWithTheRanks) {
  EXPECT_EQ(StagingOf({1}), 256u * 1024);
  EXPECT_EQ(StagingOf({32}), 256u * 1024);
  EXPECT_EQ(StagingOf({33}), 128u * 1024);
  EXPECT_EQ(StagingOf({8, 8, 8}), 256u * 1024);
  for (uint32_t ranks = 1; ranks <= static_cast<uint32_t>(v1::kLocalRanksMax); ++ranks) {
    EXPECT_LE(v1::ControlMemoryBytes(ranks, 32 * 1024, StagingOf({ranks})), 48u << 20) << ranks;
    EXPECT_GE(StagingOf({ranks}), v1::StagingBytesMin(ranks)) << ranks;
  }
}

// Whatever the nodes are: every algorithm finds room, on all of them.
TEST(ControlSegment, StagingHasRoomOnAllNodes) {
  const char* const chosen = std::getenv("MUSTER_TEST_SEED");
  const uint64_t seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : std::random_device()();
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint32_t> sizes(1 + random() % (round % 10 == 0 ? 1000 : 40));
    const uint32_t largest = round % 3 == 0 ? 8 : v1::kLocalRanksMax;
    for (uint32_t& size : sizes) size = 1 + static_cast<uint32_t>(random() % largest);
    const uint32_t bytes = StagingOf(sizes);
    const uint32_t lanes = std::ranges::min(sizes);
    EXPECT_GE(bytes, v1::StagingBytesMin(std::ranges::max(sizes))) << "MUSTER_TEST_SEED=" << seed << " round " << round;
    if (sizes.size() > 1) {
      EXPECT_GE(bytes, v1::StagingBytesMinAcross(sizes.size(), lanes)) << "MUSTER_TEST_SEED=" << seed << " round " << round;
    }
    std::ranges::shuffle(sizes, random);
    EXPECT_EQ(StagingOf(sizes), bytes) << "nodes must agree";
  }
}

// Nodes of 40 and 9 ranks: which algorithm is taken follows the size, so it is one.
TEST(ControlSegment, UnequalNodesHaveEqualBuffers) {
  const std::string job_id(16, 'j');
  std::vector<v1::PeerEntry> peers(49);
  for (uint32_t rank = 0; rank < peers.size(); ++rank) peers[rank].node = rank < 40 ? 0 : 1;
  std::vector<uint32_t> staging_bytes;
  for (const uint32_t local_size : {40, 9}) {
    auto segment = ControlSegment::Create(3, job_id, 49, local_size, peers);
    ASSERT_TRUE(segment.ok()) << segment.status();
    void* memory = MapSharedMemory((*segment)->fd(), sizeof(v1::ControlHeader)).value();
    staging_bytes.push_back(static_cast<const v1::ControlHeader*>(memory)->staging_bytes);
    ::munmap(memory, sizeof(v1::ControlHeader));
  }
  EXPECT_EQ(staging_bytes[0], 128u * 1024);
  EXPECT_EQ(staging_bytes[1], staging_bytes[0]);
}

TEST(ControlSegment, KeepsTheFirstAbortWordAndTheNewestOperation) {
  const std::string job_id(16, 'j');
  auto segment = ControlSegment::Create(3, job_id, 2, 2);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ((*segment)->LastOperation(0).entry.op_seq, 0u);
  EXPECT_EQ((*segment)->LastOperation(99).entry.op_seq, 0u);
  (*segment)->Abort(v1::PackAbort(v1::AbortReason::kPeerLost, 1, 9));
  (*segment)->Abort(v1::PackAbort(v1::AbortReason::kGenerationOver, v1::kNoRank, 0));
  (*segment)->MarkLeft(99);  // nobody's
  EXPECT_FALSE(ControlSegment::Create(3, job_id, 1, 0).ok());
  EXPECT_FALSE(ControlSegment::Create(3, job_id, 999, 999).ok());
}

// The watching thread may be late: what it says of an earlier process of the slot, or after all was let go of, aborts nothing.
TEST(AbortTargets, OnlyTheExpectedProcessCounts) {
  auto segment = ControlSegment::Create(3, std::string(16, 'j'), 9, 2);
  ASSERT_TRUE(segment.ok()) << segment.status();
  void* memory = MapSharedMemory((*segment)->fd(), sizeof(v1::ControlHeader)).value();
  const auto* header = static_cast<const v1::ControlHeader*>(memory);
  LocalGeneration generation;
  generation.places = {{.slot = 5, .rank = 7}, {.slot = 6, .rank = 8}};
  AbortTargets targets;
  targets.AbortFor(LifeOf(5, 1), 9);
  targets.Expect(5, 2);
  targets.Set(*segment, generation);
  targets.AbortFor(LifeOf(5, 1), 9);
  targets.AbortFor(LifeOf(6, 2), 9);  // not expected at all
  EXPECT_EQ(header->abort_word.load(), v1::kNoAbort);
  targets.Clear();
  targets.AbortFor(LifeOf(5, 2), 9);
  EXPECT_EQ(header->abort_word.load(), v1::kNoAbort);
  targets.Set(*segment, generation);
  targets.Expect(5, 2);
  targets.AbortFor(LifeOf(5, 2), 9);
  EXPECT_EQ(header->abort_word.load(), v1::PackAbort(v1::AbortReason::kPeerLost, 7, 9)) << "a rank of the world";
  ::munmap(memory, sizeof(v1::ControlHeader));
}

// What a dead worker left in its flight record may be any bytes.
TEST(OperationText, DescribesAnyBytes) {
  v1::OpDescriptor what = {};
  what.kind = v1::OpKind::kAllReduce;
  what.type = static_cast<uint8_t>(DataType::kFloat32);
  what.op = static_cast<uint8_t>(ReduceOp::kSum);
  what.count = 4096;
  EXPECT_EQ(Describe(what, v1::Detail::kBrief), "all_reduce of 4096 f32");
  EXPECT_EQ(Describe(what, v1::Detail::kFull), "all_reduce of 4096 f32, sum");
  what.kind = v1::OpKind::kBroadcast;
  what.root = 2;
  EXPECT_EQ(Describe(what, v1::Detail::kFull), "broadcast of 4096 f32 from root 2");
  what.kind = v1::OpKind::kBarrier;
  EXPECT_EQ(Describe(what, v1::Detail::kFull), "barrier");
  std::memset(&what, 0xee, sizeof what);
  EXPECT_EQ(Describe(what, v1::Detail::kBrief).substr(0, 20), "an unknown operation");
}

}  // namespace
}  // namespace muster

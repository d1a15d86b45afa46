// The worker port's smaller parts.
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

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

TEST(ControlSegment, StagingShrinksWithTheRanks) {
  EXPECT_EQ(StagingBytesFor(1), 256u * 1024);
  EXPECT_EQ(StagingBytesFor(32), 256u * 1024);
  for (uint32_t ranks = 1; ranks <= static_cast<uint32_t>(v1::kLocalRanksMax); ++ranks) {
    EXPECT_LE(v1::ControlMemoryBytes(ranks, 32 * 1024, StagingBytesFor(ranks)), 48u << 20) << ranks;
    EXPECT_GE(StagingBytesFor(ranks), 64 * ranks) << "the staged algorithms need a line for each rank";
  }
}

TEST(ControlSegment, KeepsTheFirstAbortWordAndTheNewestOperation) {
  const std::string job_id(16, 'j');
  auto segment = ControlSegment::Create(3, job_id, 2, 2);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ((*segment)->LastOperation(0).op_seq, 0u);
  EXPECT_EQ((*segment)->LastOperation(99).op_seq, 0u);
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

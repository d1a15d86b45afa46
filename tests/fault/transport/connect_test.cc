// Why Mesh::Connect fails, and what it survives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/fault/transport/raw_peer.h"
#include "tests/support/loopback_mesh.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

absl::Status ConnectOne(
    MeshOptions options, absl::Duration timeout, const std::function<bool()>& interrupted = [] { return false; }) {
  return Mesh::Connect(std::move(options), absl::Now() + timeout, interrupted).status();
}

TEST(Connect, NamesThoseWhoDoNotCome) {
  auto options = LoopbackOptions(3);
  const absl::Status status = ConnectOne(std::move(options[0]), absl::Milliseconds(50));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 (node1), rank 2 (node2)"));
}

TEST(Connect, NamesThoseWhoDoNotAnswer) {
  auto options = LoopbackOptions(2);
  ASSERT_EQ(::listen(options[0].listener.get(), 10), 0);  // the kernel takes connections; rank 0 has not begun
  const absl::Status status = ConnectOne(std::move(options[1]), absl::Milliseconds(50));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 (node0)"));
}

TEST(Connect, NamesTheAddressWhereNobodyListens) {
  auto options = LoopbackOptions(2);
  options[0].listener.Reset();
  const std::string where = ToString(options[1].peers[0].address);
  const absl::Status status = ConnectOne(std::move(options[1]), absl::Seconds(1));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("rank 0 (node0) at ", where, " cannot be reached: ")));
  EXPECT_THAT(std::string(status.message()), HasSubstr("Connection refused"));
}

TEST(Connect, IsInterrupted) {
  auto options = LoopbackOptions(2);
  EXPECT_TRUE(absl::IsAborted(ConnectOne(std::move(options[0]), absl::Minutes(1), [] { return true; })));
}

TEST(Connect, SaysWhatIsWrongWithItsOptions) {
  const struct {
    void (*change)(MeshOptions*);
    const char* named;
  } kWrong[] = {
      {[](MeshOptions* o) { o->job_id = "short"; }, "a job id has 16 bytes, not 5"},
      {[](MeshOptions* o) { o->key.clear(); }, "a key has 32 bytes, not 0"},
      {[](MeshOptions* o) { o->rank = -1; }, "rank -1"},
      {[](MeshOptions* o) { o->streams = 0; }, "0 streams; 1 to 16 are possible"},
      {[](MeshOptions* o) { o->streams = 17; }, "17 streams; 1 to 16 are possible"},
      {[](MeshOptions* o) { o->peers[0].rank = 0; }, "rank 0 with rank 0 as a peer"},
      {[](MeshOptions* o) { o->peers.push_back(o->peers[0]); }, "rank 1 as a peer twice"},
      {[](MeshOptions* o) { o->listener.Reset(); }, "no listener, but rank 1 is to dial it"},
      {[](MeshOptions* o) { o->silence_max = absl::ZeroDuration(); }, "silence_max of 0"},
  };
  for (const auto& wrong : kWrong) {
    auto options = LoopbackOptions(2);
    wrong.change(&options[0]);
    const absl::Status status = ConnectOne(std::move(options[0]), absl::Seconds(1));
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.named));
  }
}

TEST(Connect, WithoutPeersThereIsNothingToDo) {
  auto meshes = ConnectAll(LoopbackOptions(1));
  EXPECT_TRUE(meshes[0]->peers().empty());
  EXPECT_TRUE(Await(*meshes[0], [] { return true; }));
}

// The dialing side may be there long before the other: first nobody listens, then the kernel alone does.
TEST(Connect, WaitsForAPeerThatComesLate) {
  auto options = LoopbackOptions(2);
  const MeshPeer place = options[1].peers[0];
  std::vector<std::unique_ptr<Mesh>> meshes(2);
  std::thread dialing([&] {
    std::vector<MeshOptions> mine;
    mine.push_back(std::move(options[1]));
    meshes[1] = std::move(ConnectAll(std::move(mine))[0]);
  });
  // A connection that nobody has accepted yet shows that the dialing side has been here: then begin.
  ASSERT_EQ(::listen(options[0].listener.get(), 10), 0);
  UniqueFd first(::accept4(options[0].listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(first);
  first.Reset();  // and the first try comes to nothing
  std::vector<MeshOptions> mine;
  mine.push_back(std::move(options[0]));
  meshes[0] = std::move(ConnectAll(std::move(mine))[0]);
  dialing.join();
  ASSERT_TRUE(meshes[0] != nullptr && meshes[1] != nullptr);
  char byte = 0;
  MeshTransfer out, in;
  meshes[1]->Send(0, {1, 0}, "x", 1, &out);
  meshes[0]->Receive(1, {1, 0}, &byte, 1, &in);
  EXPECT_TRUE(Await(*meshes[0], [&] { return in.done; }));
  EXPECT_EQ(byte, 'x');
}

TEST(Connect, TellsBothSidesThatTheirKeysDiffer) {
  auto options = LoopbackOptions(2);
  Refusals refusals;
  options[0].refused = refusals.Listener();
  options[1].key[0] = 'x';
  std::atomic<bool> enough{false};
  std::thread accepts([&] {
    EXPECT_TRUE(absl::IsAborted(ConnectOne(std::move(options[0]), absl::Minutes(1), [&] { return enough.load(); })));
  });
  const absl::Status dialing = ConnectOne(std::move(options[1]), absl::Minutes(1));
  EXPECT_TRUE(absl::IsUnavailable(dialing)) << dialing;
  EXPECT_THAT(std::string(dialing.message()), HasSubstr("rank 0 (node0) at 127.0.0.1:"));
  EXPECT_THAT(std::string(dialing.message()), HasSubstr("does not have the generation's key"));
  EXPECT_THAT(refusals.Await(1)[0], HasSubstr("wrong key"));
  enough = true;
  accepts.join();
}

TEST(Connect, APeerOfAnotherGenerationIsRefusedUntilItGivesUp) {
  auto options = LoopbackOptions(2);
  Refusals refusals;
  options[0].refused = refusals.Listener();
  options[1].generation = 4;
  std::atomic<bool> enough{false};
  std::thread accepts([&] {
    EXPECT_TRUE(absl::IsAborted(ConnectOne(std::move(options[0]), absl::Minutes(1), [&] { return enough.load(); })));
  });
  const absl::Status status = ConnectOne(std::move(options[1]), absl::Seconds(2));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("refused us"));
  EXPECT_EQ(refusals.Await(1)[0], "rank 1 of generation 4, this is generation 5");
  enough = true;
  accepts.join();
}

TEST(Connect, APeerThatGoesBeforeAllAreThereIsNamed) {
  auto options = LoopbackOptions(3);
  const HandshakeParty raw = PartyOf(options[1]);
  const MeshPeer place = options[1].peers[0];
  ASSERT_EQ(::listen(options[0].listener.get(), 10), 0);
  std::thread goes([&] {
    RawConnection made = DialRaw(raw, place, 0);
    EXPECT_TRUE(made.open);
  });
  const absl::Status status = ConnectOne(std::move(options[0]), absl::Minutes(1));
  goes.join();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 (node1) at "));
}

}  // namespace
}  // namespace muster::test

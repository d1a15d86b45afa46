// Whoever is not a peer is turned away, counted and named, while the peers' traffic goes on undisturbed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "runtime/transport/acceptor.h"
#include "runtime/transport/wire.h"
#include "tests/fault/transport/raw_peer.h"
#include "tests/support/loopback_mesh.h"

namespace muster::test {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;

// Two ranks that pass messages to and fro, and look at every byte.
class Traffic {
 public:
  explicit Traffic(std::vector<std::unique_ptr<Mesh>> meshes) : meshes_(std::move(meshes)) {
    for (size_t rank = 0; rank < 2; ++rank) threads_.emplace_back([this, rank] { Run(static_cast<int>(rank)); });
  }
  // The rounds that went well until now; a round that did not is a test failure.
  uint64_t Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    return rounds_;
  }
  const Mesh& mesh(size_t rank) const { return *meshes_[rank]; }

 private:
  void Run(int rank) {
    Mesh& mesh = *meshes_[static_cast<size_t>(rank)];
    for (uint64_t round = 1;; ++round) {
      const std::string sent(20'000 + round % 7 * 40'000, static_cast<char>(round + static_cast<uint64_t>(rank)));
      std::string received(sent.size(), '\0');
      // Rank 0 says in the first byte whether this is the last round.
      std::string head(1, rank == 0 && stop_ ? 'e' : 'g'), other_head(1, '\0');
      MeshTransfer transfers[4];
      mesh.Send(1 - rank, {round, 0}, head.data(), 1, &transfers[0]);
      mesh.Receive(1 - rank, {round, 0}, other_head.data(), 1, &transfers[1]);
      mesh.Send(1 - rank, {round, 1}, sent.data(), static_cast<int64_t>(sent.size()), &transfers[2]);
      mesh.Receive(1 - rank, {round, 1}, received.data(), static_cast<int64_t>(received.size()), &transfers[3]);
      if (!Await(mesh, [&] { return transfers[0].done && transfers[1].done && transfers[2].done && transfers[3].done; }))
        return;
      ASSERT_EQ(received, std::string(sent.size(), static_cast<char>(round + static_cast<uint64_t>(1 - rank))));
      if (rank == 0) rounds_ = round;
      if ((rank == 0 ? head : other_head) == "e") return;
    }
  }

  std::vector<std::unique_ptr<Mesh>> meshes_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> rounds_{0};
};

// What a stranger that says `bytes` gets to hear: nothing, and then the end.
void Say(const MeshPeer& place, absl::string_view bytes) {
  const UniqueFd fd = ConnectLoopback(place.address);
  SendRaw(fd, bytes);
  EXPECT_EQ(ReceiveRaw(fd, 1), "");
}

TEST(Strangers, AreRefusedCountedAndNamedWhileTrafficGoesOn) {
  auto options = LoopbackOptions(2, 2);
  Refusals refusals;
  options[0].refused = refusals.Listener();
  const MeshPeer place = options[1].peers[0];
  const HandshakeParty real = PartyOf(options[1]);
  Traffic traffic(ConnectAll(std::move(options)));
  EXPECT_EQ(traffic.mesh(0).refusals(), 0u);

  std::vector<std::string> expected;
  const auto refused = [&](const std::string& what) {
    expected.push_back(what);
    EXPECT_THAT(refusals.Await(expected.size()).back(), HasSubstr(what));
    EXPECT_EQ(traffic.mesh(0).refusals(), expected.size());
  };
  Say(place, "GET / HTTP/1.1\r\nHost: node0\r\n\r\n");
  refused("a stranger's connection: HTTP");
  Say(place, std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));
  refused("a stranger's connection: TLS");
  Say(place, "hello\r\n");
  refused("a stranger's connection: plain text");
  Say(place, std::string(3, '\0'));
  refused("a stranger's connection: bytes that are no HELLO");
  ConnectLoopback(place.address).Reset();
  refused("a stranger's connection: closed before its HELLO");
  UniqueFd reset = ConnectLoopback(place.address);
  SendRaw(reset, "mustr");
  ResetRaw(&reset);
  refused("a stranger's connection: closed before its HELLO");
  {
    const UniqueFd silent = ConnectLoopback(place.address);
    refused("a stranger's connection: silent for 2s before its HELLO");
  }
  const struct {
    void (*change)(HandshakeParty*);
    const char* named;
  } kWrong[] = {
      {[](HandshakeParty* party) { party->key[5] = 'x'; }, "wrong key: the PROOF of rank 1"},
      {[](HandshakeParty* party) { party->job_id[0] = 'x'; }, "rank 1 of another job"},
      {[](HandshakeParty* party) { party->generation = 4; }, "rank 1 of generation 4, this is generation 5"},
      {[](HandshakeParty* party) { party->generation = 6; }, "rank 1 of generation 6, this is generation 5"},
      {[](HandshakeParty* party) { party->rank = 7; }, "rank 7, which is no peer"},
      {[](HandshakeParty* party) { party->spawn = 10; }, "rank 1 with spawn 10; spawn 11 is the peer"},
      {[](HandshakeParty* party) { party->streams = 5; }, "stream 1 of 5 of rank 1; this rank has 3 to each peer"},
      {[](HandshakeParty* party) { party->communicator = 3; }, "rank 1 looks for another communicator of this rank"},
      {[](HandshakeParty*) {}, "stream 1 of rank 1 a second time"},
  };
  for (const auto& wrong : kWrong) {
    HandshakeParty party = real;
    wrong.change(&party);
    EXPECT_FALSE(DialRaw(party, place, 1).open) << wrong.named;
    refused(wrong.named);
  }
  MeshPeer elsewhere = place;
  elsewhere.rank = 3;
  EXPECT_FALSE(DialRaw(real, elsewhere, 1).open);
  refused("rank 1 looks for rank 3, spawn 10; this is rank 0, spawn 10");
  {
    UniqueFd fd = ConnectLoopback(place.address);
    const DialHandshake dial(real, {0, 10}, 1, Nonce{});
    SendRaw(fd, dial.hello());
    EXPECT_EQ(ReceiveRaw(fd, kWelcomeBytes).size(), kWelcomeBytes);
    fd.Reset();
    refused("wrong key, or lost: rank 1 closed before its PROOF");
  }
  EXPECT_GT(traffic.Stop(), 0u);
  EXPECT_EQ(traffic.mesh(0).refusals(), expected.size());
  EXPECT_EQ(traffic.mesh(1).refusals(), 0u);
  EXPECT_EQ(traffic.mesh(0).stale_frames(), 0u);
}

// The bytes of a good handshake, said once more: while the first connection lives, and towards a process that has none.
TEST(Strangers, CannotReplayWhatTheyHaveSeen) {
  for (const bool restarted : {false, true}) {
    auto options = LoopbackOptions(2, 1);
    Refusals refusals;
    const MeshPeer place = options[1].peers[0];
    const HandshakeParty real = PartyOf(options[1]);
    AcceptorOptions accepting = {
        .party = PartyOf(options[0]), .silence_max = absl::Seconds(20), .refused = refusals.Listener()};
    accepting.listener = std::move(options[0].listener);
    UniqueFd again(::dup(accepting.listener.get()));
    auto acceptor = Acceptor::Create(std::move(accepting));
    ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    const RawConnection seen = DialRaw(real, place, 0);
    ASSERT_TRUE(seen.open);
    if (restarted) {
      accepting = {.party = PartyOf(options[0]), .silence_max = absl::Seconds(20), .refused = refusals.Listener()};
      accepting.listener = std::move(again);
      acceptor->reset();
      acceptor = Acceptor::Create(std::move(accepting));
      ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    }
    const UniqueFd fd = ConnectLoopback(place.address);
    SendRaw(fd, seen.hello);
    const std::string welcome = ReceiveRaw(fd, kWelcomeBytes);
    ASSERT_EQ(welcome.size(), kWelcomeBytes);
    EXPECT_NE(welcome, seen.welcome);
    SendRaw(fd, seen.proof);
    EXPECT_EQ(ReceiveRaw(fd, 1), "");
    EXPECT_THAT(refusals.Await(1)[0], HasSubstr("wrong key: the PROOF of rank 1 is not of this connection"));
    EXPECT_EQ((*acceptor)->refusals(), 1u);
    EXPECT_EQ((*acceptor)->TakeArrivals().size(), restarted ? 0u : 1u);
  }
}

TEST(Strangers, ThatFloodTheListenerKeepNoPeerOut) {
  constexpr size_t kFlood = 200;
  auto options = LoopbackOptions(2);
  Refusals refusals;
  options[0].refused = refusals.Listener();
  ASSERT_EQ(::listen(options[0].listener.get(), SOMAXCONN), 0);
  const MeshPeer place = options[1].peers[0];
  // They sit in the listener's queue before rank 0 begins, and all stay silent.
  std::vector<UniqueFd> flood;
  for (size_t i = 0; i < kFlood; ++i) flood.push_back(ConnectLoopback(place.address));
  Traffic traffic(ConnectAll(std::move(options)));
  const std::vector<std::string> what = refusals.Await(kFlood);
  EXPECT_THAT(what, Contains(HasSubstr("silent before its HELLO, and 64 more came")).Times(testing::Ge(kFlood - 64)));
  EXPECT_THAT(what, Each(HasSubstr("a stranger's connection: silent")));
  EXPECT_GT(traffic.Stop(), 0u);
  EXPECT_EQ(traffic.mesh(0).refusals(), kFlood);
}

TEST(Strangers, ThatComeWithoutEndKeepNoPeerOut) {
  auto options = LoopbackOptions(2);
  ASSERT_EQ(::listen(options[0].listener.get(), SOMAXCONN), 0);
  const MeshPeer place = options[1].peers[0];
  std::atomic<bool> enough{false};
  std::thread flood([&] {
    std::deque<UniqueFd> silent;
    // Bounded: each leaves its port in TIME_WAIT.
    for (int i = 0; i < 5000 && !enough; ++i) {
      silent.push_back(ConnectLoopback(place.address));
      if (silent.size() > 150) silent.pop_front();
    }
  });
  Traffic traffic(ConnectAll(std::move(options)));
  EXPECT_GT(traffic.Stop(), 0u);
  enough = true;
  flood.join();
}

}  // namespace
}  // namespace muster::test

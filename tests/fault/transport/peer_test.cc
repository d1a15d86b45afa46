// What a mesh says when a proven peer closes, resets, stops reading, sends what it should not, or aborts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/clock.h"
#include "tests/fault/transport/raw_peer.h"
#include "tests/support/loopback_mesh.h"

namespace muster::test {
namespace {

using testing::HasSubstr;
using v1::AbortReason;

constexpr bool (*kNever)() = +[] { return false; };
int64_t In(absl::Duration time) { return MonotonicDeadline(absl::Now() + time); }

TEST(Peer, ThatClosesInTheMiddleOfAMessageIsLost) {
  RawPair pair = ConnectRawPair();
  std::string room(1000, '\0');
  MeshTransfer transfer;
  pair.mesh->Receive(1, {1, 0}, room.data(), 1000, &transfer);
  SendRaw(pair.raw[0], DataFrame({1, 0}, std::string(1000, 'x')).substr(0, 500));
  pair.raw.clear();
  const MeshFailure failure = AwaitFailure(*pair.mesh);
  EXPECT_EQ(failure.reason, AbortReason::kPeerLost);
  EXPECT_EQ(failure.rank, 1u);
  EXPECT_THAT(failure.text, HasSubstr("rank 1 (node1) at 127.0.0.1:"));
  EXPECT_THAT(failure.text, HasSubstr("closed in the middle of a message"));
  EXPECT_FALSE(transfer.done);
  EXPECT_EQ(transfer.moved, 500 - static_cast<int64_t>(kMeshHeaderBytes));
  EXPECT_EQ(AwaitFailure(*pair.mesh).text, failure.text) << "once failed, always failed";
  MeshTransfer later;
  pair.mesh->Send(1, {2, 0}, room.data(), 10, &later);
  EXPECT_FALSE(later.done);
}

TEST(Peer, ThatResetsItsConnectionIsLost) {
  for (const bool receiving : {true, false}) {
    RawPair pair = ConnectRawPair();
    std::string bytes(64 << 20, '\0');
    MeshTransfer transfer;
    if (receiving) {
      pair.mesh->Receive(1, {1, 0}, bytes.data(), 10, &transfer);
    } else {
      pair.mesh->Send(1, {1, 0}, bytes.data(), static_cast<int64_t>(bytes.size()), &transfer);
    }
    for (UniqueFd& fd : pair.raw) ResetRaw(&fd);
    const MeshFailure failure = AwaitFailure(*pair.mesh);
    EXPECT_EQ(failure.reason, AbortReason::kPeerLost);
    EXPECT_EQ(failure.rank, 1u);
    EXPECT_FALSE(transfer.done);
  }
}

TEST(Peer, ThatLosesOneStreamOnlyIsLostToo) {
  RawPair pair = ConnectRawPair();
  char room;
  MeshTransfer transfer;
  pair.mesh->Receive(1, {1, 1}, &room, 1, &transfer);
  pair.raw[1].Reset();  // the connection for aborts lives on, and nothing comes over it
  EXPECT_EQ(AwaitFailure(*pair.mesh).reason, AbortReason::kPeerLost);
}

TEST(Peer, ThatStopsReadingIsNamedAtTheDeadline) {
  RawPair pair = ConnectRawPair();
  std::string bytes(64 << 20, '\0');
  MeshTransfer transfer;
  pair.mesh->Send(1, {1, 0}, bytes.data(), static_cast<int64_t>(bytes.size()), &transfer);
  const auto failure = pair.mesh->Progress(kNever, kNever, In(absl::Milliseconds(100)), absl::ZeroDuration());
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->reason, AbortReason::kDeadline);
  EXPECT_EQ(failure->rank, 1u);
  EXPECT_THAT(failure->text, HasSubstr("does not take what is sent to it"));
  EXPECT_LT(transfer.moved, static_cast<int64_t>(bytes.size()));
}

TEST(Peer, ThatSendsNothingIsNamedAtTheDeadline) {
  RawPair pair = ConnectRawPair();
  char room;
  MeshTransfer transfer;
  pair.mesh->Receive(1, {1, 0}, &room, 1, &transfer);
  const auto failure = pair.mesh->Progress(kNever, kNever, In(absl::Milliseconds(20)), absl::Milliseconds(5));
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->reason, AbortReason::kDeadline);
  EXPECT_EQ(failure->rank, 1u);
  EXPECT_THAT(failure->text, HasSubstr("has not sent what is expected of it"));
}

TEST(Progress, IsInterruptedAndGoesOnAfterwards) {
  RawPair pair = ConnectRawPair();
  char room = 0;
  MeshTransfer transfer;
  pair.mesh->Receive(1, {1, 0}, &room, 1, &transfer);
  int asked = 0;
  const auto failure = pair.mesh->Progress(
      kNever, [&asked] { return ++asked == 10; }, In(absl::Minutes(1)), absl::ZeroDuration());
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->reason, AbortReason::kNone);
  SendRaw(pair.raw[0], DataFrame({1, 0}, "x"));
  EXPECT_TRUE(Await(*pair.mesh, [&] { return transfer.done; }));
  EXPECT_EQ(room, 'x');
}

TEST(Peer, FramesOfAnOlderGenerationAreDroppedCountedAndNamed) {
  Refusals refusals;
  RawPair pair = ConnectRawPair(2, refusals.Listener());
  std::string room(5, '\0');
  MeshTransfer transfer;
  pair.mesh->Receive(1, {1, 0}, room.data(), 5, &transfer);
  SendRaw(pair.raw[0],
          DataFrame({1, 0}, "stale", 4) + DataFrame({1, 0}, std::string(300'000, 's'), 1) + DataFrame({1, 0}, "fresh"));
  EXPECT_TRUE(Await(*pair.mesh, [&] { return transfer.done; }));
  EXPECT_EQ(room, "fresh");
  EXPECT_EQ(pair.mesh->stale_frames(), 2u);
  for (const std::string& what : refusals.Await(2)) {
    EXPECT_EQ(what, "a frame of a generation before 5, on a connection of rank 1");
  }
}

TEST(Peer, ThatSendsWhatIsNoFrameIsLostAndItsWordsAreNamed) {
  const struct {
    std::string bytes;
    const char* named;
  } kWrong[] = {
      {DataFrame({1, 0}, "later", 6), "sent a frame of generation 6, this is generation 5"},
      {std::string(100, '\0'), "sent bytes that are no frame"},
      {"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "sent bytes that are no frame"},
  };
  for (const auto& wrong : kWrong) {
    RawPair pair = ConnectRawPair();
    std::string room(5, '\0');
    MeshTransfer transfer;
    pair.mesh->Receive(1, {1, 0}, room.data(), 5, &transfer);
    SendRaw(pair.raw[0], wrong.bytes);
    const MeshFailure failure = AwaitFailure(*pair.mesh);
    EXPECT_EQ(failure.reason, AbortReason::kPeerLost);
    EXPECT_EQ(failure.rank, 1u);
    EXPECT_THAT(failure.text, HasSubstr(wrong.named));
  }
}

TEST(Peer, AnotherLengthIsAMismatch) {
  for (const bool posted_first : {true, false}) {
    RawPair pair = ConnectRawPair();
    std::string room(16, '\0');
    MeshTransfer first, second;
    if (posted_first) pair.mesh->Receive(1, {7, 2}, room.data(), 16, &first);
    SendRaw(pair.raw[0], DataFrame({7, 2}, "twelve bytes"));
    SendRaw(pair.raw[1], DataFrame({7, 1}, "x"));
    pair.mesh->Receive(1, {7, 1}, room.data(), 1, &second);
    if (!posted_first) {
      EXPECT_TRUE(Await(*pair.mesh, [&] { return second.done; }));
      pair.mesh->Receive(1, {7, 2}, room.data(), 16, &first);
    }
    const MeshFailure failure = AwaitFailure(*pair.mesh);
    EXPECT_EQ(failure.reason, AbortReason::kMismatch);
    EXPECT_EQ(failure.rank, 1u);
    EXPECT_THAT(failure.text, HasSubstr("sent 12 bytes as segment 2 of operation 7, where 16 are expected"));
  }
}

TEST(Peer, AMessageThatNobodyWantsYetHoldsUpItsOwnStreamOnly) {
  RawPair pair = ConnectRawPair();
  std::string a(3, '\0'), b(3, '\0'), c(3, '\0');
  MeshTransfer ta, tb, tc;
  SendRaw(pair.raw[0], DataFrame({1, 0}, "aaa") + DataFrame({1, 2}, "bbb"));
  SendRaw(pair.raw[1], DataFrame({1, 1}, "ccc"));
  pair.mesh->Receive(1, {1, 2}, b.data(), 3, &tb);
  pair.mesh->Receive(1, {1, 1}, c.data(), 3, &tc);
  EXPECT_TRUE(Await(*pair.mesh, [&] { return tc.done; }));
  EXPECT_FALSE(tb.done);
  pair.mesh->Receive(1, {1, 0}, a.data(), 3, &ta);
  EXPECT_TRUE(Await(*pair.mesh, [&] { return ta.done && tb.done; }));
  EXPECT_EQ(a + b + c, "aaabbbccc");
}

TEST(Abort, GetsThroughWhenEveryStreamIsFull) {
  auto meshes = ConnectAll(LoopbackOptions(2, 2));
  std::string bytes(64 << 20, '\0');
  MeshTransfer full[2], wanted;
  for (uint32_t segment = 0; segment < 2; ++segment) {
    meshes[0]->Send(1, {1, segment}, bytes.data(), static_cast<int64_t>(bytes.size()), &full[segment]);
  }
  // Rank 1 wants another operation's message, so the streams fill up and stay so.
  meshes[1]->Receive(0, {2, 0}, bytes.data(), 1, &wanted);
  const auto stuck = meshes[0]->Progress(kNever, kNever, In(absl::Milliseconds(50)), absl::ZeroDuration());
  EXPECT_EQ(stuck->reason, AbortReason::kDeadline);
  std::thread any([&] { meshes[0]->Abort({AbortReason::kAborted, 0, 3, "rank 0 has had enough"}); });
  const MeshFailure failure = AwaitFailure(*meshes[1]);
  any.join();
  EXPECT_EQ(failure.reason, AbortReason::kAborted);
  EXPECT_EQ(failure.rank, 0u);
  EXPECT_EQ(failure.detail, 3u);
  EXPECT_EQ(failure.text, "rank 0 has had enough");
}

TEST(Abort, IsWaitedForWhenAStreamEndsFirst) {
  RawPair pair = ConnectRawPair();
  char room;
  MeshTransfer transfer;
  pair.mesh->Receive(1, {1, 0}, &room, 1, &transfer);
  pair.raw[0].Reset();
  int asked = 0;
  const auto none = pair.mesh->Progress(
      kNever, [&asked] { return ++asked == 5; }, In(absl::Minutes(1)), absl::ZeroDuration());
  EXPECT_EQ(none->reason, AbortReason::kNone) << none->text;
  SendRaw(pair.raw.back(), MeshAbortBytes(5, {AbortReason::kMismatch, 1, 0, "rank 1 called barrier"}));
  pair.raw.clear();
  EXPECT_EQ(AwaitFailure(*pair.mesh).reason, AbortReason::kMismatch);
}

// Who heard of an abort ends too; the others must hear the cause, not that end.
TEST(Abort, WinsOverTheEndsThatFollowIt) {
  for (int round = 0; round < 20; ++round) {
    auto meshes = ConnectAll(LoopbackOptions(4, 1));
    char room;
    MeshTransfer transfer[3];
    for (int rank = 0; rank < 3; ++rank)
      meshes[static_cast<size_t>(rank)]->Receive((rank + 1) % 3, {1, 0}, &room, 1, &transfer[rank]);
    meshes[3]->Abort({AbortReason::kMismatch, 3, 0, "rank 3 called barrier"});
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < 4; ++rank) {
      threads.emplace_back([&, rank] {
        if (rank < 3) {
          const MeshFailure failure = AwaitFailure(*meshes[rank]);
          EXPECT_EQ(failure.reason, AbortReason::kMismatch) << "rank " << rank << ": " << failure.text;
          EXPECT_EQ(failure.rank, 3u);
        }
        meshes[rank].reset();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

// A program that needs nobody may be over while others are still connecting.
TEST(Leaving, AtOnceDisturbsNobodyWhoIsConnecting) {
  for (int round = 0; round < 100; ++round) {
    auto options = LoopbackOptions(4, 4);
    std::vector<std::thread> threads;
    for (MeshOptions& each : options) {
      threads.emplace_back([&each] {
        const auto mesh = Mesh::Connect(std::move(each), absl::Now() + absl::Minutes(1), kNever);
        EXPECT_TRUE(mesh.ok()) << mesh.status();
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (HasFailure()) break;
  }
}

TEST(Leaving, DisturbsOnlyWhoStillWaitsForTheOneThatLeft) {
  for (const bool in_order : {true, false}) {
    auto meshes = ConnectAll(LoopbackOptions(3, 2));
    const std::string sent(300'000, 's');
    std::string received(sent.size(), '\0'), other(5, '\0');
    MeshTransfer out, in, from_1, never;
    meshes[2]->Send(0, {1, 0}, sent.data(), static_cast<int64_t>(sent.size()), &out);
    EXPECT_TRUE(Await(*meshes[2], [&] { return out.done; }));
    if (in_order) meshes[2]->Abort({AbortReason::kPeerLeft, 2, 0, ""});
    meshes[2].reset();
    // What it sent before is delivered, and nobody minds its end.
    meshes[0]->Receive(2, {1, 0}, received.data(), static_cast<int64_t>(received.size()), &in);
    EXPECT_TRUE(Await(*meshes[0], [&] { return in.done; }));
    EXPECT_EQ(received, sent);
    MeshTransfer to_0;
    meshes[0]->Receive(1, {2, 0}, other.data(), 5, &from_1);
    meshes[1]->Send(0, {2, 0}, "later", 5, &to_0);
    EXPECT_TRUE(Await(*meshes[0], [&] { return from_1.done; }));
    // Now somebody does.
    meshes[0]->Receive(2, {3, 1}, other.data(), 1, &never);
    const MeshFailure failure = AwaitFailure(*meshes[0]);
    EXPECT_EQ(failure.reason, in_order ? AbortReason::kPeerLeft : AbortReason::kPeerLost);
    EXPECT_EQ(failure.rank, 2u);
  }
}

TEST(Connections, FallSilentAtTheTimeThatWasAsked) {
  auto options = LoopbackOptions(2, 1);
  for (MeshOptions& each : options) each.silence_max = absl::Seconds(8);
  const auto meshes = ConnectAll(std::move(options));
  for (const auto& mesh : meshes) {
    int connections = 0;
    for (const int fd : mesh->descriptors()) {
      int silence_ms = 0, no_delay = 0, probe_s = 0, alive = 0;
      socklen_t size = sizeof silence_ms;
      if (::getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, &size) != 0 || silence_ms == 0) continue;
      ++connections;  // the one for aborts
      EXPECT_EQ(silence_ms, 8000);
      ::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size);
      EXPECT_NE(no_delay, 0);
      ::getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &alive, &size);
      EXPECT_NE(alive, 0);
      ::getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &probe_s, &size);
      EXPECT_EQ(probe_s, 2);
    }
    EXPECT_EQ(connections, 1);
  }
}

// Windows that stay shut are no silence: that process computes, or waits for somebody else, and its kernel answers.
TEST(Peer, ThatTakesNothingForLongIsNotLost) {
  auto options = LoopbackOptions(2, 2);
  for (MeshOptions& each : options) each.silence_max = absl::Milliseconds(200);
  const auto meshes = ConnectAll(std::move(options));
  const std::string sent(64 << 20, 's');
  std::string received(sent.size(), '\0');
  MeshTransfer out, in;
  meshes[0]->Send(1, {1, 0}, sent.data(), static_cast<int64_t>(sent.size()), &out);
  const int64_t later = In(absl::Seconds(2));  // ten times the silence that is allowed
  const auto failure = meshes[0]->Progress(
      kNever, [later] { return MonotonicNanoseconds() >= later; }, In(absl::Minutes(1)), absl::ZeroDuration());
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->reason, AbortReason::kNone) << failure->text;
  EXPECT_FALSE(out.done);
  meshes[1]->Receive(0, {1, 0}, received.data(), static_cast<int64_t>(received.size()), &in);
  std::thread sender([&] { EXPECT_TRUE(Await(*meshes[0], [&] { return out.done; })); });
  EXPECT_TRUE(Await(*meshes[1], [&] { return in.done; }));
  sender.join();
  EXPECT_TRUE(received == sent);
}

// In a network of its own, whose only device can be taken down: what is sent vanishes, as if the other node had lost its power.
TEST(Peer, ThatFallsSilentIsLost) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto loopback = [](bool up) {
      const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      ifreq request = {};
      std::strcpy(request.ifr_name, "lo");
      request.ifr_flags = up ? IFF_UP : 0;
      return ::ioctl(any.get(), SIOCSIFFLAGS, &request) == 0;
    };
    if (::unshare(CLONE_NEWNET) != 0 || !loopback(true)) ::_exit(2);
    auto options = LoopbackOptions(2, 1);
    for (MeshOptions& each : options) each.silence_max = absl::Seconds(1);
    auto meshes = ConnectAll(std::move(options));
    char room = 0;
    MeshTransfer out, in;
    // Rank 0 only waits and rank 1 has sent something: each must notice.
    meshes[0]->Receive(1, {1, 0}, &room, 1, &in);
    if (!loopback(false)) ::_exit(3);
    meshes[1]->Send(0, {1, 0}, "x", 1, &out);
    meshes[1]->Receive(0, {2, 0}, &room, 1, &out);
    for (const uint32_t rank : {0u, 1u}) {
      const MeshFailure failure = AwaitFailure(*meshes[rank]);
      if (failure.reason != AbortReason::kPeerLost || failure.rank != 1 - rank) ::_exit(4);
    }
    ::_exit(HasFailure() ? 5 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) GTEST_SKIP() << "no network namespace may be made here";
  EXPECT_EQ(status, 0);
}

// A forked child that destroys its copy does no harm; once it has closed descriptors(), the peer sees the parent's end at once.
TEST(Fork, AChildNeitherDisturbsNorHoldsAConnection) {
  auto meshes = ConnectAll(LoopbackOptions(2, 2));
  int go_on[2];
  ASSERT_EQ(::pipe(go_on), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(go_on[1]);
    for (const int fd : meshes[0]->descriptors()) ::close(fd);
    meshes[0].reset();
    char byte;
    ::_exit(::read(go_on[0], &byte, 1) == 0 ? 0 : 1);
  }
  ::close(go_on[0]);
  std::string a(100'000, 'a'), b(a.size(), '\0');
  MeshTransfer out, in, never;
  meshes[0]->Send(1, {1, 0}, a.data(), static_cast<int64_t>(a.size()), &out);
  meshes[1]->Receive(0, {1, 0}, b.data(), static_cast<int64_t>(b.size()), &in);
  EXPECT_TRUE(Await(*meshes[1], [&] { return in.done; }));
  EXPECT_EQ(a, b);
  meshes[1]->Receive(0, {2, 0}, b.data(), 1, &never);
  meshes[0].reset();
  EXPECT_EQ(AwaitFailure(*meshes[1]).reason, AbortReason::kPeerLost);
  ::close(go_on[1]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace muster::test

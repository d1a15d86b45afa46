// Messages of random sizes, over random segments, streams and numbers of ranks, arrive whole and where they belong.
//
// MUSTER_TEST_SEED replays a run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "tests/support/loopback_mesh.h"

namespace muster::test {
namespace {

uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("MUSTER_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device()();
  }();
  return seed;
}

struct Message {
  int from = 0, to = 0;
  MeshTag tag;
  int64_t bytes = 0;
  uint64_t seed = 0;
};

// Mostly small; some around the size of a header, of what is read ahead and of a piece; a few of megabytes.
int64_t RandomBytes(std::mt19937_64& random) {
  const auto near = [&random](int64_t size) { return size - 40 + static_cast<int64_t>(random() % 80); };
  switch (random() % 12) {
    case 0:
      return 0;
    case 1:
      return near(4096);
    case 2:
      return near(4096 - 32);
    case 3:
      return near(128 * 1024);
    case 4:
      return near(256 * 1024 + 4096);
    case 5:
      return static_cast<int64_t>(random() % (3 << 20));
    default:
      return static_cast<int64_t>(random() % 200);
  }
}

std::string Content(const Message& message) {
  std::string bytes(static_cast<size_t>(message.bytes), '\0');
  uint64_t x = message.seed | 1;
  for (char& byte : bytes) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(x >> 56);
  }
  return bytes;
}

// Everything `rank` sends and receives in an operation, posted in random order where the contract leaves it open: all are
// posted before waiting.
void RunOperation(Mesh& mesh, int rank, const std::vector<Message>& messages, uint64_t seed, const std::string& where) {
  std::mt19937_64 random(seed + static_cast<uint64_t>(rank));
  std::vector<const Message*> mine;
  for (const Message& message : messages) {
    if (message.from == rank || message.to == rank) mine.push_back(&message);
  }
  std::shuffle(mine.begin(), mine.end(), random);
  std::deque<MeshTransfer> transfers;
  std::deque<std::pair<const Message*, std::string>> sent, received;
  for (const Message* message : mine) {
    MeshTransfer& transfer = transfers.emplace_back();
    if (message->from == rank) {
      const std::string& content = sent.emplace_back(message, Content(*message)).second;
      mesh.Send(message->to, message->tag, content.data(), message->bytes, &transfer);
    } else {
      // A guard byte behind: nothing may be written there.
      std::string& room = received.emplace_back(message, std::string(static_cast<size_t>(message->bytes) + 1, '\x5a')).second;
      mesh.Receive(message->from, message->tag, room.data(), message->bytes, &transfer);
    }
  }
  const absl::Duration spin = random() % 2 == 0 ? absl::ZeroDuration() : absl::Microseconds(50);
  const auto failure = mesh.Progress(
      [&transfers] { return std::all_of(transfers.begin(), transfers.end(), [](const MeshTransfer& t) { return t.done; }); },
      [] { return false; }, MonotonicDeadline(absl::Now() + absl::Minutes(2)), spin);
  ASSERT_FALSE(failure.has_value()) << failure->text << where;
  for (const auto& [message, room] : received) {
    ASSERT_EQ(room.back(), '\x5a') << where;
    ASSERT_TRUE(room.compare(0, room.size() - 1, Content(*message)) == 0)
        << "segment " << message->tag.segment << " of " << message->bytes << " bytes from rank " << message->from << where;
  }
}

TEST(Mesh, MessagesArriveWholeAndWhereTheyBelong) {
  std::mt19937_64 random(Seed());
  SocketAddress any;
  const int other_family = BindLoopback(&any, 6).valid() ? 6 : 4;  // a machine may have no IPv6
  for (int round = 0; round < 12; ++round) {
    const int ranks = 2 + static_cast<int>(random() % 4);
    const int streams = 1 + static_cast<int>(random() % 5);
    const std::string where =
        absl::StrCat("; ", ranks, " ranks, ", streams, " streams, round ", round, ", MUSTER_TEST_SEED=", Seed());
    std::vector<std::vector<Message>> operations(4);
    for (size_t op = 0; op < operations.size(); ++op) {
      const int count = 1 + static_cast<int>(random() % 60);
      for (int i = 0; i < count; ++i) {
        Message message;
        message.from = static_cast<int>(random() % static_cast<uint64_t>(ranks));
        message.to = (message.from + 1 + static_cast<int>(random() % static_cast<uint64_t>(ranks - 1))) % ranks;
        message.tag = {op + 1, static_cast<uint32_t>(i)};
        message.bytes = RandomBytes(random);
        message.seed = random();
        operations[op].push_back(message);
      }
    }
    auto meshes = ConnectAll(LoopbackOptions(ranks, streams, random() % 2 == 0 ? 4 : other_family));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        Mesh& mesh = *meshes[static_cast<size_t>(rank)];
        // No barrier between operations: a fast rank sends its next one while others still receive this one.
        for (const auto& messages : operations) RunOperation(mesh, rank, messages, Seed(), where);
        EXPECT_EQ(mesh.refusals(), 0u) << where;
        EXPECT_EQ(mesh.stale_frames(), 0u) << where;
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace muster::test

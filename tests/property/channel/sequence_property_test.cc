// Two ends of a session over a wire that breaks at any moment and loses all that was on it: each message comes once, in order, and
// nothing is kept longer than until it is acknowledged.
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "launcher/channel/sequence.h"

namespace muster {
namespace {

struct ToyFrame {
  uint64_t sequence = 0;
  uint64_t acknowledged = 0;
  uint64_t number = 0;
  void set_sequence(uint64_t value) { sequence = value; }
  void set_acknowledged(uint64_t value) { acknowledged = value; }
};
using ToySequence = Sequence<ToyFrame>;

struct End {
  ToySequence sequence;
  std::deque<std::shared_ptr<const ToyFrame>> outgoing;  // on the wire to the other end
  uint64_t sent = 0;
  std::vector<size_t> bytes;  // of each message that was sent
  uint64_t got = 0;           // the last number that was handed on
  uint64_t told = 0;          // greatest acknowledgement of the other end
};

class Session {
 public:
  explicit Session(uint32_t seed) : random_(seed) {}

  void Run(int steps) {
    for (int step = 0; step < steps && !::testing::Test::HasFatalFailure(); ++step) {
      const int me = static_cast<int>(Below(2));
      switch (Below(20)) {
        case 0:
          Break();
          break;
        case 1:
        case 2:
          Acknowledge(me);
          break;
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
          Send(me);
          break;
        default:
          Deliver(me);
          break;
      }
      CheckKept();
    }
    Break();  // what was on the wire is gone, and still
    for (int me = 0; me < 2; ++me) {
      while (!ends_[me].outgoing.empty() && !::testing::Test::HasFatalFailure()) Deliver(1 - me);
    }
    for (int me = 0; me < 2; ++me) Acknowledge(me);
    for (int me = 0; me < 2; ++me) {
      while (!ends_[me].outgoing.empty() && !::testing::Test::HasFatalFailure()) Deliver(1 - me);
    }
    for (int me = 0; me < 2; ++me) {
      EXPECT_EQ(ends_[me].got, ends_[1 - me].sent);
      EXPECT_TRUE(ends_[me].sequence.all_acknowledged());
      EXPECT_EQ(ends_[me].sequence.kept_bytes(), 0u);
    }
  }

 private:
  uint32_t Below(uint32_t bound) { return std::uniform_int_distribution<uint32_t>(0, bound - 1)(random_); }

  void Send(int me) {
    End& end = ends_[me];
    const size_t bytes = Below(100);
    end.bytes.push_back(bytes);
    end.outgoing.push_back(end.sequence.Send({.number = ++end.sent}, bytes));
  }

  void Acknowledge(int me) {
    End& end = ends_[me];
    end.outgoing.push_back(std::make_shared<const ToyFrame>(ToyFrame{.acknowledged = end.sequence.NoteAcknowledging()}));
    ASSERT_EQ(end.sequence.owed(), 0u);
  }

  // The first frame on the wire comes to `me`.
  void Deliver(int me) {
    End& end = ends_[me];
    if (ends_[1 - me].outgoing.empty()) return;
    const std::shared_ptr<const ToyFrame> frame = ends_[1 - me].outgoing.front();
    ends_[1 - me].outgoing.pop_front();
    Told(me, frame->acknowledged);
    if (frame->sequence == 0) return;
    switch (end.sequence.Take(frame->sequence)) {
      case ToySequence::Taken::kNew:
        ASSERT_EQ(frame->number, end.got + 1);
        ++end.got;
        break;
      case ToySequence::Taken::kRepeated:
        ASSERT_LE(frame->number, end.got);
        break;
      case ToySequence::Taken::kGap:
        FAIL() << "a gap on a wire that keeps the order";
    }
  }

  void Told(int me, uint64_t acknowledged) {
    ASSERT_TRUE(ends_[me].sequence.Acknowledge(acknowledged).ok());
    ends_[me].told = std::max(ends_[me].told, acknowledged);
  }

  // The wire breaks; both tell what they have, and send what the other has not. One of them may also send before it was told, as
  // an end does whose first frames cross.
  void Break() {
    for (End& end : ends_) end.outgoing.clear();
    const bool doubled = Below(4) == 0;
    for (int me = 0; me < 2; ++me) {
      if (!doubled || me == 0) Told(me, ends_[1 - me].sequence.received());
      ends_[me].sequence.ForEachKept(
          [&](const std::shared_ptr<const ToyFrame>& frame) { ends_[me].outgoing.push_back(frame); });
    }
  }

  void CheckKept() {
    for (const End& end : ends_) {
      size_t bytes = 0;
      for (uint64_t number = end.told; number < end.sent; ++number) bytes += end.bytes[number];
      ASSERT_EQ(end.sequence.kept_bytes(), bytes);
    }
  }

  std::mt19937 random_;
  End ends_[2];
};

void RunOnce(uint32_t seed) {
  SCOPED_TRACE(absl::StrCat("replay: MUSTER_TEST_SEED=", seed, " channel_sequence_property_test"));
  Session(seed).Run(500);
}

TEST(Sequence, LosesDoublesAndReordersNothing) {
  if (const char* replay = std::getenv("MUSTER_TEST_SEED")) {
    return RunOnce(static_cast<uint32_t>(std::strtoul(replay, nullptr, 10)));
  }
  for (uint32_t seed = 1; seed <= 500 && !HasFailure(); ++seed) RunOnce(seed);
}

TEST(Sequence, KnowsAGapAndAnAcknowledgementOfWhatWasNeverSent) {
  ToySequence sequence;
  EXPECT_EQ(sequence.Take(2), ToySequence::Taken::kGap);
  EXPECT_EQ(sequence.Take(1), ToySequence::Taken::kNew);
  EXPECT_EQ(sequence.Take(1), ToySequence::Taken::kRepeated);
  EXPECT_EQ(sequence.received(), 1u);
  EXPECT_EQ(sequence.Acknowledge(1).code(), absl::StatusCode::kInvalidArgument);
  sequence.Send({}, 10);
  EXPECT_EQ(sequence.kept_bytes(), 10u);
  EXPECT_TRUE(sequence.Acknowledge(1).ok());
  EXPECT_TRUE(sequence.Acknowledge(0).ok()) << "an old acknowledgement, of a frame that was sent again";
  EXPECT_TRUE(sequence.all_acknowledged());
}

}  // namespace
}  // namespace muster

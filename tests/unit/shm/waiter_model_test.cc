// The waiting protocol of runtime/shm/waiter.h as a small model, all of whose interleavings are visited: no rank sleeps while
// what it waits for has happened, and each step of the protocol is needed.
//
// The model has one memory access a step. Sleeping has no time-out here: what only the 100 ms look would find is a lost
// wake-up. A relaxed publication is a store that stays in its rank's store buffer until some later step (total store order).
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace muster {
namespace {

enum class Weakening {
  kNone,
  kRelaxedPublish,        // the publication may become visible after the look at `asleep`
  kAsleepReadTooEarly,    // whom to wake is read before publishing
  kNoLookAfterAsleep,     // sleep without looking once more
  kLookBeforeAsleep,      // the last look comes before `asleep` is set
  kDoorbellReadTooLate,   // the doorbell's value is taken after the last look
  kNoBump,                // FUTEX_WAKE without changing the doorbell
  kAbortAfterDoorbells,   // the agent rings first and sets the word afterwards
  kAbortWithoutDoorbells  // the agent sets the word only
};

constexpr int kRanks = 3;

enum Pc : uint8_t {
  kReadAsleepEarly,
  kPublish,
  kFirstLook,
  kReadDoorbell,
  kSetAsleep,
  kLook,
  kLookAtAbort,
  kFutexWait,
  kBlocked,
  kClearAsleep,
  kLookAwake,
  kLookAtAbortAwake,
  kWakeRead,
  kWakeBump,
  kWakeFutex,
  kDone,
};

struct Rank {
  Pc pc = kPublish;
  uint8_t index = 0;      // of the loop a step belongs to
  uint8_t doorbell = 0;   // the value read
  bool buffered = false;  // a publication in the store buffer
  bool published = false;
  bool asleep = false;
  uint8_t bell = 0;
  std::array<bool, kRanks> to_wake = {};
  auto operator<=>(const Rank&) const = default;
};

struct State {
  std::array<Rank, kRanks> ranks;
  bool abort = false;
  uint8_t aborter = 0;  // steps done
  auto operator<=>(const State&) const = default;
};

class Model {
 public:
  // Rank 0 never publishes if `dead`; an aborter runs if `aborts`.
  Model(Weakening weakening, bool dead, bool aborts) : weakening_(weakening), dead_(dead), aborts_(aborts) {}

  // Visits every reachable state. Returns how many there are, or -1 if some rank can sleep for ever.
  int64_t Explore() {
    State start;
    for (Rank& rank : start.ranks) rank.pc = weakening_ == Weakening::kAsleepReadTooEarly ? kReadAsleepEarly : kPublish;
    if (dead_) start.ranks[0].pc = kDone;
    std::set<State> seen = {start};
    std::vector<State> open = {start};
    while (!open.empty()) {
      const State state = open.back();
      open.pop_back();
      std::vector<State> next = Successors(state);
      if (next.empty()) {
        for (const Rank& rank : state.ranks) {
          if (rank.pc != kDone) return -1;
        }
      }
      for (State& s : next) {
        if (seen.insert(s).second) open.push_back(s);
      }
    }
    return static_cast<int64_t>(seen.size());
  }

 private:
  std::vector<State> Successors(const State& state) const {
    std::vector<State> next;
    for (int r = 0; r < kRanks; ++r) {
      const Rank& rank = state.ranks[static_cast<size_t>(r)];
      if (rank.buffered) {
        State s = state;
        Drain(s.ranks[static_cast<size_t>(r)]);
        next.push_back(s);
      }
      if (rank.pc == kDone || rank.pc == kBlocked) continue;
      State s = state;
      Step(s, static_cast<size_t>(r));
      next.push_back(s);
    }
    const int last = weakening_ == Weakening::kAbortWithoutDoorbells ? 1 : 1 + 2 * kRanks;
    if (aborts_ && state.aborter < last) {
      State s = state;
      AbortStep(s);
      next.push_back(s);
    }
    return next;
  }

  static void Drain(Rank& rank) {
    rank.published |= rank.buffered;
    rank.buffered = false;
  }

  static void Wake(Rank& rank) {
    if (rank.pc == kBlocked) rank.pc = kClearAsleep;
  }

  void AbortStep(State& s) const {
    int step = s.aborter++;
    if (weakening_ == Weakening::kAbortAfterDoorbells) step = step == 2 * kRanks ? 0 : step + 1;
    if (step == 0) {
      s.abort = true;
      return;
    }
    Rank& rank = s.ranks[static_cast<size_t>((step - 1) / 2)];
    if (step % 2 == 1) {
      ++rank.bell;
    } else {
      Wake(rank);
    }
  }

  // One step of a look at the condition: one flag. Goes on to `held` or `missing` at its end.
  static void LookStep(const State& s, size_t r, Rank& rank, Pc held, Pc missing) {
    const Rank& peer = s.ranks[rank.index];
    const bool visible = peer.published || (rank.index == r && rank.buffered);
    if (!visible) {
      rank.index = 0;
      rank.pc = missing;
    } else if (++rank.index == kRanks) {
      rank.index = 0;
      rank.pc = held;
    }
  }

  void NextToWake(Rank& rank) const {
    if (++rank.index < kRanks) {
      rank.pc = kWakeRead;
    } else {
      rank.index = 0;
      rank.pc = kDone;
    }
  }

  void Step(State& s, size_t r) const {
    Rank& rank = s.ranks[r];
    switch (rank.pc) {
      case kReadAsleepEarly:
        rank.to_wake[rank.index] = s.ranks[rank.index].asleep;
        if (++rank.index == kRanks) {
          rank.index = 0;
          rank.pc = kPublish;
        }
        break;
      case kPublish:
        (weakening_ == Weakening::kRelaxedPublish ? rank.buffered : rank.published) = true;
        rank.pc = kFirstLook;
        break;
      case kFirstLook:
        LookStep(s, r, rank, kWakeRead, kReadDoorbell);
        break;
      case kReadDoorbell:
        rank.doorbell = rank.bell;
        rank.pc = weakening_ == Weakening::kLookBeforeAsleep      ? kLook
                  : weakening_ == Weakening::kDoorbellReadTooLate ? kFutexWait
                                                                  : kSetAsleep;
        if (weakening_ == Weakening::kDoorbellReadTooLate && !rank.asleep) rank.pc = kSetAsleep;
        break;
      case kSetAsleep:
        Drain(rank);  // an exchange empties the store buffer
        rank.asleep = true;
        rank.pc =
            weakening_ == Weakening::kNoLookAfterAsleep || weakening_ == Weakening::kLookBeforeAsleep ? kFutexWait : kLook;
        break;
      case kLook:
        LookStep(s, r, rank, kClearAsleep, kLookAtAbort);
        break;
      case kLookAtAbort:
        rank.pc = s.abort                                         ? kClearAsleep
                  : weakening_ == Weakening::kLookBeforeAsleep    ? kSetAsleep
                  : weakening_ == Weakening::kDoorbellReadTooLate ? kReadDoorbell
                                                                  : kFutexWait;
        break;
      case kFutexWait:
        rank.pc = rank.bell == rank.doorbell ? kBlocked : kClearAsleep;
        break;
      case kClearAsleep:
        Drain(rank);
        rank.asleep = false;
        rank.pc = kLookAwake;
        break;
      case kLookAwake:
        LookStep(s, r, rank, kDone, kLookAtAbortAwake);
        break;
      case kLookAtAbortAwake:
        rank.pc = s.abort ? kDone : kReadDoorbell;
        break;
      case kWakeRead: {
        const bool asleep =
            weakening_ == Weakening::kAsleepReadTooEarly ? rank.to_wake[rank.index] : s.ranks[rank.index].asleep;
        if (rank.index == r || !asleep) {
          NextToWake(rank);
        } else {
          rank.pc = weakening_ == Weakening::kNoBump ? kWakeFutex : kWakeBump;
        }
        break;
      }
      case kWakeBump:
        Drain(rank);
        ++s.ranks[rank.index].bell;
        rank.pc = kWakeFutex;
        break;
      case kWakeFutex:
        Wake(s.ranks[rank.index]);
        NextToWake(rank);
        break;
      case kBlocked:
      case kDone:
        break;
    }
  }

  const Weakening weakening_;
  const bool dead_;
  const bool aborts_;
};

TEST(WaiterModel, NoWakeUpIsLostWhenAllPublish) { EXPECT_GT(Model(Weakening::kNone, false, false).Explore(), 1000); }

TEST(WaiterModel, NoWakeUpIsLostWhenAnAbortRacesWithPublications) {
  EXPECT_GT(Model(Weakening::kNone, false, true).Explore(), 1000);
}

TEST(WaiterModel, AnAbortWakesEverybodyWhenARankIsDead) { EXPECT_GT(Model(Weakening::kNone, true, true).Explore(), 1000); }

TEST(WaiterModel, WithoutAnAbortADeadRanksPeersSleepForEver) { EXPECT_EQ(Model(Weakening::kNone, true, false).Explore(), -1); }

TEST(WaiterModel, EveryStepOfTheProtocolIsNeeded) {
  for (Weakening weakening : {Weakening::kRelaxedPublish, Weakening::kAsleepReadTooEarly, Weakening::kNoLookAfterAsleep,
                              Weakening::kLookBeforeAsleep, Weakening::kDoorbellReadTooLate, Weakening::kNoBump}) {
    EXPECT_EQ(Model(weakening, false, false).Explore(), -1) << "weakening " << static_cast<int>(weakening);
  }
}

TEST(WaiterModel, EveryStepOfTheAbortIsNeeded) {
  for (Weakening weakening :
       {Weakening::kNoLookAfterAsleep, Weakening::kAbortAfterDoorbells, Weakening::kAbortWithoutDoorbells}) {
    EXPECT_EQ(Model(weakening, true, true).Explore(), -1) << "weakening " << static_cast<int>(weakening);
  }
}

}  // namespace
}  // namespace muster

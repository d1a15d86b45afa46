// Whole jobs on virtual time, from many seeds: I1 to I6 and I8 hold, every verdict and every restart names something that really
// broke, restarts keep to their bound, and a job goes well in the end where restarts are left and nodes come back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <iostream>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/simulator/simulation.h"

namespace muster {
namespace {

using FaultKind = SimulatedFault::Kind;
using ::testing::HasSubstr;

// MUSTER_TEST_SEED replays one seed and prints its trace; MUSTER_TEST_SEEDS tries more of them.
const char* GivenSeed() { return getenv("MUSTER_TEST_SEED"); }
uint64_t Seeds() { return getenv("MUSTER_TEST_SEEDS") != nullptr ? strtoull(getenv("MUSTER_TEST_SEEDS"), nullptr, 10) : 5000; }

std::string Replay(const SimulationPlan& plan, const SimulationResult& result) {
  return absl::StrCat(Describe(plan), "\n  ", absl::StrJoin(result.violations, "\n  "),
                      "\nreplay: MUSTER_TEST_SEED=", plan.seed,
                      " simulator_test --gtest_filter=Simulator.InvariantsHoldFromManySeeds");
}

bool HasViolation(const SimulationResult& result, absl::string_view name) {
  for (const std::string& violation : result.violations) {
    if (absl::StartsWith(violation, name)) return true;
  }
  return false;
}

TEST(Simulator, InvariantsHoldFromManySeeds) {
  const uint64_t first = GivenSeed() != nullptr ? strtoull(GivenSeed(), nullptr, 10) : 1;
  const uint64_t last = GivenSeed() != nullptr ? first : Seeds();
  std::map<int, int> verdicts;
  uint64_t events = 0;
  int restarted = 0;
  int saved = 0;  // jobs that went well after a restart
  int failures = 0;
  for (uint64_t seed = first; seed <= last && failures < 5; ++seed) {
    const SimulationPlan plan = DrawPlan(seed);
    const SimulationResult result = Simulate(plan);
    if (GivenSeed() != nullptr) std::cout << result.trace;
    EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
    failures += result.violations.empty() ? 0 : 1;
    ++verdicts[result.judgement ? result.judgement->verdict.exit_code() : -1];
    events += result.events;
    restarted += result.incarnations > 1;
    saved += result.restarts > 0 && result.judgement && result.judgement->verdict.exit_code() == 0;
  }
  std::cout << events << " events; coordinator restarted in " << restarted << " jobs; " << saved
            << " jobs saved by restarts; exit codes:";
  for (const auto& [code, count] : verdicts) std::cout << " " << code << " x " << count;
  std::cout << "\n";
  if (GivenSeed() != nullptr) return;
  // The seeds reach what they are meant to reach.
  for (const int code : {0, 69, 70, 126, 127, 130, 137, 139}) EXPECT_GT(verdicts[code], 0) << "no job ended with " << code;
  EXPECT_GT(restarted, 100);
  EXPECT_GT(saved, 300);
}

TEST(Simulator, EqualPlansGiveEqualTraces) {
  for (uint64_t seed = 1; seed <= 20; ++seed) EXPECT_EQ(Simulate(DrawPlan(seed)).trace, Simulate(DrawPlan(seed)).trace);
}

// A job in which nothing breaks.
SimulationPlan Healthy() {
  SimulationPlan plan;
  plan.seed = 7;
  plan.nodes = 2;
  plan.slots = 2;
  plan.workers = 4;
  plan.steps = 20;
  return plan;
}

TEST(Simulator, AHealthyJobEndsWellAndSoon) {
  const SimulationResult result = Simulate(Healthy());
  EXPECT_TRUE(result.violations.empty()) << Replay(Healthy(), result);
  ASSERT_TRUE(result.judgement);
  EXPECT_EQ(result.judgement->verdict.exit_code(), 0);
  EXPECT_EQ(result.judgement->verdict.committed_step(), 18);
  EXPECT_LT(result.ended_at, absl::Seconds(1));
}

TEST(Simulator, AKilledWorkerIsNamedWithinASecond) {
  SimulationPlan plan = Healthy();
  plan.stubborn = 1;  // the others ignore SIGTERM
  plan.faults.push_back({FaultKind::kKillWorker, 2, 9, absl::Milliseconds(100)});
  const SimulationResult result = Simulate(plan);
  EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
  ASSERT_TRUE(result.judgement);
  EXPECT_EQ(result.judgement->verdict.exit_code(), 137);
  EXPECT_THAT(result.judgement->verdict.sentence(), HasSubstr("rank 2 on host node-1 was killed by signal 9 (SIGKILL)"));
  EXPECT_THAT(result.judgement->verdict.sentence(), HasSubstr("3 other ranks ended because of it"));
  EXPECT_LT(result.ended_at, absl::Milliseconds(1100));
}

TEST(Simulator, WithoutACoordinatorEveryProcessEnds) {
  SimulationPlan plan = Healthy();
  plan.steps = 100000;
  plan.strays = 1;
  plan.faults.push_back({FaultKind::kLoseCoordinator, 0, 0, absl::Milliseconds(100)});
  const SimulationResult result = Simulate(plan);
  EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
  EXPECT_FALSE(result.judgement);
}

// --- Restarts ---

SimulationPlan Restartable() {
  SimulationPlan plan = Healthy();
  plan.max_restarts = 3;
  plan.starter = true;
  plan.last_call = absl::Seconds(30);
  return plan;
}

TEST(Simulator, AKilledWorkerIsRestartedWithTheOthers) {
  SimulationPlan plan = Restartable();
  plan.checkpoint_every = 4;
  plan.faults.push_back({FaultKind::kKillWorker, 2, 9, absl::Milliseconds(100)});
  const SimulationResult result = Simulate(plan);
  EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
  ASSERT_TRUE(result.judgement);
  EXPECT_EQ(result.judgement->verdict.exit_code(), 0);
  EXPECT_EQ(result.judgement->verdict.committed_step(), 18);
  EXPECT_EQ(result.restarts, 1u);
  EXPECT_LT(result.ended_at, absl::Seconds(2));
}

TEST(Simulator, AProgramWithoutLibmusterIsRestartedToo) {
  SimulationPlan plan = Restartable();
  plan.linked = false;
  plan.faults.push_back({FaultKind::kExitWorker, 1, 7, absl::Milliseconds(80)});
  const SimulationResult result = Simulate(plan);
  EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
  EXPECT_EQ(result.restarts, 1u);
  EXPECT_EQ(result.judgement->verdict.exit_code(), 0);
}

TEST(Simulator, AnAgentAGuardAndANodeComeBack) {
  for (const FaultKind kind : {FaultKind::kKillAgent, FaultKind::kKillGuard, FaultKind::kKillNode}) {
    SimulationPlan plan = Restartable();
    plan.faults.push_back({kind, 1, 0, absl::Milliseconds(100)});
    const SimulationResult result = Simulate(plan);
    EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
    EXPECT_EQ(result.restarts, 1u) << Describe(plan);
    EXPECT_EQ(result.judgement->verdict.exit_code(), 0) << Describe(plan);
  }
}

TEST(Simulator, ANodeThatDoesNotComeBackIsGoneWithoutAfterTheLastCall) {
  SimulationPlan plan = Restartable();
  plan.starter = false;
  plan.workers_min = 2;
  plan.last_call = absl::Seconds(5);
  plan.faults.push_back({FaultKind::kKillNode, 1, 0, absl::Milliseconds(100)});
  const SimulationResult result = Simulate(plan);
  EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
  EXPECT_EQ(result.restarts, 1u);
  EXPECT_EQ(result.judgement->verdict.exit_code(), 0);
  EXPECT_GT(result.ended_at, absl::Seconds(5));

  plan.workers_min = 3;
  const SimulationResult too_few = Simulate(plan);
  EXPECT_TRUE(too_few.violations.empty()) << Replay(plan, too_few);
  EXPECT_EQ(too_few.judgement->verdict.exit_code(), 69);
  EXPECT_THAT(too_few.judgement->verdict.sentence(), HasSubstr("these hosts are missing: node-1"));
}

TEST(Simulator, ASpareTakesThePlaceOfANodeThatDoesNotComeBack) {
  SimulationPlan plan = Restartable();
  plan.starter = false;
  plan.steps = 200;
  plan.faults.push_back({FaultKind::kKillAgent, 0, 0, absl::Milliseconds(100)});
  const SimulationResult without = Simulate(plan);
  EXPECT_EQ(without.judgement->verdict.exit_code(), 69);
  EXPECT_GT(without.ended_at, plan.last_call);

  plan.nodes = 3;
  plan.spares = 1;
  const SimulationResult result = Simulate(plan);
  EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
  EXPECT_EQ(result.restarts, 1u);
  EXPECT_EQ(result.judgement->verdict.exit_code(), 0);
  EXPECT_LT(result.ended_at, absl::Seconds(10)) << "it waited for the last call";

  // A spare that goes is missed by nobody.
  plan.faults = {{FaultKind::kKillNode, 2, 0, absl::Milliseconds(100)}};
  const SimulationResult unneeded = Simulate(plan);
  EXPECT_TRUE(unneeded.violations.empty()) << Replay(plan, unneeded);
  EXPECT_EQ(unneeded.restarts, 0u);
  EXPECT_EQ(unneeded.judgement->verdict.exit_code(), 0);
}

TEST(Simulator, ACutStreamCostsNothingWhileStepsAreCommitted) {
  SimulationPlan plan = Restartable();
  plan.steps = 4000;
  plan.faults.push_back({FaultKind::kCutNode, 1, 8000, absl::Milliseconds(100)});
  const SimulationResult result = Simulate(plan);
  EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
  EXPECT_EQ(result.restarts, 0u);
  EXPECT_EQ(result.judgement->verdict.exit_code(), 0);
}

TEST(Simulator, RestartsThatAreUsedUpEndTheJobWithTheLastCause) {
  SimulationPlan plan = Restartable();
  plan.max_restarts = 2;
  plan.steps = 100000;
  for (int i = 1; i <= 3; ++i) plan.faults.push_back({FaultKind::kExitWorker, 2, 40 + i, absl::Seconds(i)});
  const SimulationResult result = Simulate(plan);
  EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
  EXPECT_EQ(result.judgement->verdict.exit_code(), 43);
  EXPECT_THAT(result.judgement->verdict.sentence(),
              HasSubstr("the job had been restarted 2 times, and --max-restarts 2 allows no more"));
}

TEST(Simulator, ANewCheckpointGivesTheRestartsBack) {
  SimulationPlan plan = Restartable();
  plan.max_restarts = 1;
  plan.steps = 2000;
  plan.checkpoint_every = 10;
  for (int i = 1; i <= 4; ++i) plan.faults.push_back({FaultKind::kExitWorker, 2, 40 + i, absl::Seconds(i)});
  const SimulationResult result = Simulate(plan);
  EXPECT_TRUE(result.violations.empty()) << Replay(plan, result);
  EXPECT_EQ(result.restarts, 4u);
  EXPECT_EQ(result.judgement->verdict.exit_code(), 0);
}

// --- The checkers can fail: each planted bug is found ---

int SeedsThatShow(void (*plant)(SimulationPlan&), absl::string_view invariant) {
  int found = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SimulationPlan plan = DrawPlan(seed);
    plant(plan);
    found += HasViolation(Simulate(plan), invariant) ? 1 : 0;
  }
  return found;
}

TEST(PlantedBug, AnnouncingBeforeTheRecordIsDurableBreaksI1) {
  EXPECT_GT(SeedsThatShow([](SimulationPlan& plan) { plan.planted_announce_early = true; }, "I1: Prepare of generation"), 100);
  // And, where a coordinator is killed in that moment, two of them announce the same generation.
  const auto kill_at_start = [](SimulationPlan& plan) {
    plan.planted_announce_early = true;
    plan.faults.push_back({FaultKind::kKillCoordinator, 0, 0, absl::Milliseconds(25 + static_cast<int>(plan.seed % 20))});
  };
  int found = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SimulationPlan plan = DrawPlan(seed);
    kill_at_start(plan);
    for (const std::string& violation : Simulate(plan).violations)
      found += absl::StrContains(violation, "was announced by incarnations");
  }
  EXPECT_GT(found, 0);
}

TEST(PlantedBug, SuccessAfterAnAbortBreaksI2) {
  EXPECT_GT(SeedsThatShow([](SimulationPlan& plan) { plan.planted_false_success = true; }, "I2"), 10);
}

TEST(PlantedBug, SayingClearedTooEarlyBreaksI8) {
  EXPECT_GT(SeedsThatShow([](SimulationPlan& plan) { plan.planted_cleared_early = true; }, "I8: agent"), 10);
}

TEST(PlantedBug, AnOrderThatIsForgottenAfterARestartIsFound) {
  const auto plant = [](SimulationPlan& plan) { plan.ordered = plan.planted_forget_order = true; };
  EXPECT_GT(SeedsThatShow(plant, "order: the nodes"), 10);
}

TEST(PlantedBug, TakingANumberTwiceBreaksI1) {
  EXPECT_GT(SeedsThatShow([](SimulationPlan& plan) { plan.planted_reuse_number = true; }, "I1: the number"), 10);
}

// Late news of processes that are dead makes their successors fail for no reason.
TEST(PlantedBug, EvidenceThatLeaksIntoTheNextGenerationIsFound) {
  int found = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SimulationPlan plan = Restartable();
    plan.seed = seed;
    plan.steps = 100000;
    plan.faults.push_back({FaultKind::kKillWorker, 2, 9, absl::Milliseconds(100)});
    plan.faults.push_back({FaultKind::kStop, 0, 0, absl::Seconds(3)});
    const SimulationResult sound = Simulate(plan);
    EXPECT_TRUE(sound.violations.empty()) << Replay(plan, sound);
    plan.planted_ignore_spawn = true;
    found += HasViolation(Simulate(plan), "verdict: generation 2") ? 1 : 0;
  }
  EXPECT_GT(found, 10);
}

TEST(PlantedBug, SayingStoppedTooEarlyBreaksI8) {
  EXPECT_GT(SeedsThatShow([](SimulationPlan& plan) { plan.planted_stopped_early = true; }, "I8"), 10);
}

}  // namespace
}  // namespace muster

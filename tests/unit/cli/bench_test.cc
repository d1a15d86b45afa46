#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/cli/bench_arguments.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Bench, RanksGoToTheLauncherTheRestToTheWorker) {
  const auto words = BenchAsRun({"allreduce", "-b", "8", "-np", "4", "-n", "100"}, "/opt/worker");
  ASSERT_TRUE(words.ok());
  EXPECT_THAT(*words,
              ElementsAre("-x", "OMP_NUM_THREADS=1", "-np", "4", "--", "/opt/worker", "allreduce", "-b", "8", "-n", "100"));
}

TEST(Bench, WithoutRanksTheLauncherChooses) {
  EXPECT_THAT(*BenchAsRun({"allreduce"}, "w"), ElementsAre("-x", "OMP_NUM_THREADS=1", "--", "w", "allreduce"));
}

TEST(Bench, HelpIsPrintedOnce) {
  EXPECT_THAT(*BenchAsRun({"allreduce", "-np", "4", "--help"}, "w"), ElementsAre("-np", "1", "--", "w", "allreduce", "--help"));
}

TEST(Bench, ErrorsSayWhatToWrite) {
  EXPECT_THAT(std::string(BenchAsRun({}, "w").status().message()), HasSubstr("muster bench allreduce -np 2"));
  EXPECT_THAT(std::string(BenchAsRun({"broadcast"}, "w").status().message()), HasSubstr("no benchmark broadcast"));
  EXPECT_THAT(std::string(BenchAsRun({"allreduce", "-np"}, "w").status().message()), HasSubstr("-np needs"));
}

}  // namespace
}  // namespace muster

// The variables that Slurm sets in an allocation.
#include "launcher/hosts/slurm_allocation.h"

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

VariableOf In(std::map<std::string, std::string> environment) {
  return [environment](const char* name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    return found == environment.end() ? std::nullopt : std::optional(found->second);
  };
}

std::string ErrorOf(std::map<std::string, std::string> environment) {
  const auto found = FindSlurmAllocation(In(std::move(environment)));
  return found.ok() ? "no error" : std::string(found.status().message());
}

TEST(SlurmCounts, RepeatWhatStandsForSeveralNodes) {
  EXPECT_THAT(*ParseSlurmCounts("4"), ElementsAre(4));
  EXPECT_THAT(*ParseSlurmCounts("2(x3),1"), ElementsAre(2, 2, 2, 1));
  EXPECT_THAT(*ParseSlurmCounts("72,36(x2),1(x1)"), ElementsAre(72, 36, 36, 1));
  EXPECT_EQ(ParseSlurmCounts("1(x10000)")->size(), 10'000u);
  for (const char* wrong : {"", ",", "2,", "x", "2(3)", "2(x", "2(x3", "2x3)", "0", "-1", "2(x0)", "2(x-1)", "1(x10001)", "1(x10000),1",
                            "2(x99999999999999999999)", "99999999999999999999"}) {
    EXPECT_FALSE(ParseSlurmCounts(wrong).ok()) << wrong;
  }
}

TEST(SlurmNodeList, CommasInBracketsDoNotSeparate) {
  EXPECT_THAT(*ParseSlurmNodeList("node[01-03,07]"), ElementsAre("node01", "node02", "node03", "node07"));
  EXPECT_THAT(*ParseSlurmNodeList("a,b[1,3],c"), ElementsAre("a", "b1", "b3", "c"));
  EXPECT_THAT(*ParseSlurmNodeList("rack[1-2]-node[1,3]"), ElementsAre("rack1-node1", "rack1-node3", "rack2-node1", "rack2-node3"));
  for (const char* wrong : {"", "a,", "a,,b", "node[1-", "node]1[", "me@node1", "node1:2", "node[1-10000],b"}) {
    EXPECT_FALSE(ParseSlurmNodeList(wrong).ok()) << wrong;
  }
}

TEST(SlurmAllocation, HasASlotForEachTask) {
  const auto hosts = FindSlurmAllocation(In({{"SLURM_JOB_ID", "7"},
                                             {"SLURM_JOB_NODELIST", "node[1-3]"},
                                             {"SLURM_TASKS_PER_NODE", "2(x2),1"},
                                             {"SLURM_JOB_CPUS_PER_NODE", "8(x3)"}}));
  ASSERT_TRUE(hosts.ok()) << hosts.status();
  ASSERT_EQ(hosts->size(), 3u);
  EXPECT_EQ((*hosts)[0].name, "node1");
  EXPECT_EQ((*hosts)[0].slots, 2);
  EXPECT_TRUE((*hosts)[0].slots_given);
  EXPECT_EQ((*hosts)[2].name, "node3");
  EXPECT_EQ((*hosts)[2].slots, 1);
}

TEST(SlurmAllocation, HasASlotForEachCoreElse) {
  const auto hosts = FindSlurmAllocation(
      In({{"SLURM_JOB_ID", "7"}, {"SLURM_JOB_NODELIST", "a,b"}, {"SLURM_JOB_CPUS_PER_NODE", "8,4"}}));
  ASSERT_TRUE(hosts.ok()) << hosts.status();
  EXPECT_EQ((*hosts)[1].slots, 4);
  const auto unknown = FindSlurmAllocation(In({{"SLURM_JOB_ID", "7"}, {"SLURM_JOB_NODELIST", "a"}}));
  ASSERT_TRUE(unknown.ok()) << unknown.status();
  EXPECT_FALSE((*unknown)[0].slots_given);
}

TEST(SlurmAllocation, IsEmptyOutside) {
  EXPECT_TRUE(FindSlurmAllocation(In({}))->empty());
  EXPECT_TRUE(FindSlurmAllocation(In({{"SLURM_JOB_ID", "7"}, {"SLURM_TASKS_PER_NODE", "2"}}))->empty());
  EXPECT_TRUE(FindSlurmAllocation(In({{"SLURM_JOB_NODELIST", "a"}}))->empty());
}

TEST(SlurmAllocation, NamesTheVariableThatDoesNotFit) {
  EXPECT_THAT(ErrorOf({{"SLURM_JOB_ID", "7"}, {"SLURM_JOB_NODELIST", "node[1-"}}), HasSubstr("SLURM_JOB_NODELIST=node[1-"));
  EXPECT_THAT(ErrorOf({{"SLURM_JOB_ID", "7"}, {"SLURM_JOB_NODELIST", "a,b"}, {"SLURM_TASKS_PER_NODE", "2(x3)"}}),
              ::testing::AllOf(HasSubstr("SLURM_TASKS_PER_NODE=2(x3)"), HasSubstr("counts 3 nodes"), HasSubstr("names 2")));
}

TEST(SlurmAllocation, RefusesToStartTheJobOnceForEachTask) {
  std::map<std::string, std::string> step = {{"SLURM_JOB_ID", "7"},
                                             {"SLURM_JOB_NODELIST", "a,b"},
                                             {"SLURM_TASKS_PER_NODE", "2(x2)"},
                                             {"SLURM_STEP_ID", "0"},
                                             {"SLURM_STEP_NUM_TASKS", "4"}};
  EXPECT_THAT(ErrorOf(step), HasSubstr("4 times"));
  step["SLURM_STEP_NUM_TASKS"] = "1";
  EXPECT_EQ(ErrorOf(step), "no error");
}

}  // namespace
}  // namespace muster

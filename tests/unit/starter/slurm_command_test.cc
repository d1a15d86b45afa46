// What srun is told, and what its words mean for a person.
#include "launcher/starter/slurm_command.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(SrunWords, StartOneTaskOnEachNodeBesideOtherSteps) {
  const std::vector<std::string> words = SrunWords("/usr/bin/srun", {"node1", "node7"});
  EXPECT_EQ(words[0], "env");
  const auto srun = std::find(words.begin(), words.end(), "/usr/bin/srun");
  ASSERT_NE(srun, words.end());
  const std::vector<std::string> options(srun, words.end());
  for (const char* option : {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--nodelist=node1,node7", "--overlap", "--kill-on-bad-exit=0",
                             "--mpi=none", "--cpu-bind=none", "--input=all"}) {
    EXPECT_THAT(options, Contains(option));
  }
  // Who the user is, and no more.
  EXPECT_THAT(options, Contains("--export=HOME,USER,LOGNAME,SHELL,PATH=/usr/local/bin:/usr/bin:/bin"));
}

TEST(SrunWords, TakeAwayWhatWouldChangeTheStep) {
  const std::vector<std::string> words = SrunWords("srun", {"a"});
  for (const char* variable : {"SLURM_EXACT", "SLURM_EXCLUSIVE", "SRUN_CPUS_PER_TASK", "SLURM_HOSTFILE", "SLURM_MULTI_PROG"}) {
    const auto found = std::find(words.begin(), words.end(), variable);
    ASSERT_NE(found, words.end()) << variable;
    EXPECT_EQ(*(found - 1), "-u");
  }
  // Which job it is must stay.
  EXPECT_THAT(words, Not(Contains("SLURM_JOB_ID")));
  EXPECT_THAT(words, Not(Contains("SLURM_CONF")));
}

TEST(SrunWords, AreTheSameForEveryJob) {
  EXPECT_EQ(SlurmFirstLines("", "/opt/muster/bin/muster"), "\n/opt/muster/bin/muster\n");
  EXPECT_EQ(SlurmFirstLines("/a b", "/c\nd"), "/a b\n\n");
  EXPECT_THAT(absl::StrJoin(SrunWords("srun", {"a"}), " "), Not(HasSubstr("/opt/muster")));
}

TEST(DescribeSrun, NamesTheNodesAndTheRemedy) {
  const SlurmFailure over = DescribeSrun(
      "node1", "srun: error: Unable to confirm allocation for job 5: Invalid job id specified\nsrun: Check SLURM_JOB_ID environment variable.\n",
      "exited with 1");
  EXPECT_TRUE(over.is_final);
  EXPECT_THAT(over.sentence, AllOf(HasSubstr("the allocation of Slurm has ended"), HasSubstr("node1"), HasSubstr("salloc or sbatch")));

  const SlurmFailure down = DescribeSrun(
      "node2 and node3", "srun: error: Task launch for StepId=5.0 failed on node node3: Communication connection failure\n"
      "srun: error: Application launch failed: Communication connection failure\n", "exited with 1");
  EXPECT_FALSE(down.is_final);
  EXPECT_THAT(down.sentence, AllOf(HasSubstr("node2 and node3"), HasSubstr("does not answer"), HasSubstr("sinfo -R")));

  const SlurmFailure old = DescribeSrun("a", "srun: unrecognized option '--overlap'\nTry \"srun --help\" for more information\n", "exited with 1");
  EXPECT_TRUE(old.is_final);
  EXPECT_THAT(old.sentence, HasSubstr("20.11"));
}

TEST(DescribeSrun, PassesOnWhatItDoesNotKnow) {
  const SlurmFailure unknown = DescribeSrun("a", "srun: error: something \x1b[31mnew\nsrun: more\n", "exited with 3");
  EXPECT_FALSE(unknown.is_final);
  EXPECT_THAT(unknown.sentence, AllOf(HasSubstr("srun for a exited with 3"), HasSubstr("something  [31mnew"), Not(HasSubstr("\x1b"))));
  EXPECT_THAT(DescribeSrun("a", "", "killed by SIGKILL").sentence, HasSubstr("srun for a was killed by SIGKILL;"));
}

TEST(NamesShown, AreAFewOfMany) {
  EXPECT_EQ(NamesShown({"a"}), "a");
  EXPECT_EQ(NamesShown({"a", "b", "c", "d"}), "a, b, c, d");
  EXPECT_EQ(NamesShown({"a", "b", "c", "d", "e", "f"}), "a, b, c, d and 2 more");
}

}  // namespace
}  // namespace muster

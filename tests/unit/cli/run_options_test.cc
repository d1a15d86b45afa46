#include "launcher/cli/run_options.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<RunOptions> Parse(const std::vector<std::string>& arguments) {
  bool help_wanted = false;
  return ParseRunOptions(arguments, &help_wanted);
}

std::string ErrorOf(const std::vector<std::string>& arguments) { return std::string(Parse(arguments).status().message()); }

TEST(RunOptions, TakesACommandLineOfMpirun) {
  const auto options = Parse({"--oversubscribe", "-np", "4", "-x", "SEED=7", "-x", "HOME", "-wdir", "/tmp", "--timeout", "9",
                              "--tag-output", "--report", "r.json", "train", "--lr", "0.1"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->workers, 4);
  EXPECT_THAT(options->environment, ElementsAre("SEED=7", "HOME"));
  EXPECT_EQ(options->working_directory, "/tmp");
  EXPECT_EQ(options->timeout_seconds, 9);
  EXPECT_TRUE(options->tag_output);
  EXPECT_EQ(options->report_file, "r.json");
  EXPECT_THAT(options->command, ElementsAre("train", "--lr", "0.1"));
}

TEST(RunOptions, LeavesTheNumberOfWorkersOpen) { EXPECT_EQ(Parse({"train"})->workers, 0); }

TEST(RunOptions, RefusesWhatIsMissingOrNotThereYet) {
  EXPECT_THAT(ErrorOf({}), HasSubstr("no program given"));
  EXPECT_THAT(ErrorOf({"-np", "4"}), HasSubstr("no program given"));
  EXPECT_THAT(ErrorOf({"-np", "4", "--"}), HasSubstr("no program given"));
  EXPECT_THAT(ErrorOf({"--nodes", "2", "train"}), HasSubstr("--nodes is not in this version of muster."));
  EXPECT_THAT(ErrorOf({"--map-by", "core", "train"}), HasSubstr("--map-by is not in this version"));
  EXPECT_THAT(ErrorOf({"-x", "=1", "train"}), HasSubstr("-x =1"));
}

TEST(RunOptions, ColonSeparatesProgramsUnlessDashesPrecede) {
  EXPECT_THAT(ErrorOf({"-np", "1", "a", ":", "-np", "2", "b"}), HasSubstr("several programs"));
  const auto options = Parse({"-np", "1", "--", "a", ":", "b"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->command, ElementsAre("a", ":", "b"));
}

TEST(RunOptions, HelpIsAskedForBeforeTheProgramOnly) {
  bool help_wanted = false;
  ASSERT_TRUE(ParseRunOptions({"-np", "2", "--help"}, &help_wanted).ok());
  EXPECT_TRUE(help_wanted);
  ASSERT_TRUE(ParseRunOptions({"-np", "2", "train", "--help"}, &help_wanted).ok());
  EXPECT_FALSE(help_wanted);
}

}  // namespace
}  // namespace muster

#include "launcher/cli/flags.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

struct Targets {
  bool tag = false;
  int64_t workers = 0;
  double timeout = 0;
  std::string folder;
  std::vector<std::string> variables;
};

FlagSet Declare(Targets* targets) {
  FlagSet flags("muster test");
  flags.Count("-np -n --nproc-per-node", "N", &targets->workers, 1, 64, "workers");
  flags.Switch("--tag-output", &targets->tag, "tags");
  flags.Seconds("--timeout", "SECONDS", &targets->timeout, "time");
  flags.Text("-wdir", "FOLDER", &targets->folder, "folder");
  flags.Texts("-x", "NAME[=VALUE]", &targets->variables, "variable");
  flags.Ignored("--oversubscribe");
  flags.Ignored("--start-method", "KIND");
  flags.NotYet("--hostfile -H", "It starts all workers here.");
  flags.NotNeeded("--node-rank", "It knows.");
  return flags;
}

std::string ErrorOf(const std::vector<std::string>& arguments) {
  Targets targets;
  FlagSet flags = Declare(&targets);
  return std::string(flags.Parse(arguments).status().message());
}

TEST(FlagSet, AcceptsEverySpellingOfACount) {
  for (const std::vector<std::string>& spelling : std::vector<std::vector<std::string>>{{"-np", "4"},
                                                                                        {"--np", "4"},
                                                                                        {"-n", "4"},
                                                                                        {"-np=4"},
                                                                                        {"--np=4"},
                                                                                        {"-np4"},
                                                                                        {"-n4"},
                                                                                        {"--nproc-per-node", "4"},
                                                                                        {"--nproc_per_node=4"},
                                                                                        {"-nproc-per-node", "4"},
                                                                                        {"-np", "3", "-np", "4"}}) {
    Targets targets;
    FlagSet flags = Declare(&targets);
    std::vector<std::string> arguments = spelling;
    arguments.push_back("program");
    const auto rest = flags.Parse(arguments);
    ASSERT_TRUE(rest.ok()) << spelling[0] << ": " << rest.status();
    EXPECT_EQ(targets.workers, 4) << spelling[0];
    EXPECT_THAT(*rest, ElementsAre("program"));
  }
}

TEST(FlagSet, OptionsEndAtTheProgram) {
  Targets targets;
  FlagSet flags = Declare(&targets);
  const auto rest = flags.Parse({"-tag-output", "program", "-np", "9", "--tag-output", "--", "-h"});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_TRUE(targets.tag);
  EXPECT_EQ(targets.workers, 0);
  EXPECT_FALSE(flags.help_wanted());
  EXPECT_THAT(*rest, ElementsAre("program", "-np", "9", "--tag-output", "--", "-h"));
}

TEST(FlagSet, TwoDashesMayStandBeforeTheProgram) {
  Targets targets;
  FlagSet flags = Declare(&targets);
  const auto rest = flags.Parse({"-np", "2", "--", "-odd-name", "--", "x"});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_THAT(*rest, ElementsAre("-odd-name", "--", "x"));
}

TEST(FlagSet, ValuesMayLookLikeFlagsAndHoldEqualSigns) {
  Targets targets;
  FlagSet flags = Declare(&targets);
  const auto rest = flags.Parse({"-x", "A=b=c", "-x=B=--np", "-x", "-C", "-wdir", "-np", "--timeout", "0.5", "p"});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_THAT(targets.variables, ElementsAre("A=b=c", "B=--np", "-C"));
  EXPECT_EQ(targets.folder, "-np");
  EXPECT_EQ(targets.timeout, 0.5);
}

TEST(FlagSet, ErrorsNameFlagAndRemedy) {
  EXPECT_THAT(ErrorOf({"-np", "0", "p"}), HasSubstr("-np 0 is not possible: N is a whole number from 1 to 64"));
  EXPECT_THAT(ErrorOf({"-np", "65", "p"}), HasSubstr("from 1 to 64"));
  EXPECT_THAT(ErrorOf({"-np", "-4", "p"}), HasSubstr("-np -4"));
  EXPECT_THAT(ErrorOf({"-np", "four", "p"}), HasSubstr("-np four"));
  EXPECT_THAT(ErrorOf({"-np"}), HasSubstr("-np needs a value: -np N"));
  EXPECT_THAT(ErrorOf({"--timeout", "0", "p"}), HasSubstr("above 0"));
  EXPECT_THAT(ErrorOf({"--timeout", "nan", "p"}), HasSubstr("above 0"));
  EXPECT_THAT(ErrorOf({"--timeout", "5m", "p"}), HasSubstr("--timeout 5m"));
  EXPECT_THAT(ErrorOf({"-wdir=", "p"}), HasSubstr("-wdir"));
  EXPECT_THAT(ErrorOf({"--tag-output=yes", "p"}), HasSubstr("takes no value"));
  EXPECT_THAT(ErrorOf({"--hostfile", "h", "p"}),
              HasSubstr("--hostfile is not in this version of muster. It starts all workers here."));
  EXPECT_THAT(ErrorOf({"-H", "a,b", "p"}), HasSubstr("-H is not in this version"));
  EXPECT_THAT(ErrorOf({"--node_rank=1", "p"}), HasSubstr("--node_rank is not needed with muster. It knows."));
}

TEST(FlagSet, SuggestsTheNearestName) {
  EXPECT_THAT(ErrorOf({"--tag-ouput", "p"}), HasSubstr("unknown option --tag-ouput; did you mean --tag-output?"));
  EXPECT_THAT(ErrorOf({"--timout", "3", "p"}), HasSubstr("did you mean --timeout?"));
  EXPECT_THAT(ErrorOf({"--nproc", "3", "p"}), Not(HasSubstr("-x")));
  EXPECT_THAT(ErrorOf({"--quite-another-thing", "p"}), HasSubstr("`muster test --help` lists the options"));
}

TEST(FlagSet, IgnoredFlagsAreAcceptedAndHelpStops) {
  Targets targets;
  FlagSet flags = Declare(&targets);
  EXPECT_THAT(*flags.Parse({"-oversubscribe", "p"}), ElementsAre("p"));
  EXPECT_THAT(*flags.Parse({"--start_method", "spawn", "-np", "3", "p"}), ElementsAre("p"));
  EXPECT_EQ(targets.workers, 3);
  EXPECT_THAT(*flags.Parse({"--start-method=fork", "p"}), ElementsAre("p"));
  EXPECT_THAT(ErrorOf({"--start-method"}), HasSubstr("--start-method needs a value: --start-method KIND"));
  FlagSet asked = Declare(&targets);
  EXPECT_THAT(*asked.Parse({"-h", "--no-such-option"}), IsEmpty());
  EXPECT_TRUE(asked.help_wanted());
}

TEST(FlagSet, HelpShowsEveryFlagThatWorks) {
  Targets targets;
  const std::string help = Declare(&targets).Help();
  EXPECT_THAT(help, HasSubstr("-np, -n, --nproc-per-node N"));
  EXPECT_THAT(help, HasSubstr("--timeout SECONDS"));
  EXPECT_THAT(help, Not(HasSubstr("hostfile")));
  EXPECT_THAT(help, Not(HasSubstr("node-rank")));
}

}  // namespace
}  // namespace muster

#include "launcher/cli/completion.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cli/run_options.h"

namespace muster {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;

std::vector<CommandPage> Commands() {
  FlagSet status("muster status");
  bool json = false;
  status.Switch("--json", &json, "one JSON object\nof many lines");
  return {{"run", "start a program", RunPage()},
          {"status", "show one job", {.before = "", .flags = status.Describe(), .operand = Operand::kJob}},
          {"checkpoint", "show checkpoints", {.before = "", .flags = {}, .operand = Operand::kFolder, .words = {"ls", "verify"}}}};
}

Completion At(const std::vector<std::string>& words) { return Complete(Commands(), words, {{"4e525033", "running  ./train"}}); }

std::vector<std::string> Words(const std::vector<std::string>& words) {
  std::vector<std::string> found;
  for (const Candidate& candidate : At(words).words) found.push_back(candidate.word);
  return found;
}

TEST(Completion, OffersCommands) {
  EXPECT_THAT(Words({"muster", ""}), ElementsAre("run", "status", "checkpoint"));
  EXPECT_THAT(Words({"muster", "st"}), ElementsAre("status"));
  EXPECT_THAT(Words({"muster"}), IsEmpty());
  EXPECT_THAT(Words({"muster", "no-such", "-"}), IsEmpty());
}

TEST(Completion, OffersEveryOptionThatParseKnows) {
  EXPECT_THAT(Words({"muster", "run", "-"}), IsSupersetOf({"-np", "-n", "--nodes", "--report", "--help"}));
  EXPECT_THAT(Words({"muster", "run", "-np", "2", "--max"}), ElementsAre("--max-restarts"));
  EXPECT_THAT(Words({"muster", "run", "--over"}), ElementsAre("--oversubscribe"));
}

TEST(Completion, SaysWhatAValueMayBe) {
  EXPECT_THAT(Words({"muster", "run", "--node-network", ""}), ElementsAre("auto", "host", "namespaces"));
  EXPECT_THAT(Words({"muster", "run", "--node_network", "h"}), ElementsAre("host"));
  EXPECT_THAT(Words({"muster", "run", "--node-network=n"}), ElementsAre("--node-network=namespaces"));
  EXPECT_THAT(Words({"muster", "run", "--node-network", "=", "n"}), ElementsAre("namespaces")) << "as bash cuts it";
  EXPECT_THAT(Words({"muster", "run", "--node-network", "="}), ElementsAre("auto", "host", "namespaces"));
  EXPECT_EQ(At({"muster", "run", "--report", "re"}).also, Completion::Also::kFiles);
  EXPECT_EQ(At({"muster", "run", "-wdir", ""}).also, Completion::Also::kFolders);
  EXPECT_EQ(At({"muster", "run", "-np", ""}).also, Completion::Also::kNothing);
}

TEST(Completion, OptionsEndAtTheProgram) {
  const Completion program = At({"muster", "run", "-np", "2", "--tag-output", "ec"});
  EXPECT_EQ(program.also, Completion::Also::kProgram);
  EXPECT_EQ(program.program, 5u);
  const Completion argument = At({"muster", "run", "-np", "2", "echo", "-"});
  EXPECT_EQ(argument.also, Completion::Also::kProgram);
  EXPECT_EQ(argument.program, 4u);
  EXPECT_THAT(argument.words, IsEmpty());
  EXPECT_EQ(At({"muster", "run", "--", "-odd"}).program, 3u);
}

TEST(Completion, OffersJobsOnceAndFoldersAfterAWord) {
  EXPECT_THAT(Words({"muster", "status", "4"}), ElementsAre("4e525033"));
  EXPECT_THAT(Words({"muster", "status", "4e525033", "4"}), IsEmpty());
  EXPECT_THAT(Words({"muster", "status", "4e525033", ""}), Contains("--json"));
  EXPECT_THAT(Words({"muster", "status", "4e525033", "--j"}), ElementsAre("--json"));
  EXPECT_THAT(Words({"muster", "checkpoint", ""}), ElementsAre("ls", "verify"));
  EXPECT_EQ(At({"muster", "checkpoint", "ls", ""}).also, Completion::Also::kFolders);
}

TEST(Completion, AnswersInLines) {
  EXPECT_EQ(CompletionText(At({"muster", "status", "--j"})), "words\n--json\tone JSON object\n");
  EXPECT_EQ(CompletionText(At({"muster", "run", "x"})), "program 2\n");
  for (const char* shell : {"bash", "zsh", "fish"}) EXPECT_THAT(CompletionScript(shell), Not(IsEmpty()));
  EXPECT_THAT(CompletionScript("csh"), IsEmpty());
}

}  // namespace
}  // namespace muster

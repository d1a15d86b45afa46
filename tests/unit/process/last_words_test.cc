#include "launcher/process/last_words.h"

#include <nlohmann/json.hpp>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/process/report.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TEST(LastWords, SayWhoCausedTheEndOfAJob) {
  JobResult result;
  result.workers = 4;
  v1::Verdict& verdict = result.judgement.verdict;
  verdict.set_exit_code(137);
  verdict.set_sentence("rank 3 (node-b) was killed");
  verdict.set_failure_class("killed");
  verdict.set_rank(3);
  verdict.set_host("node-b");
  verdict.set_committed_step(40);
  const Json words = Json::parse(JobLastWords(ReportJson(result)));
  EXPECT_EQ(words["exit_code"], 137);
  EXPECT_EQ(words["sentence"], "rank 3 (node-b) was killed");
  EXPECT_EQ(words["class"], "killed");
  EXPECT_EQ(words["rank"], 3);
  EXPECT_EQ(words["host"], "node-b");
  EXPECT_EQ(words["committed_step"], 40);
  EXPECT_FALSE(words.contains("checkpoint_step"));  // there is none
}

TEST(LastWords, ThatAllWentWellIsSaidToo) {
  JobResult result;
  result.workers = 4;
  result.seconds = 12.34;
  result.restarts = 1;
  result.judgement.verdict.set_rank(-1);
  result.judgement.verdict.set_committed_step(-1);
  const Json words = Json::parse(JobLastWords(ReportJson(result)));
  EXPECT_EQ(words["exit_code"], 0);
  EXPECT_EQ(words["sentence"], "all 4 workers ended with 0 after 12.3 s, with 1 restarts");
  EXPECT_FALSE(words.contains("rank"));
}

TEST(LastWords, AreOneLineOfWhatIsKept) {
  JobResult result;
  result.judgement.verdict.set_exit_code(1);
  result.judgement.verdict.set_sentence(std::string(9000, '\x01') + "\n\xff");
  const std::string words = JobLastWords(ReportJson(result));
  EXPECT_LE(words.size(), kLastWordsBytesMax);
  EXPECT_EQ(words.find('\n'), words.size() - 1);
  EXPECT_EQ(Json::parse(words)["exit_code"], 1);
  EXPECT_EQ(JobLastWords("no JSON"), "");
}

TEST(LastWords, OfAnAgent) {
  EXPECT_EQ(AgentLastWords(0, "", "pod@machine"),
            "{\"exit_code\":0,\"sentence\":\"the job is over\",\"host\":\"pod@machine\"}\n");
  EXPECT_EQ(AgentLastWords(77, "a used ticket", ""), "{\"exit_code\":77,\"sentence\":\"a used ticket\"}\n");
}

TEST(LastWords, GoIntoTheFileThatIsThere) {
  const std::string path = ::testing::TempDir() + "/last_words";
  ASSERT_TRUE(WriteLastWords(path, "a longer one\n").ok());
  ASSERT_TRUE(WriteLastWords(path, "short\n").ok());
  std::string text(64, '\0');
  FILE* const file = ::fopen(path.c_str(), "r");
  text.resize(::fread(text.data(), 1, text.size(), file));
  ::fclose(file);
  EXPECT_EQ(text, "short\n");
  EXPECT_THAT(std::string(WriteLastWords("/proc/nothing/here", "x").message()), HasSubstr("/proc/nothing/here"));
}

}  // namespace
}  // namespace muster

// Where --output-filename puts a rank's output.
#include "launcher/agent/output_pattern.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

OutputPattern::Place PlaceOf(uint32_t rank, OutputStream which = OutputStream::kStdout) {
  return {.rank = rank, .ranks = 12, .host = "node-b", .job_id = "4e52", .generation = 2, .which = which};
}

std::string PathOf(absl::string_view typed, uint32_t rank, OutputStream which = OutputStream::kStdout) {
  const auto pattern = OutputPattern::Parse(typed, "/work");
  return pattern.ok() ? pattern->Path(PlaceOf(rank, which)) : std::string(pattern.status().message());
}

std::string ErrorOf(absl::string_view typed) { return std::string(OutputPattern::Parse(typed, "/work").status().message()); }

// Seen from mpirun 4.1.4 with -np 12.
TEST(OutputPattern, AFolderIsMpiruns) {
  EXPECT_EQ(PathOf("out", 3), "/work/out/1/rank.03/stdout");
  EXPECT_EQ(PathOf("/tmp/out/", 11, OutputStream::kStderr), "/tmp/out/1/rank.11/stderr");
  EXPECT_EQ(PathOf("out:nojobid", 3), "/work/out/rank.03/stdout");
  EXPECT_EQ(PathOf("out:nojobid,nocopy", 3), "/work/out/rank.03/stdout");
  EXPECT_EQ(PathOf("out:nocopy:nojobid", 3), "/work/out/rank.03/stdout");
}

TEST(OutputPattern, SaysWhetherTheFilesAreAll) {
  for (const char* const typed : {"out:nocopy", "out:nojobid,nocopy", "%r.log:nocopy"}) {
    EXPECT_TRUE(OutputPattern::Parse(typed, "/")->files_only()) << typed;
  }
  EXPECT_FALSE(OutputPattern::Parse("out:nojobid", "/")->files_only());
}

TEST(OutputPattern, APatternIsAPath) {
  EXPECT_EQ(PathOf("logs/%r.log", 3), "/work/logs/3.log");
  EXPECT_EQ(PathOf("/l/%j/%h-%g-%R.%s", 3, OutputStream::kStderr), "/l/4e52/node-b-2-03.stderr");
  EXPECT_EQ(PathOf("100%%/%r", 3), "/work/100%/3");
  const auto inside = OutputPattern::Parse("%r", "/my%r/50%");
  EXPECT_EQ(inside->Path(PlaceOf(3)), "/my%r/50%/3") << "the folder we are in is no pattern";
}

TEST(OutputPattern, KnowsWhatItDependsOn) {
  EXPECT_TRUE(OutputPattern::Parse("out", "/")->has('r'));
  EXPECT_TRUE(OutputPattern::Parse("%h", "/")->has('h'));
  EXPECT_FALSE(OutputPattern::Parse("%%r%h", "/")->has('r'));
}

TEST(OutputPattern, AColonMayBePartOfAName) {
  EXPECT_EQ(PathOf("run-12:30", 0), "/work/run-12:30/1/rank.00/stdout");
  EXPECT_THAT(ErrorOf("out:nocop"), HasSubstr("did you mean :nocopy?"));
}

TEST(OutputPattern, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(ErrorOf("%n.log"), HasSubstr("there is no %n"));
  EXPECT_THAT(ErrorOf("%r.log%"), HasSubstr("there is no %"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("names no folder"));
  EXPECT_THAT(ErrorOf(":nocopy"), HasSubstr("names no folder"));
  EXPECT_THAT(ErrorOf("%r.log:nojobid"), HasSubstr("leave it out"));
  EXPECT_THAT(ErrorOf("%r/"), HasSubstr("add a file name"));
}

TEST(OutputPattern, KnowsTheFolderThatAllFilesShare) {
  const auto common = [](absl::string_view typed) { return OutputPattern::Parse(typed, "/work")->CommonFolder(PlaceOf(3)); };
  EXPECT_EQ(common("out"), "/work/out/1");
  EXPECT_EQ(common("out/%j/%h/%r/x.log"), "/work/out/4e52/node-b");
  EXPECT_EQ(common("out/g%g/x.log"), "/work/out");
  EXPECT_EQ(common("out/%r.log"), "/work/out");
  EXPECT_EQ(common("/%r.log"), "/");
  EXPECT_EQ(common("/a%%b/%s/%r.log"), "/a%b");
}

}  // namespace
}  // namespace muster

// What stands before a worker's line.
#include "launcher/agent/line_format.h"

#include "absl/strings/str_split.h"
#include "absl/time/civil_time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::StartsWith;

const absl::Time kWhen = absl::FromCivil(absl::CivilSecond(2026, 11, 1, 9, 5, 7), absl::UTCTimeZone()) + absl::Milliseconds(42);

std::string Format(LineMarks marks, uint32_t rank, absl::string_view lines, bool color = false,
                   size_t line_bytes_max = 1 << 20) {
  LineFormat format(marks, color, absl::UTCTimeZone());
  EXPECT_TRUE(format.marks_lines());
  std::string text;
  format.Append(rank, OutputStream::kStdout, "node-b", kWhen, lines, &text, line_bytes_max);
  return text;
}

// Seen from mpirun 4.1.4.
TEST(LineFormat, WritesMpirunsForms) {
  EXPECT_EQ(Format({.tag = true, .ranks = 12}, 3, "a\n"), "[1,3]<stdout>:a\n");
  EXPECT_EQ(Format({.timestamp = true}, 3, "a\n"), "Sun Nov  1 09:05:07 2026<stdout>:a\n");
  EXPECT_EQ(Format({.tag = true, .timestamp = true}, 3, "a\n"), "Sun Nov  1 09:05:07 2026[1,3]<stdout>:a\n");
  LineFormat format({.tag = true});
  std::string text;
  format.Append(0, OutputStream::kStderr, "", kWhen, "b\n", &text);
  EXPECT_EQ(text, "[1,0]<stderr>:b\n");
}

TEST(LineFormat, WritesRankHostAndTimeOnes) {
  EXPECT_EQ(Format({.rank = true, .ranks = 4}, 3, "a\n"), "3: a\n");
  EXPECT_EQ(Format({.rank = true, .ranks = 101}, 3, "a\n"), "  3: a\n") << "as wide as the greatest rank";
  EXPECT_EQ(Format({.host = true}, 3, "a\n"), "node-b: a\n");
  EXPECT_EQ(Format({.rank = true, .host = true, .ranks = 11}, 10, "a\n"), "10 node-b: a\n");
  EXPECT_EQ(Format({.rank = true, .host = true, .timestamp = true, .ranks = 11}, 3, "a\n"),
            "2026-11-01T09:05:07.042  3 node-b: a\n");
}

TEST(LineFormat, MarksEachLineAndEndsTheLast) {
  EXPECT_EQ(Format({.rank = true}, 0, "a\n\nlast"), "0: a\n0: \n0: last\n");
  EXPECT_EQ(Format({.rank = true}, 0, ""), "");
  EXPECT_EQ(Format({.rank = true}, 0, std::string("nul\0\r\n", 6)), std::string("0: nul\0\r\n", 9));
}

TEST(LineFormat, CutsLongLines) {
  EXPECT_EQ(Format({.rank = true}, 0, "1234567\n890\n", false, 3), "0: 123\n0: 456\n0: 7\n0: 890\n");
  EXPECT_EQ(Format({.rank = true}, 0, "123\n456", false, 3), "0: 123\n0: 456\n") << "no empty line behind one that just fits";
}

TEST(LineFormat, ColorsTheMarkAlone) {
  for (uint32_t rank = 0; rank < 30; ++rank) {
    const std::string line = Format({.rank = true, .ranks = 30}, rank, "text\n", true);
    EXPECT_THAT(line, StartsWith(std::string(RankColor(rank))));
    EXPECT_THAT(line, ::testing::EndsWith(":\033[0m text\n"));
  }
  for (uint32_t rank = 1; rank < 10; ++rank) EXPECT_NE(RankColor(rank), RankColor(rank - 1));
}

TEST(LineFormat, TellsTheTimeOfEachAppend) {
  LineFormat format({.rank = true, .timestamp = true}, false, absl::UTCTimeZone());
  std::string text;
  format.Append(0, OutputStream::kStdout, "", kWhen, "a\n", &text);
  format.Append(0, OutputStream::kStdout, "", kWhen + absl::Milliseconds(1), "b\n", &text);
  format.Append(0, OutputStream::kStdout, "", kWhen + absl::Hours(24), "c\n", &text);
  EXPECT_EQ(text, "2026-11-01T09:05:07.042 0: a\n2026-11-01T09:05:07.043 0: b\n2026-11-02T09:05:07.042 0: c\n");
}

}  // namespace
}  // namespace muster

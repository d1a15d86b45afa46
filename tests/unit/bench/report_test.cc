#include "runtime/bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/bench/statistics.h"

namespace muster::bench {
namespace {

using testing::HasSubstr;

TEST(Statistics, OfAHundredCalls) {
  std::vector<double> times;
  for (int i = 100; i >= 1; --i) times.push_back(i);
  times[0] = 5000;  // instead of 100
  const Summary summary = Summarise(times);
  EXPECT_EQ(summary.calls, 100);
  EXPECT_DOUBLE_EQ(summary.p50_us, 50);
  EXPECT_DOUBLE_EQ(summary.p99_us, 99);
  EXPECT_DOUBLE_EQ(summary.max_us, 5000);
  EXPECT_DOUBLE_EQ(summary.mean_us, (4950.0 + 5000) / 100);
  EXPECT_DOUBLE_EQ(summary.over_2ms, 0.01);
}

TEST(Statistics, OfOneAndNone) {
  EXPECT_DOUBLE_EQ(Summarise({7}).p50_us, 7);
  EXPECT_DOUBLE_EQ(Summarise({7}).p99_us, 7);
  EXPECT_EQ(Summarise({}).calls, 0);
}

TEST(Statistics, TwoMillisecondsAreNotOver) { EXPECT_DOUBLE_EQ(Summarise({2000, 2000.1}).over_2ms, 0.5); }

Row SomeRow() {
  Row row{.bytes = 1 << 20, .count = 1 << 18, .time = Summarise({100, 100, 200}), .floor = Summarise({50}), .wrong = 0};
  return row;
}

TEST(Report, BandwidthsAreThoseOfNcclTests) {
  EXPECT_NEAR(SomeRow().algbw_gbps(), 10.48576, 1e-9);
  EXPECT_NEAR(SomeRow().busbw_gbps(4), 10.48576 * 1.5, 1e-9);
  EXPECT_DOUBLE_EQ(*SomeRow().ratio(), 0.5);
}

TEST(Report, RowsStandUnderTheirHeadings) {
  const Options options;
  const std::string header = TableHeader(options, {.ranks = 4});
  const std::string row = TableRow(options, {.ranks = 4}, SomeRow());
  const std::string last = header.substr(header.rfind('\n', header.size() - 2) + 1);
  EXPECT_EQ(last.size(), row.size());
  for (const char* column : {"size", "count", "type", "redop", "root", "time", "algbw", "busbw", "#wrong", "floor", "ratio"}) {
    EXPECT_THAT(header, HasSubstr(column));
  }
}

TEST(Report, JsonHoldsAllOrNull) {
  Row bare{.bytes = 8, .count = 2, .time = Summarise({1})};
  const std::string json = Json(Options{}, {.ranks = 2, .bound = true}, {SomeRow(), bare});
  EXPECT_THAT(json, HasSubstr(R"("ratio": 0.5000)"));
  EXPECT_THAT(json, HasSubstr(R"("floor": null, "ratio": null)"));
  EXPECT_THAT(json, HasSubstr(R"("wrong": null)"));
  EXPECT_THAT(json, HasSubstr(R"("ranks": 2, "bound": true)"));
}

}  // namespace
}  // namespace muster::bench

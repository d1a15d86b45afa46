#include "runtime/bench/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<Options> Parse(std::vector<std::string> words) { return ParseOptions(words); }

TEST(Options, Defaults) {
  const auto options = Parse({});
  ASSERT_TRUE(options.ok());
  EXPECT_TRUE(options->window);
  EXPECT_TRUE(options->fresh);
  EXPECT_TRUE(options->floor);
  EXPECT_EQ(Sizes(*options).front(), 8);
  EXPECT_EQ(Sizes(*options).back(), 16 << 20);
}

TEST(Options, EveryFlag) {
  const auto options = Parse({"--private", "-b", "4K", "-e", "1m", "-f",      "16",         "-d",        "bf16",   "-o",
                              "avg",       "-n", "7",  "-w", "0",  "--check", "--no-floor", "--no-bind", "--json", "out.json"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_FALSE(options->window);
  EXPECT_FALSE(options->floor);
  EXPECT_FALSE(options->bind);
  EXPECT_TRUE(options->check);
  EXPECT_EQ(options->type, DataType::kBFloat16);
  EXPECT_EQ(options->op, ReduceOp::kAvg);
  EXPECT_EQ(options->warmup, 0);
  EXPECT_EQ(options->json_file, "out.json");
  EXPECT_EQ(Iterations(*options, 8), 7);
  EXPECT_THAT(Sizes(*options), ElementsAre(4096, 65536, 1048576));
}

TEST(Options, SizesAreWholeElements) {
  EXPECT_THAT(Sizes(*Parse({"-b", "11", "-e", "50", "-d", "f64"})), ElementsAre(8, 16, 40));
}

TEST(Options, IterationsFollowTheSize) {
  const auto options = Parse({});
  EXPECT_EQ(Iterations(*options, 8), 1000);
  EXPECT_EQ(Iterations(*options, 1 << 20), 64);
  EXPECT_EQ(Iterations(*options, int64_t{1} << 30), 20);
}

TEST(Options, ErrorsNameTheFlag) {
  const auto message = [](std::vector<std::string> words) { return std::string(Parse(std::move(words)).status().message()); };
  EXPECT_THAT(message({"--windows"}), HasSubstr("no option --windows"));
  EXPECT_THAT(message({"-b"}), HasSubstr("-b needs a value"));
  EXPECT_THAT(message({"-b", "1X"}), HasSubstr("-b 1X"));
  EXPECT_THAT(message({"-b", "K"}), HasSubstr("-b K"));
  EXPECT_THAT(message({"-e", "0"}), HasSubstr("-e 0"));
  EXPECT_THAT(message({"-e", "9999999999G"}), HasSubstr("not a size"));
  EXPECT_THAT(message({"-f", "1"}), HasSubstr("at least 2"));
  EXPECT_THAT(message({"-d", "f8"}), HasSubstr("f32 f64 bf16"));
  EXPECT_THAT(message({"-o", "xor"}), HasSubstr("sum avg min"));
  EXPECT_THAT(message({"-b", "2K", "-e", "1K"}), HasSubstr("above"));
  EXPECT_THAT(message({"-b", "2"}), HasSubstr("one f32 takes 4"));
  EXPECT_THAT(message({"-o", "avg", "-d", "i32"}), HasSubstr("no average of integers"));
  EXPECT_THAT(message({"--check", "--back-to-back"}), HasSubstr("leave out --back-to-back"));
}

}  // namespace
}  // namespace muster::bench

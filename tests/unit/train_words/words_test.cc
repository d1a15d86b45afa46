#include "examples/train_words/words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "examples/train_words/bigram.h"
#include "examples/train_words/options.h"

namespace {

using testing::HasSubstr;

std::string Lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) absl::StrAppend(&text, "w", i, "\n");
  return text;
}

TEST(Words, EveryTenthIsHeldOut) {
  const auto words = ParseWords(Lines(25), "test");
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_EQ(words->training.size(), 23u);
  ASSERT_EQ(words->heldout.size(), 2u);
  EXPECT_EQ(Spell(*words, words->heldout[0]), "w9");
  EXPECT_EQ(Spell(*words, words->heldout[1]), "w19");
  EXPECT_EQ(words->symbols(), 12);
}

TEST(Words, CharactersAreCodePoints) {
  const auto words = ParseWords("\u00e9t\u00e9\r\n\n\u65e5\u672c\n\U0001F600" + ("\n" + Lines(9)), "test");
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_EQ(words->training[0].size(), 3u);
  EXPECT_EQ(Spell(*words, words->training[0]), "\u00e9t\u00e9");
  EXPECT_EQ(Spell(*words, words->training[1]), "\u65e5\u672c");
  EXPECT_EQ(words->training[2].size(), 1u);
  EXPECT_EQ(Spell(*words, words->training[2]), "\U0001F600");
}

TEST(Words, ErrorsNameFileAndLine) {
  for (const char* bad : {"\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80"}) {
    const auto words = ParseWords(Lines(10) + "ok" + bad + "\n", "names.txt");
    EXPECT_EQ(words.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(words.status().message()), HasSubstr("names.txt, line 11: byte 3"));
  }
  EXPECT_THAT(std::string(ParseWords("", "empty.txt").status().message()), HasSubstr("empty.txt holds 0 words"));
  EXPECT_THAT(std::string(ParseWords("\n\n\n", "empty.txt").status().message()), HasSubstr("holds 0 words"));
  EXPECT_EQ(ReadWords("/nowhere/words").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(ReadWords("/nowhere/words").status().message()), HasSubstr("/nowhere/words: No such file"));
  EXPECT_THAT(std::string(ReadWords("/").status().message()), HasSubstr("cannot read /: Is a directory"));
}

TEST(Words, AnyChangeChangesTheFingerprint) {
  EXPECT_NE(ParseWords(Lines(30), "a")->fingerprint, ParseWords(Lines(30) + "x\n", "a")->fingerprint);
}

TEST(Bigram, KnowsACertainLanguage) {
  const std::vector<Word> training(1000, Word{1, 2, 3});
  EXPECT_LT(BigramLoss(training, {{1, 2, 3}}, 4), 0.01);
  EXPECT_GT(BigramLoss(training, {{3, 2, 1}}, 4), 3.0);
  EXPECT_TRUE(std::isfinite(BigramLoss({{1}}, {{3, 3}}, 4)));
}

TEST(Bigram, IsAFairCoin) {
  std::vector<Word> training;
  for (int i = 0; i < 4000; ++i) training.push_back(i % 2 == 0 ? Word{1} : Word{2});
  EXPECT_NEAR(BigramLoss(training, {{1}, {2}}, 3), std::log(2.0) / 2, 0.01);  // a coin, then a certain end
}

TEST(Options, ReadsFlags) {
  const char* argv[] = {"train_words", "--steps", "7",   "--batch=9",   "--bucket-bytes",
                        "64K",         "--lr",    "0.5", "--optimizer", "sgd"};
  const auto options = ParseOptions(10, argv);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->steps, 7);
  EXPECT_EQ(options->batch, 9);
  EXPECT_EQ(options->bucket_bytes, 65536);
  EXPECT_EQ(options->learning_rate, 0.5);
}

TEST(Options, ErrorsNameFlagAndValue) {
  const std::pair<std::vector<const char*>, const char*> cases[] = {
      {{"t", "--steps", "0"}, "--steps 0: must be a whole number, at least 1"},
      {{"t", "--batch", "many"}, "--batch many"},
      {{"t", "--frobnicate", "1"}, "unknown flag --frobnicate"},
      {{"t", "--frobnicate"}, "unknown flag --frobnicate"},
      {{"t", "--steps"}, "--steps needs a value"},
      {{"t", "--lr", "-1"}, "--lr -1: must be a number above 0"},
      {{"t", "--bucket-bytes", "12Q"}, "--bucket-bytes 12Q"},
      {{"t", "--bucket-bytes", "9999999999G"}, "--bucket-bytes"},
      {{"t", "--optimizer", "lion"}, "adamw or sgd"},
      {{"t", "words.txt", "1"}, "unknown flag words.txt"},
  };
  for (const auto& [argv, expected] : cases) {
    const auto options = ParseOptions(static_cast<int>(argv.size()), argv.data());
    EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(options.status().message()), HasSubstr(expected));
  }
}

}  // namespace

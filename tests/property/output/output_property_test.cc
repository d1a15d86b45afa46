// Random writers, torn writes, slow readers: every line arrives whole, in its rank's order, on its own stream.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/support/output/output_harness.h"

namespace muster {
namespace {

// One stream of one rank: what it will write, and how far it is.
struct Writer {
  uint32_t rank;
  OutputStream which;
  UniqueFd fd;
  std::string text;
  size_t written = 0;
  int lines = 0;
};

std::string RandomText(std::mt19937& random, const Writer& writer, int lines) {
  std::string text;
  for (int i = 0; i < lines; ++i) {
    const size_t length = random() % 20 == 0 ? random() % 5000 : random() % 60;
    absl::StrAppend(&text, writer.which == OutputStream::kStdout ? "o " : "e ", writer.rank, " ", i, " ", length, " ");
    for (size_t j = 0; j < length; ++j) text += static_cast<char>(random() % 10 == 0 ? '\r' : 'a' + random() % 26);
    text += '\n';
  }
  return text;
}

// A worker's write(2) of any length, across and within lines; closes at the end.
void WriteSome(std::mt19937& random, Writer* writer) {
  if (!writer->fd) return;
  const size_t piece =
      std::min<size_t>(writer->text.size() - writer->written, 1 + random() % (random() % 10 == 0 ? 40'000 : 200));
  const ssize_t bytes = write(writer->fd.get(), writer->text.data() + writer->written, piece);
  if (bytes > 0) writer->written += static_cast<size_t>(bytes);
  if (writer->written == writer->text.size()) writer->fd.Reset();
}

// Checks one of muster's streams against what its writers wrote.
void ExpectWhole(const std::string& text, OutputStream which, bool tagged, const std::vector<Writer>& writers) {
  std::map<uint32_t, std::string> by_rank;
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  ASSERT_EQ(lines.back(), "");
  lines.pop_back();
  for (absl::string_view line : lines) {
    uint32_t tag_rank = 0;
    if (tagged) {
      const size_t end = line.find(which == OutputStream::kStdout ? "]<stdout>:" : "]<stderr>:");
      ASSERT_NE(end, absl::string_view::npos) << line;
      ASSERT_EQ(line.substr(0, 3), "[1,");
      ASSERT_TRUE(absl::SimpleAtoi(line.substr(3, end - 3), &tag_rank)) << line;
      line.remove_prefix(end + 10);
    }
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    uint32_t rank = 0;
    ASSERT_EQ(words.size(), 3u) << line;
    ASSERT_EQ(words[0], which == OutputStream::kStdout ? "o" : "e");
    ASSERT_TRUE(absl::SimpleAtoi(words[1], &rank)) << line;
    if (tagged) {
      ASSERT_EQ(rank, tag_rank);
    }
    absl::StrAppend(&by_rank[rank], line, "\n");
  }
  for (const Writer& writer : writers) {
    if (writer.which == which) {
      EXPECT_TRUE(by_rank[writer.rank] == writer.text) << "rank " << writer.rank;
    }
  }
}

void RunOnce(uint32_t seed) {
  SCOPED_TRACE(absl::StrCat("replay: MUSTER_TEST_SEED=", seed, " output_property_test"));
  std::mt19937 random(seed);
  OutputHarness harness;
  const bool tagged = random() % 2 == 0;
  harness.Start({.marks = {.tag = tagged},
                 .memory_bytes_max = random() % 2 == 0 ? size_t{4096} : size_t{1} << 20,
                 .spill_bytes_max = random() % 2 == 0 ? int64_t{100'000} : int64_t{1} << 30,
                 .spill_folder = random() % 3 == 0 ? "" : ::testing::TempDir(),
                 .reader_stall_time = absl::Minutes(10)});
  const uint32_t ranks = 1 + random() % 5;
  std::vector<Writer> writers;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    for (const OutputStream which : {OutputStream::kStdout, OutputStream::kStderr}) {
      Writer writer = {rank, which, harness.Worker(rank, which), ""};
      writer.text = RandomText(random, writer, 1 + static_cast<int>(random() % 300));
      fcntl(writer.fd.get(), F_SETFL, O_WRONLY | O_NONBLOCK);
      writers.push_back(std::move(writer));
    }
  }
  const uint32_t reads_one_in = 1 + random() % 50;
  bool open = true;
  while (open) {
    open = false;
    for (Writer& writer : writers) {
      if (random() % 2 == 0) WriteSome(random, &writer);
      open |= writer.fd.valid();
    }
    if (random() % 20 == 0) harness.Round();
    if (random() % 50 == 0) harness.forwarder_->Drain(random() % ranks);
    if (random() % reads_one_in == 0) harness.ReadOutput(OutputStream::kStdout, 1 + random() % 70'000);
    if (random() % reads_one_in == 0) harness.ReadOutput(OutputStream::kStderr, 1 + random() % 70'000);
  }
  if (random() % 2 == 0) harness.forwarder_->DrainAll();
  ASSERT_TRUE(harness.ReadToTheEnd(ranks));
  EXPECT_EQ(harness.forwarder_->lines_dropped(), 0u);
  ExpectWhole(harness.out(), OutputStream::kStdout, tagged, writers);
  ExpectWhole(harness.err(), OutputStream::kStderr, tagged, writers);
}

TEST(OutputProperty, LinesArriveWholeInOrderAndOnTheirStream) {
  if (const char* replay = getenv("MUSTER_TEST_SEED")) return RunOnce(static_cast<uint32_t>(strtoul(replay, nullptr, 10)));
  std::random_device device;
  for (int round = 0; round < 30 && !::testing::Test::HasFailure(); ++round) RunOnce(device());
}

}  // namespace
}  // namespace muster

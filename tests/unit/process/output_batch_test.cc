// Output in messages: order, size, and no line torn that fits into one.
#include "launcher/process/output_batch.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

class OutputBatchTest : public ::testing::Test {
 protected:
  OutputBatchTest()
      : loop_(*EventLoop::Create()), batch_(loop_.get(), [this](v1::Output output) { sent_.push_back(output); }) {}
  void RunLoop() {
    loop_->Post([this] { loop_->Quit(); });
    loop_->Run();
  }
  std::unique_ptr<EventLoop> loop_;
  std::vector<v1::Output> sent_;
  OutputBatch batch_;
};

TEST_F(OutputBatchTest, TogetherWhatFollowsOnEachOtherFromOneStream) {
  batch_.Add(1, false, "a\n");
  batch_.Add(1, false, "b\n");
  EXPECT_TRUE(sent_.empty());
  EXPECT_EQ(batch_.held_bytes(), 4u);
  batch_.Add(1, true, "error\n");
  batch_.Add(2, true, "another\n");
  RunLoop();
  ASSERT_EQ(sent_.size(), 3u);
  EXPECT_EQ(sent_[0].text(), "a\nb\n");
  EXPECT_FALSE(sent_[0].is_stderr());
  EXPECT_EQ(sent_[1].text(), "error\n");
  EXPECT_TRUE(sent_[1].is_stderr());
  EXPECT_EQ(sent_[1].rank(), 1u);
  EXPECT_EQ(sent_[2].rank(), 2u);
  EXPECT_EQ(batch_.held_bytes(), 0u);
}

TEST_F(OutputBatchTest, FlushesAtOnceWhenAskedTo) {
  batch_.Add(0, false, "before the news of an end\n");
  batch_.Flush();
  ASSERT_EQ(sent_.size(), 1u);
  RunLoop();
  EXPECT_EQ(sent_.size(), 1u);
}

TEST_F(OutputBatchTest, CutsAtLineEndsWhereLinesFit) {
  std::string all;
  for (int i = 0; all.size() < 5 * OutputBatch::kMessageBytesMax; ++i) {
    const std::string lines = absl::StrCat("line ", i, std::string(static_cast<size_t>(i % 700), 'x'), "\n");
    all += lines;
    batch_.Add(0, false, lines);
  }
  RunLoop();
  std::string got;
  for (const v1::Output& output : sent_) {
    EXPECT_LE(output.text().size(), OutputBatch::kMessageBytesMax);
    EXPECT_TRUE(absl::EndsWith(output.text(), "\n"));
    got += output.text();
  }
  EXPECT_EQ(got, all);
  EXPECT_LE(sent_.size(), 6u);
}

TEST_F(OutputBatchTest, PassesALongLineInPieces) {
  batch_.Add(0, false, "short\n");
  const std::string line = std::string(3 * OutputBatch::kMessageBytesMax, 'y') + "\n";
  batch_.Add(0, false, line);
  RunLoop();
  std::string got;
  for (const v1::Output& output : sent_) {
    EXPECT_LE(output.text().size(), OutputBatch::kMessageBytesMax);
    got += output.text();
  }
  EXPECT_EQ(got, "short\n" + line);
  ASSERT_EQ(sent_.size(), 5u);
  const bool continues[] = {false, true, true, true, false};
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(sent_[i].continues(), continues[i]) << i;
}

TEST_F(OutputBatchTest, SaysWhenAndWhereItWasRead) {
  batch_.set_host("node-b");
  const int64_t before = absl::ToUnixMillis(absl::Now());
  batch_.Add(0, false, "a\n");
  RunLoop();
  ASSERT_EQ(sent_.size(), 1u);
  EXPECT_GE(sent_[0].unix_ms(), before);
  EXPECT_LE(sent_[0].unix_ms(), absl::ToUnixMillis(absl::Now()));
  EXPECT_EQ(sent_[0].host(), "node-b");
}

}  // namespace
}  // namespace muster

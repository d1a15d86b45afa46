// Each reader gets every byte, however slow or dead the others are.
#include "launcher/agent/stdin_fan_out.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/output/output_harness.h"

namespace muster {
namespace {

class StdinFanOutTest : public ::testing::Test, protected OutputHarness {
 protected:
  StdinFanOutTest() : fan_out_(loop_.get(), [this](bool closed) { ++(closed ? closed_ : taken_); }) {}

  void AddReaders(int count) {
    for (int i = 0; i < count; ++i) {
      auto pipe = OpenStdinPipe();
      ASSERT_TRUE(pipe.ok()) << pipe.status();
      fcntl(pipe->worker_end.get(), F_SETFL, O_RDONLY | O_NONBLOCK);
      ASSERT_TRUE(fan_out_.Add(std::move(pipe->our_end)).ok());
      readers_.push_back({.fd = std::move(pipe->worker_end)});
    }
  }
  // What a reader finds in its pipe; false at the end of it.
  bool Read(size_t reader, size_t bytes_max = 1 << 16) {
    std::string buffer(bytes_max, '\0');
    const ssize_t bytes = read(readers_[reader].fd.get(), buffer.data(), buffer.size());
    if (bytes > 0) readers_[reader].text.append(buffer, 0, static_cast<size_t>(bytes));
    return bytes != 0;
  }
  static std::string Piece(int i) { return absl::StrCat(i, ":", std::string(60'000, static_cast<char>('a' + i % 26)), "\n"); }

  struct Reader {
    UniqueFd fd;
    std::string text;
  };
  std::vector<Reader> readers_;
  int taken_ = 0, closed_ = 0;
  StdinFanOut fan_out_;
};

TEST_F(StdinFanOutTest, EachReaderGetsEveryByteThoughOneIsSlow) {
  AddReaders(3);
  std::string all;
  constexpr int kPieces = 20;
  for (int i = 0; i < kPieces; ++i) {
    all += Piece(i);
    fan_out_.Feed(Piece(i), i == kPieces - 1);
    ASSERT_TRUE(RunUntil([&] {
      for (size_t reader = 0; reader < 3; ++reader) Read(reader, reader == 1 ? 700 : 1 << 16);
      return taken_ == i + 1;
    }));
  }
  ASSERT_TRUE(RunUntil([&] {
    bool more = false;
    for (size_t reader = 0; reader < 3; ++reader) more |= Read(reader);
    return !more;
  }));
  for (const Reader& reader : readers_) EXPECT_TRUE(reader.text == all) << reader.text.size() << " of " << all.size();
  EXPECT_EQ(closed_, 0);
}

TEST_F(StdinFanOutTest, OneThatDoesNotReadHoldsTheOthersUpAndNobodyElse) {
  AddReaders(2);
  fan_out_.Feed(std::string(200'000, 'x'), false);  // more than a pipe holds
  ASSERT_TRUE(RunUntil([&] {
    Read(0);
    return readers_[0].text.size() == 200'000;
  }));
  for (int round = 0; round < 5; ++round) Round();
  EXPECT_EQ(taken_, 0);
  readers_[1].fd.Reset();  // it dies
  ASSERT_TRUE(RunUntil([&] { return taken_ == 1; }));
  fan_out_.Feed("more", true);
  ASSERT_TRUE(RunUntil([&] { return !Read(0); }));
  EXPECT_EQ(readers_[0].text.substr(200'000), "more");
  EXPECT_EQ(closed_, 0);
}

TEST_F(StdinFanOutTest, SaysWhenNobodyReadsAnyMore) {
  AddReaders(2);
  for (Reader& reader : readers_) reader.fd.Reset();
  fan_out_.Feed("for nobody", false);
  ASSERT_TRUE(RunUntil([&] { return closed_ == 1; }));
  EXPECT_EQ(taken_, 0);
}

}  // namespace
}  // namespace muster

// An OutputForwarder between pipes of the test: what workers write on one side, what muster's reader gets on the other.
#ifndef MUSTER_TESTS_SUPPORT_OUTPUT_OUTPUT_HARNESS_H_
#define MUSTER_TESTS_SUPPORT_OUTPUT_OUTPUT_HARNESS_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "launcher/agent/output.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

class OutputHarness {
 public:
  OutputHarness() {
    auto loop = EventLoop::Create();
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    for (Reader* reader : {&stdout_, &stderr_}) {
      int ends[2];
      EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
      reader->read_end.Reset(ends[0]);
      reader->write_end.Reset(ends[1]);
      fcntl(ends[0], F_SETFL, O_RDONLY | O_NONBLOCK);
    }
  }

  void Start(OutputOptions options) {
    options.stdout_fd = stdout_.write_end.get();
    options.stderr_fd = stderr_.write_end.get();
    StartOn(std::move(options));
  }
  void StartOn(OutputOptions options) {
    auto forwarder = OutputForwarder::Create(loop_.get(), std::move(options));
    ASSERT_TRUE(forwarder.ok()) << forwarder.status();
    forwarder_ = *std::move(forwarder);
  }

  // A new stream; returns the worker's end.
  UniqueFd Worker(uint32_t rank, OutputStream which) {
    auto pipe = OpenOutputPipe();
    EXPECT_TRUE(pipe.ok()) << pipe.status();
    const absl::Status added = forwarder_->AddStream(rank, which, std::move(pipe->our_end));
    EXPECT_TRUE(added.ok()) << added;
    return std::move(pipe->worker_end);
  }

  // Serves the loop until `done`; false after a generous deadline.
  bool RunUntil(const std::function<bool()>& done) {
    bool late = false;
    const auto deadline = loop_->After(absl::Seconds(60), [&] { late = true; });
    while (!late && !done()) Round();
    loop_->Cancel(deadline);
    return !late;
  }
  // Serves what is ready, or waits at most a millisecond for something.
  void Round() {
    const auto tick = loop_->After(absl::Milliseconds(1), [this] { loop_->Quit(); });
    loop_->Run();
    loop_->Cancel(tick);
  }

  // Takes what has arrived for muster's reader, at most `bytes_max`; returns how much.
  size_t ReadOutput(OutputStream which, size_t bytes_max = 1 << 20) {
    std::string buffer(bytes_max, '\0');
    Reader& reader = which == OutputStream::kStdout ? stdout_ : stderr_;
    const ssize_t bytes = read(reader.read_end.get(), buffer.data(), buffer.size());
    if (bytes <= 0) return 0;
    reader.text.append(buffer, 0, static_cast<size_t>(bytes));
    return static_cast<size_t>(bytes);
  }

  // Waits for the end of all streams and of everything queued; reads all the while.
  bool ReadToTheEnd(uint32_t ranks) {
    bool flushed = false, asked = false;
    return RunUntil([&] {
      ReadOutput(OutputStream::kStdout);
      ReadOutput(OutputStream::kStderr);
      bool open = false;
      for (uint32_t rank = 0; rank < ranks; ++rank) open |= forwarder_->HasStreams(rank);
      if (!open && !asked) forwarder_->Flush([&] { flushed = true; });
      asked |= !open;
      return flushed && ReadOutput(OutputStream::kStdout) + ReadOutput(OutputStream::kStderr) == 0;
    });
  }

  const std::string& out() const { return stdout_.text; }
  const std::string& err() const { return stderr_.text; }

  struct Reader {
    UniqueFd read_end, write_end;
    std::string text;
  };
  Reader stdout_, stderr_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<OutputForwarder> forwarder_;
};

}  // namespace muster

#endif  // MUSTER_TESTS_SUPPORT_OUTPUT_OUTPUT_HARNESS_H_

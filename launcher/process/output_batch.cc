#include "launcher/process/output_batch.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace muster {

void OutputBatch::Begin(uint32_t rank, bool is_stderr, int64_t unix_ms) {
  held_.set_rank(rank);
  held_.set_is_stderr(is_stderr);
  held_.set_unix_ms(unix_ms);
  if (!host_.empty()) held_.set_host(host_);
}

void OutputBatch::Add(uint32_t rank, bool is_stderr, absl::string_view text) {
  if (held_.rank() != rank || held_.is_stderr() != is_stderr) Flush();
  const int64_t unix_ms = absl::ToUnixMillis(absl::Now());
  if (held_.text().empty()) Begin(rank, is_stderr, unix_ms);
  while (!text.empty()) {
    const size_t room = kMessageBytesMax - held_.text().size();
    // A line is not torn where it fits into the next message.
    size_t take = std::min(room, text.size());
    if (take < text.size()) {
      const size_t line_end = text.substr(0, take).rfind('\n');
      if (line_end != absl::string_view::npos) {
        take = line_end + 1;
      } else if (!held_.text().empty()) {
        take = 0;
      }
    }
    held_.mutable_text()->append(text.data(), take);
    text.remove_prefix(take);
    if (!text.empty()) {
      held_.set_continues(take > 0 && held_.text().back() != '\n');
      Flush();
      Begin(rank, is_stderr, unix_ms);
    }
  }
  if (posted_ || held_.text().empty()) return;
  posted_ = true;
  loop_->Post([this, alive = alive_] {
    if (!*alive) return;
    posted_ = false;
    Flush();
  });
}

void OutputBatch::Flush() {
  if (held_.text().empty()) return;
  v1::Output output;
  output.Swap(&held_);
  send_(std::move(output));
}

}  // namespace muster

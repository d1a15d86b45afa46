#include "launcher/process/output_batch.h"

#include <algorithm>

namespace muster {

void OutputBatch::Add(uint32_t rank, bool is_stderr, absl::string_view text) {
  if (held_.rank() != rank || held_.is_stderr() != is_stderr) Flush();
  held_.set_rank(rank);
  held_.set_is_stderr(is_stderr);
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
      Flush();
      held_.set_rank(rank);
      held_.set_is_stderr(is_stderr);
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

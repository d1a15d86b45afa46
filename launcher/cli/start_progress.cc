#include "launcher/cli/start_progress.h"

#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/cli/console.h"

namespace muster {
namespace {

constexpr absl::Duration kSlowStart = absl::Seconds(1);
constexpr absl::Duration kBetweenLines = absl::Milliseconds(200);
constexpr char kClear[] = "\r\033[K";

void WriteToTerminal(absl::string_view text) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

StartProgress::StartProgress(EventLoop* loop, int64_t workers) : loop_(loop), workers_(workers) {
  timer_ = loop_->After(kSlowStart, [this] { Show(); });
}

void StartProgress::Started(int64_t started) {
  started_ = started;
  if (started_ >= workers_) End();
}

void StartProgress::End() {
  if (!timer_) return;
  loop_->Cancel(*std::exchange(timer_, std::nullopt));
  if (shown_ && ::isatty(STDERR_FILENO) == 1) WriteToTerminal(kClear);
}

void StartProgress::Show() {
  const std::string text = absl::StrCat("starting: ", started_, " of ", workers_, " workers");
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  if (terminal) {
    WriteToTerminal(absl::StrCat(kClear, "muster: ", text));
  } else if (!shown_) {
    Say(text);
  }
  shown_ = true;
  timer_ = loop_->After(kBetweenLines, [this] { Show(); });
}

}  // namespace muster

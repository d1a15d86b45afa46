#include "runtime/base/log.h"

#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

void WriteToStderr(LogLevel level, absl::string_view line) {
  if (level == LogLevel::kInfo) return;
  const std::string text = absl::StrCat("muster: ", line, "\n");
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

LogSink& Sink() {
  static auto* sink = new LogSink(WriteToStderr);
  return *sink;
}

}  // namespace

void SetLogSink(LogSink sink) { Sink() = std::move(sink); }

void Log(LogLevel level, absl::string_view line) { Sink()(level, line); }

void CheckFailed(const char* file, int line, const char* condition, absl::string_view what) {
  Log(LogLevel::kError, absl::StrCat(file, ":", line, ": broken invariant: ", condition, " (", what, ")"));
  std::abort();
}

}  // namespace muster

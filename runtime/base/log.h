// One line per event to a sink that the program chooses.
#ifndef MUSTER_RUNTIME_BASE_LOG_H_
#define MUSTER_RUNTIME_BASE_LOG_H_

#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

// Error: a person must act. Warning: we coped. Info: membership, start, checkpoint, finish.
enum class LogLevel { kInfo, kWarning, kError };

using LogSink = std::function<void(LogLevel, absl::string_view line)>;

// Replaces the process's sink, which at first writes "muster: LINE\n" to stderr for warnings and errors in one write(2) and drops Info.
// Call before other threads start.
void SetLogSink(LogSink sink);

// Any thread.
void Log(LogLevel level, absl::string_view line);

}  // namespace muster

// A broken invariant: our bug. Prints the place and `what`, and aborts.
#define MUSTER_CHECK(condition, what)                                              \
  do {                                                                             \
    if (!(condition)) ::muster::CheckFailed(__FILE__, __LINE__, #condition, what); \
  } while (false)

namespace muster {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, absl::string_view what);
}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_LOG_H_

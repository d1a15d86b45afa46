#include "launcher/cli/console.h"

#include <errno.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "launcher/cli/own_environment.h"
#include "launcher/process/exit_codes.h"

namespace muster {
namespace {

bool WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t bytes = ::write(fd, text.data(), text.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return false;
    text.remove_prefix(static_cast<size_t>(bytes));
  }
  return true;
}

}  // namespace

void Say(absl::string_view text) { WriteAll(STDERR_FILENO, absl::StrCat("muster: ", text, "\n")); }

int UsageError(absl::string_view text) {
  Say(text);
  return kExitUsage;
}

bool ShowsColor(int fd) {
  const std::string terminal = Variable("TERM").value_or("");
  return ::isatty(fd) == 1 && Variable("NO_COLOR").value_or("").empty() && !terminal.empty() && terminal != "dumb";
}

int Print(absl::string_view text) { return WriteAll(STDOUT_FILENO, text) ? kExitOk : kExitBrokenPipe; }

}  // namespace muster

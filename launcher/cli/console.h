// muster's own words: on stderr, so that stdout is the workers' alone.
#ifndef MUSTER_LAUNCHER_CLI_CONSOLE_H_
#define MUSTER_LAUNCHER_CLI_CONSOLE_H_

#include "absl/strings/string_view.h"

namespace muster {

// "muster: TEXT\n" to stderr in one write.
void Say(absl::string_view text);

// Says what was wrong with the command line; returns kExitUsage.
int UsageError(absl::string_view text);

// Writes `text` to stdout in full; returns kExitOk, or kExitBrokenPipe if nobody reads it.
int Print(absl::string_view text);

// Whether colours may be written there: a terminal that shows them, and a user who has not set NO_COLOR (no-color.org).
bool ShowsColor(int fd);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_CONSOLE_H_

// How a job ends: its time limit, how kindly workers are ended, and when agents without a coordinator end theirs.
#ifndef MUSTER_LAUNCHER_CLI_RUN_ENDINGS_H_
#define MUSTER_LAUNCHER_CLI_RUN_ENDINGS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "launcher/cli/flags.h"
#include "launcher/process/endings.h"
#include "muster/v1/launch.pb.h"

namespace muster {

struct EndingOptions {
  double timeout_seconds = 0;        // 0: none
  double kill_grace_seconds = 0;     // 0: the default
  double failure_grace_seconds = 0;  // 0: the default
  double orphan_after_seconds = 0;   // 0: the default
  std::string stop_signal_name;      // empty: SIGTERM
  int stop_signal = 0;               // of that name, once settled; 0: SIGTERM

  absl::Duration kill_grace() const { return kill_grace_seconds > 0 ? absl::Seconds(kill_grace_seconds) : kKillGrace; }
  absl::Duration failure_grace() const {
    return failure_grace_seconds > 0 ? absl::Seconds(failure_grace_seconds) : kFailureGrace;
  }
};

void DeclareEndings(FlagSet* flags, EndingOptions* options);

// Fills in `stop_signal`. Errors: InvalidArgument with the flag and the remedy.
absl::Status SettleEndings(EndingOptions* options);

// What the coordinator and the agents are told; `timeout_seconds` is a field of Launch itself.
void AddEndings(const EndingOptions& options, v1::Launch* launch);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_ENDINGS_H_

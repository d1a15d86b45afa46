// Flags of `muster run` about hosts that are reached by ssh.
#ifndef MUSTER_LAUNCHER_CLI_RUN_SSH_H_
#define MUSTER_LAUNCHER_CLI_RUN_SSH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launcher/cli/flags.h"
#include "muster/v1/launch.pb.h"

namespace muster {

struct RunSshOptions {
  std::string command;               // the ssh client with its first arguments, words separated by spaces; empty: ssh
  std::vector<std::string> options;  // ssh_config's, "Port=2222"
  std::string remote_muster;         // empty: the path here, then PATH there
  int64_t fan_out = 0;               // 0: the default
  std::string listen;                // "ADDRESS" or "ADDRESS:PORT"; empty: all addresses
};

void DeclareSsh(FlagSet* flags, RunSshOptions* options);

// Whether they are well written, and belong to a job on hosts that `starter` reaches. Errors: InvalidArgument with the flag and the
// remedy.
absl::Status CheckSshOptions(const RunSshOptions& options, v1::Launch::Starter starter);

// Fills in what the coordinator is told. Errors: InvalidArgument with the flag and the remedy.
absl::Status TakeSshOptions(const RunSshOptions& options, v1::Launch* launch);

// `address` and `port` of "10.0.0.5", "10.0.0.5:4242", "fd00::5" or "[fd00::5]:4242". Errors: InvalidArgument.
absl::Status SplitListen(const std::string& text, v1::Launch* launch);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_SSH_H_

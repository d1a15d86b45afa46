// What is run to start an agent on another host: ssh's words here, a fixed command there, and all that a user chose by stdin.
//
// The far end's command goes through the login shell of the user there, which may be sh, bash, zsh, csh, tcsh, fish or another. It
// is therefore the same for every job: `exec /bin/sh -c '...'` with no quote, '!', backslash or newline between the quotes, which
// all of them read alike. Paths, names and tickets never stand in it: the shell script reads the two paths from its stdin, and
// `muster agent --stdin` the rest. So nothing that a user wrote is ever read as shell text.
//
// Source: ssh(1), ssh_config(5), POSIX.1-2017 read (takes no byte beyond its line).
#ifndef MUSTER_LAUNCHER_STARTER_SSH_COMMAND_H_
#define MUSTER_LAUNCHER_STARTER_SSH_COMMAND_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "muster/v1/start.pb.h"

namespace muster {

// What the lines of the far end begin with.
inline constexpr char kLineMark[] = "muster-line: ";
inline constexpr int kLineProtocol = 1;
inline constexpr size_t kLineBytesMax = 16 << 20;

// The command for the login shell of a host.
const std::string& RemoteCommand();

// The words of the ssh client for this host. First come the options that nobody may weaken (no prompt, host keys checked, nothing
// forwarded), since ssh takes the first value it is given; then the user's; then our defaults.
// Errors: InvalidArgument (CheckHost).
absl::StatusOr<std::vector<std::string>> SshWords(const v1::AgentStart& start);

// A host or user that ssh, or a ProxyCommand of the user's that names it (%h, %r), could take for something else is refused:
// what begins with '-' or holds other than letters, digits and a few marks. Errors: InvalidArgument.
absl::Status CheckHost(const std::string& host, const std::string& user);

// What the far end reads first: for ssh two lines with paths (`--remote-muster` or nothing, and this machine's own), then the
// AgentStart. A path with a newline is left out.
std::string FirstLines(const v1::AgentStart& start);

// An AgentStart as a line of text, its end included.
std::string AgentStartLine(const v1::AgentStart& start);
// The AgentStart in a line of text. Errors: InvalidArgument.
absl::StatusOr<v1::AgentStart> AgentStartFromLine(const std::string& line);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_SSH_COMMAND_H_

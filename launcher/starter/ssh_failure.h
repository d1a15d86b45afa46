// Why an agent could not be started by ssh, or its line broke, in one sentence with the host and the remedy.
//
// OpenSSH's client exits with 255 whatever the reason was, and so may what it ran; the reason stands only in its words on stderr,
// which are the same in every language. Where nothing is known its last line is passed on.
//
// Source: OpenSSH 7.4 to 9.8, sshconnect.c, ssh.c, sshconnect2.c, clientloop.c, packet.c.
#ifndef MUSTER_LAUNCHER_STARTER_SSH_FAILURE_H_
#define MUSTER_LAUNCHER_STARTER_SSH_FAILURE_H_

#include <string>

#include "muster/v1/start.pb.h"

namespace muster {

// What one start is known by when it is over.
struct SshEnd {
  int wait_status = 0;
  std::string errors;         // the last of what came on stderr
  bool found = false;         // the shell there has found a muster: `found_file`
  std::string found_file;
  bool missing = false;       // the shell there has found none in `searched_path`
  std::string searched_path;
  bool greeted = false;       // the far end has said its protocol and version
  bool timed_out = false;     // we have ended it, for it said nothing for too long
};

enum class SshRetry {
  kUseless,   // somebody must change something
  kLater,     // it may be there later: refused, cut off in the middle
  kSlowly,    // the same, but each try takes its time: no answer
};

struct SshFailure {
  std::string sentence;  // "node-b refuses ssh connections (...); start sshd there, ..."
  SshRetry retry = SshRetry::kUseless;
};

// The start of `start` has failed before its agent ran.
SshFailure DescribeFailedStart(const v1::AgentStart& start, const SshEnd& end);

// The line to a running agent is gone: "the ssh client that held it was killed by SIGKILL", "the ssh connection to it broke: ...".
std::string DescribeBrokenLine(const v1::AgentStart& start, const SshEnd& end);

// The last line of `text` that is not empty, at most 300 bytes of it, without what a terminal would act on.
std::string LastLine(const std::string& text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_SSH_FAILURE_H_

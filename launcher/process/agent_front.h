// The far end of a start (start.proto): `muster agent --stdin`, a process of one thread that starts this node's agent, and other
// nodes' where it is told to, and holds the lines to them.
//
// It says at once, with everything they have started, what has been told to end; also what is stopped, for it is not the agent
// itself. When it is killed its agent finds the end of a pipe and ends too. When it is stopped the end of its parent wakes it: sshd,
// which ends with the connection. Behind a connection that several share (ControlMaster) it wakes no earlier than that one ends.
#ifndef MUSTER_LAUNCHER_PROCESS_AGENT_FRONT_H_
#define MUSTER_LAUNCHER_PROCESS_AGENT_FRONT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/starter/child.h"
#include "launcher/starter/ssh_lines.h"
#include "muster/v1/start.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Descriptors of the agent that it starts.
inline constexpr int kFrontTicketFd = 3;
inline constexpr int kFrontLineFd = 4;  // its end is the front's

class AgentFront {
 public:
  // `program`: the path of this muster. `host`: who we are, where starts of several hosts come and one of them is for us; empty: the
  // first is. To be called while the process has one thread. Errors: those of the kernel.
  static absl::StatusOr<std::unique_ptr<AgentFront>> Create(std::string program, std::string host = "");

  // Greets, takes an AgentStart from stdin, and serves until nothing of it runs any more. Returns the exit status of the process.
  int Run();

 private:
  AgentFront(std::string program, std::string host) : program_(std::move(program)), host_(std::move(host)) {}

  void Say(const std::string& line);
  void OnInput();
  void TakeLine(absl::string_view text);
  void OnInputOver();
  absl::Status Begin();
  absl::Status StartAgent();
  void OnAgentEnded(int wait_status);
  void EndEverything();
  void OnSignal(int signal);
  void QuitIfIdle();

  const std::string program_;
  const std::string host_;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd signals_;
  std::string unread_;
  bool input_over_ = false;
  bool begun_ = false;
  v1::AgentStart start_;
  std::unique_ptr<Child> agent_;
  UniqueFd agent_line_;
  std::unique_ptr<SshLines> lines_;
  int exit_code_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_AGENT_FRONT_H_

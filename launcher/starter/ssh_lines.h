// Starts agents on other hosts by ssh and holds the lines to them: whoever is at the near end, the coordinator or a far end that
// starts others in turn (start.proto says what passes).
//
// A line is an ssh client's standard input and output. As long as it is held the far end lives; whatever ends us, kill -9 too, ends
// the line, and the far end with all it has started. A line ends with its ssh client, whose last words say why.
#ifndef MUSTER_LAUNCHER_STARTER_SSH_LINES_H_
#define MUSTER_LAUNCHER_STARTER_SSH_LINES_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/starter/line_child.h"
#include "launcher/starter/ssh_failure.h"
#include "muster/v1/start.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

// Belongs to the loop's thread, in which SIGPIPE is blocked. Callbacks come from the loop, never from inside a call.
class SshLines {
 public:
  // ssh clients that may log in at the same time; others wait. A login costs both ends about 0.2 s of a core.
  static constexpr size_t kLoginsMax = 32;

  struct Callbacks {
    // This node's agent runs.
    std::function<void(uint32_t node)> up;
    // It will not: it could not be started, or the host through which it was to be started could not.
    std::function<void(uint32_t node, const SshFailure& why)> failed;
    // It ran and does not any more: "killed by SIGKILL", "exited with 69", or what DescribeBrokenLine says.
    std::function<void(uint32_t node, const std::string& why)> ended;
    // The line to it is gone, but it lives on by its session: one that was started through another.
    std::function<void(uint32_t node)> adrift;
    // A line that the agent itself has written to its standard error.
    std::function<void(const std::string& line)> say;
  };
  SshLines(EventLoop* loop, Callbacks callbacks, absl::Duration obey_within = absl::Seconds(5));
  ~SshLines();  // EndAll

  // Starts this node and what it starts in turn. The node is not on a line of ours now.
  void Start(v1::AgentStart start);
  // Ends this node's agent at once; `ended` or `failed` follows. A far end that does not obey within `obey_within` is cut off. Nothing is done
  // for a node that is on no line or still waits for one.
  void End(uint32_t node);
  // Ends all at once; no callbacks follow. Waits at most so long for the ssh clients, then kills them.
  void EndAll(absl::Duration at_most);
  // Cuts all lines and says nothing to the far ends: those that may live on by their sessions do. No callbacks follow.
  void LetGo();
  bool empty() const { return lines_.empty() && waiting_.empty(); }
  // Nodes that are on a line or wait for one.
  size_t nodes() const { return on_line_.size(); }
  bool holds(uint32_t node) const { return on_line_.count(node) != 0; }

 private:
  struct Line {
    v1::AgentStart start;               // without its children
    std::unique_ptr<LineChild> client;  // null: it could not be started
    SshEnd end;
    std::map<uint32_t, bool> nodes;  // on it; whether they are up
    std::optional<SshFailure> failure;
    std::optional<EventLoop::TimerId> patience;  // for the greeting, then for obeying
  };

  void Enlist(const v1::AgentStart& start, Line* line);
  void StartWaiting();
  absl::Status Connect(const v1::AgentStart& start, Line* line);
  void TakeLine(Line* line, absl::string_view text);
  void LeaveLine(Line* line, uint32_t node);
  void Cut(Line* line);
  void Forget(int64_t end_ns);
  void OnClientEnded(Line* line, int wait_status);
  void Release(Line* line);
  bool is_logging_in(const Line& line) const { return line.client != nullptr && !line.end.greeted; }

  EventLoop* const loop_;
  const Callbacks callbacks_;
  const absl::Duration obey_within_;
  std::list<Line> lines_;
  std::deque<v1::AgentStart> waiting_;
  std::map<uint32_t, Line*> on_line_;  // null: waits
  size_t logins_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is posted
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_SSH_LINES_H_

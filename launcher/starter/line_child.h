// A child that is spoken with in lines: what holds the line to a far end (an ssh client, srun), or a far end itself.
#ifndef MUSTER_LAUNCHER_STARTER_LINE_CHILD_H_
#define MUSTER_LAUNCHER_STARTER_LINE_CHILD_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/starter/child.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Its standard input is written without waiting, its output and errors are read line by line. Lines that are longer than 64 KiB are
// none of ours and are dropped. Belongs to the loop's thread, in which SIGPIPE is blocked from the first one on. Callbacks come from
// the loop, never from inside a call, and may destroy the child.
class LineChild {
 public:
  struct Callbacks {
    std::function<void(absl::string_view line)> line;   // of its standard output, without the line's end
    std::function<void(absl::string_view line)> error;  // of its standard error
    // Once, after all its lines, with the status as of wait(2).
    std::function<void(int wait_status)> ended;
  };
  // `program`, `words`: as in ChildOptions. Errors: those of pipe2(2) and posix_spawn(3).
  static absl::StatusOr<std::unique_ptr<LineChild>> Start(EventLoop* loop, std::string program, std::vector<std::string> words,
                                                          Callbacks callbacks);
  // Kills it with what it has started, if it still runs, and waits for it; nothing is called any more.
  ~LineChild();

  // Queued until it reads; dropped when it does not read any more, for its end says why, and after CloseInput.
  void Write(absl::string_view text);
  // What it has not read by now it never will.
  void CloseInput();
  void Kill(int signal);
  // Waits for its end at most so long; true: it has ended, and nothing is called any more.
  bool AwaitEnd(absl::Duration at_most) { return child_->AwaitEnd(at_most); }
  // The last 8 KiB that it has written to its standard error, in lines.
  const std::string& errors() const { return errors_; }

 private:
  struct Source {
    UniqueFd fd;
    std::string unread;
    bool is_watched = false;
  };
  LineChild(EventLoop* loop, Callbacks callbacks) : loop_(loop), callbacks_(std::move(callbacks)) {}
  absl::Status Connect(std::string program, std::vector<std::string> words);
  void Flush();
  // False: a callback has destroyed us.
  bool Read(Source* source);
  bool Take(const Source* source, const std::string& line);
  void StopReading(Source* source);
  void OnEnded(int wait_status);

  EventLoop* const loop_;
  const Callbacks callbacks_;
  UniqueFd input_;
  std::string unwritten_;
  bool is_writing_ = false;
  Source output_, error_output_;
  std::string errors_;
  std::unique_ptr<Child> child_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for those who call what may destroy us
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_LINE_CHILD_H_

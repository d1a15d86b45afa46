#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/agent/output.h"
#include "launcher/agent/stdin_forwarder.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<OutputChannel> OpenOutputPipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe for a worker's output");
  return OutputChannel{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

absl::StatusOr<OutputChannel> OpenOutputPty(int terminal_fd) {
  UniqueFd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!master) return ErrnoToStatus(errno, "open a pty for a worker's output");
  char name[64];
  if (grantpt(master.get()) != 0 || unlockpt(master.get()) != 0 || ptsname_r(master.get(), name, sizeof name) != 0) {
    return ErrnoToStatus(errno, "unlock a pty for a worker's output");
  }
  UniqueFd slave(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave) return ErrnoToStatus(errno, absl::StrCat("open ", name));
  // Raw: bytes arrive as the worker wrote them; the terminal that muster writes to does the rest once.
  termios mode;
  if (tcgetattr(slave.get(), &mode) != 0) return ErrnoToStatus(errno, absl::StrCat("tcgetattr ", name));
  cfmakeraw(&mode);
  if (tcsetattr(slave.get(), TCSANOW, &mode) != 0) return ErrnoToStatus(errno, absl::StrCat("tcsetattr ", name));
  CopyWindowSize(terminal_fd, master.get());
  return OutputChannel{std::move(master), std::move(slave)};
}

void CopyWindowSize(int terminal_fd, int pty_fd) {
  winsize size = {};
  if (ioctl(terminal_fd, TIOCGWINSZ, &size) == 0) ioctl(pty_fd, TIOCSWINSZ, &size);
}

absl::StatusOr<StdinPipe> OpenStdinPipe() {
  MUSTER_ASSIGN_OR_RETURN(OutputChannel pipe, OpenOutputPipe());
  return StdinPipe{std::move(pipe.worker_end), std::move(pipe.our_end)};
}

absl::StatusOr<UniqueFd> OpenEmptyStdin() {
  UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null) return ErrnoToStatus(errno, "open /dev/null");
  return null;
}

}  // namespace muster

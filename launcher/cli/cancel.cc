// muster cancel: ends a job.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/job_argument.h"
#include "launcher/cli/job_text.h"
#include "launcher/cli/subcommand.h"
#include "launcher/process/exit_codes.h"
#include "runtime/base/clock.h"
#include "runtime/base/fd.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr char kUsage[] = R"(usage: muster cancel [JOB] [options]

Ends a job as SIGTERM to its `muster run` would: the workers are asked to end and killed after
5 seconds. Waits until the job is over and says how it ended. JOB is the beginning of a job's
id; without it the newest job. Where agents join by themselves (--starter join) SIGTERM would
mean that another coordinator takes this one's place, so it is ended as Ctrl-C would.

examples
  muster cancel
  muster cancel 4e52
  muster cancel 4e52 --now             the workers are killed at once; so does a second cancel
)";

constexpr absl::Duration kBetweenLooks = absl::Milliseconds(20);
constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr absl::Duration kSignalTaken = absl::Seconds(5);

// Whether the process has the job's lock file open: a number alone may meanwhile be another process's.
bool HoldsLock(pid_t process, const std::string& folder) {
  struct stat lock, open;
  if (::stat((folder + "/lock").c_str(), &lock) != 0) return false;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(absl::StrCat("/proc/", process, "/fd"), error)) {
    if (::stat(entry.path().c_str(), &open) == 0 && open.st_dev == lock.st_dev && open.st_ino == lock.st_ino) return true;
  }
  return false;
}

// The process that runs the job; the descriptor keeps meaning it. Errors: NotFound (nobody runs it any more), FailedPrecondition
// (it is not to be seen from here).
absl::StatusOr<UniqueFd> OpenOwner(const StoredJob& job) {
  UniqueFd owner(job.owner > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, job.owner, 0)) : -1);
  if (owner && HoldsLock(job.owner, job.folder)) {
    // Looked at by its number, so it must still be the one that was opened.
    pollfd ended = {owner.get(), POLLIN, 0};
    if (::poll(&ended, 1, 0) == 0) return owner;
  }
  if (!IsHeld(job.folder)) return absl::NotFoundError("nobody runs the job any more");
  return absl::FailedPreconditionError(absl::StrCat("job ", job.brief(), " runs, but not its process ", job.owner,
                                                    " is to be seen from here: is it another container's or user's?"));
}

// Whether `signal` was sent to the process and not taken yet. Source: proc(5), ShdPnd of /proc/PID/status.
bool IsPending(pid_t process, int signal) {
  std::ifstream status(absl::StrCat("/proc/", process, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (!absl::StartsWith(line, "ShdPnd:")) continue;
    return (std::strtoull(line.c_str() + sizeof "ShdPnd:" - 1, nullptr, 16) >> (signal - 1) & 1) != 0;
  }
  return false;
}

// A second signal means now; two that are pending at once would be one.
absl::Status Terminate(const StoredJob& job, bool now) {
  MUSTER_ASSIGN_OR_RETURN(const UniqueFd owner, OpenOwner(job));
  const int signal = job.status.agents_join ? SIGINT : SIGTERM;
  const int64_t begin = MonotonicNanoseconds();
  for (int i = 0; i < (now ? 2 : 1); ++i) {
    while (i > 0 && IsPending(job.owner, signal) && absl::Nanoseconds(MonotonicNanoseconds() - begin) < kSignalTaken)
      absl::SleepFor(kBetweenLooks);
    if (::syscall(SYS_pidfd_send_signal, owner.get(), signal, nullptr, 0) == 0) continue;
    if (errno == ESRCH) return i > 0 ? absl::OkStatus() : absl::NotFoundError("nobody runs the job any more");
    return ErrnoToStatus(errno, absl::StrCat("cannot signal process ", job.owner, " of job ", job.brief()));
  }
  return absl::OkStatus();
}

FlagSet Declare(bool* now) {
  FlagSet flags("muster cancel");
  flags.Switch("--now", now, "kill the workers at once");
  return flags;
}

}  // namespace

HelpPage CancelPage() {
  bool unused = false;
  return {.before = kUsage, .flags = Declare(&unused).Describe(), .operand = Operand::kJob};
}

int CancelCommand(const std::vector<std::string>& arguments) {
  bool now = false;
  FlagSet flags = Declare(&now);
  StoredJob job;
  int exit_code = 0;
  if (!TakeJobArgument(&flags, arguments, CancelPage(), &job, &exit_code)) return exit_code;
  const auto is_over = [&](absl::string_view before) {
    const StoredJob ended = ReadJob(job.folder);
    Say(absl::StrCat("job ", job.brief(), before, HowItEnded(ended)));
    return kExitOk;
  };
  if (!job.held) return is_over(" is over already: ");
  const absl::Status sent = Terminate(job, now);
  if (absl::IsNotFound(sent)) return is_over(" is over already: ");
  if (!sent.ok()) {
    Say(sent.message());
    return kExitInternal;
  }
  const int64_t begin = MonotonicNanoseconds();
  while (IsHeld(job.folder)) {
    if (absl::Nanoseconds(MonotonicNanoseconds() - begin) > kPatience) {
      Say(absl::StrCat("job ", job.brief(), " was asked to end and has not for ", absl::FormatDuration(kPatience),
                       "; muster status ", job.brief(), " shows it, ",
                       now ? absl::StrCat("kill -9 ", job.owner, " ends it whatever it does")
                           : absl::StrCat("muster cancel --now ", job.brief(), " asks with force")));
      return kExitTimeout;
    }
    absl::SleepFor(kBetweenLooks);
  }
  return is_over(" has ended: ");
}

}  // namespace muster

#include "launcher/coordinator/cause.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "absl/strings/str_cat.h"

namespace muster {

int ExitCodeOf(const v1::Ending& ending) {
  switch (ending.kind()) {
    case v1::Ending::EXITED:
      return ending.code();
    case v1::Ending::SIGNALED:
      return 128 + ending.code();
    case v1::Ending::OUT_OF_MEMORY:
      return 128 + SIGKILL;
    case v1::Ending::NOT_FOUND:
      return 127;
    case v1::Ending::NOT_EXECUTABLE:
    case v1::Ending::SPAWN_FAILED:
      return 126;
    case v1::Ending::OUTPUT_FAILED:
      return 73;
    default:
      return kExitInternal;
  }
}

bool IsRankOwn(v1::Ending::Kind kind) {
  return kind == v1::Ending::EXITED || kind == v1::Ending::SIGNALED || kind == v1::Ending::OUT_OF_MEMORY;
}

std::string NameRank(uint32_t rank, const std::string& program, const std::string& host) {
  return absl::StrCat("rank ", rank, program.empty() ? "" : absl::StrCat(" (", program, ")"), " on host ", host);
}

std::string AtStep(int64_t step) { return step < 0 ? "" : absl::StrCat(" at step ", step); }

void DescribeEnding(const v1::Ending& ending, const std::string& who, const std::string& at_step, Cause& cause) {
  cause.exit_code = ExitCodeOf(ending);
  if (IsRankOwn(ending.kind())) cause.worker_exit_code = cause.exit_code;
  cause.program_error = ending.program_error();
  cause.program_trace = ending.program_trace();
  const std::string said = ending.program_error().empty() ? "" : absl::StrCat(": ", ending.program_error());
  switch (ending.kind()) {
    case v1::Ending::EXITED:
      cause.failure_class = "exit code";
      cause.sentence = absl::StrCat(who, " exited with code ", ending.code(), at_step, said);
      break;
    case v1::Ending::SIGNALED:
      cause.failure_class = "signal";
      cause.signal = ending.code();
      cause.sentence = absl::StrCat(who, " was killed by signal ", ending.code(), " (", SignalName(ending.code()), ")", at_step,
                                    ending.detail().empty() ? "" : ": ", ending.detail(), said);
      break;
    case v1::Ending::OUT_OF_MEMORY:
      cause.failure_class = "out of memory";
      cause.signal = SIGKILL;
      cause.sentence = absl::StrCat(who, " was killed by the kernel for want of memory (", ending.detail(), ")", at_step,
                                    ": start fewer ranks on this host or raise the limit");
      break;
    case v1::Ending::NOT_FOUND:
      cause.failure_class = "not found";
      cause.sentence = absl::StrCat("the program of rank ", cause.rank, " was not found on host ", cause.host, " (",
                                    ending.detail(), "): check its name, or give a path such as ./train");
      break;
    case v1::Ending::NOT_EXECUTABLE:
      cause.failure_class = "not executable";
      cause.sentence =
          absl::StrCat("the program of rank ", cause.rank, " cannot be executed on host ", cause.host, " (", ending.detail(),
                       ": ", strerror(ending.code()), "): ",
                       ending.code() == ENOEXEC ? "it is no program for this machine, or a script without its #! line"
                                                : "make it executable with chmod +x");
      break;
    case v1::Ending::SPAWN_FAILED:
      cause.failure_class = "not started";
      cause.sentence = absl::StrCat(who, " could not be started (", ending.detail(), ": ", strerror(ending.code()), ")");
      break;
    case v1::Ending::OUTPUT_FAILED:
      cause.rank = -1;
      cause.failure_class = "cannot write output";
      cause.sentence = absl::StrCat("the workers' output cannot be written on host ", cause.host, ": ", ending.detail(),
                                    "; choose another --output-filename");
      break;
    case v1::Ending::TIMED_OUT:
      cause.failure_class = "not started";
      cause.sentence = absl::StrCat(who, " was not started in time (", ending.detail(), ")");
      break;
    case v1::Ending::GUARD_LOST:
      cause.rank = -1;
      cause.failure_class = "guard lost";
      cause.sentence = absl::StrCat("the guard process on host ", cause.host, " died, and its workers were ended", at_step);
      break;
    default:
      cause.failure_class = "unknown";
      cause.sentence = absl::StrCat(who, " ended and nothing is known of how", at_step);
  }
}

std::string SignalName(int signal) {
  const char* name = sigabbrev_np(signal);
  return name == nullptr ? absl::StrCat("signal ", signal) : absl::StrCat("SIG", name);
}

}  // namespace muster

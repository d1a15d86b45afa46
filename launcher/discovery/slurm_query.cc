#include "launcher/discovery/slurm_query.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "launcher/labels/labels.h"
#include "runtime/base/clock.h"
#include "runtime/base/fd.h"

extern char** environ;

namespace muster {
namespace {

// Reads until the end, the limit or the deadline. Returns whether the end came.
bool ReadAll(int fd, int64_t deadline_ns, std::string* text) {
  while (text->size() <= kLabelFileBytesMax) {
    const int64_t left_ms = (deadline_ns - MonotonicNanoseconds()) / 1'000'000;
    pollfd ready = {fd, POLLIN, 0};
    if (left_ms <= 0) return false;
    if (::poll(&ready, 1, static_cast<int>(left_ms)) <= 0) continue;
    char bytes[65536];
    const ssize_t read = ::read(fd, bytes, sizeof bytes);
    if (read < 0 && errno == EINTR) continue;
    if (read <= 0) return read == 0;
    text->append(bytes, static_cast<size_t>(read));
  }
  return false;
}

}  // namespace

absl::StatusOr<std::string> ShowSlurmTopology(absl::Duration at_most, const std::string& scontrol) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError(absl::StrCat("pipe2: ", std::strerror(errno)));
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, to.get(), 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  std::string name = scontrol, show = "show", topology = "topology";
  char* words[] = {name.data(), show.data(), topology.data(), nullptr};
  pid_t child = -1;
  const int error = ::posix_spawnp(&child, name.c_str(), &actions, nullptr, words, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return absl::NotFoundError(absl::StrCat("there is no ", scontrol, " here: ", std::strerror(error)));
  to.Reset();
  std::string text;
  const bool ended = ReadAll(from.get(), MonotonicNanoseconds() + absl::ToInt64Nanoseconds(at_most), &text);
  if (!ended) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended)
    return absl::UnavailableError(
        absl::StrCat(scontrol, " show topology does not answer within ", absl::FormatDuration(at_most)));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return absl::UnavailableError(absl::StrCat(scontrol, " show topology fails"));
  if (absl::StripAsciiWhitespace(text).empty()) {
    return absl::UnavailableError(absl::StrCat(scontrol, " show topology names no switches: Slurm knows no network here"));
  }
  return text;
}

}  // namespace muster

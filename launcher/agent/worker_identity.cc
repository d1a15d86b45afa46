#include "launcher/agent/worker_identity.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/fd.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// Deeper than any process tree: ends the walk should /proc change under it.
constexpr int kGenerationsMax = 10'000;

std::string ReadStat(pid_t pid) {
  UniqueFd file(::open(absl::StrCat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return "";
  char text[1024];
  const ssize_t bytes = ::read(file.get(), text, sizeof text);
  return bytes <= 0 ? "" : std::string(text, static_cast<size_t>(bytes));
}

}  // namespace

absl::StatusOr<PeerIdentity> IdentifyPeer(int socket) {
  ucred credentials = {};
  socklen_t length = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return ErrnoToStatus(errno, "SO_PEERCRED");
  return PeerIdentity{credentials.pid, credentials.uid};
}

pid_t ParentIn(absl::string_view stat) {
  // "PID (NAME) STATE PPID ...": the last parenthesis ends the name.
  const size_t name_end = stat.rfind(')');
  if (name_end == absl::string_view::npos) return 0;
  const std::vector<absl::string_view> fields = absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
  int parent = 0;
  return fields.size() >= 2 && absl::SimpleAtoi(fields[1], &parent) ? parent : 0;
}

bool DescendsFrom(pid_t pid, pid_t ancestor) {
  for (int i = 0; i < kGenerationsMax && pid > 0; ++i) {
    if (pid == ancestor) return true;
    pid = ParentIn(ReadStat(pid));
  }
  return false;
}

}  // namespace muster

#include "launcher/guard/process_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "runtime/base/fd.h"

namespace muster::guard {
namespace {

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = 0;
  uint64_t start_ticks = 0;  // with the pid: who it is, however pids are reused
};

int64_t NowMilliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// One line of /proc/PID/stat (proc(5)); false if the process is gone.
bool ReadProcess(int proc, const char* pid, Process* process) {
  char path[32];
  snprintf(path, sizeof path, "%.20s/stat", pid);
  UniqueFd file(openat(proc, path, O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  char text[1024];
  const ssize_t bytes = read(file.get(), text, sizeof text - 1);
  if (bytes <= 0) return false;
  text[bytes] = '\0';
  // The name may hold anything, spaces and parentheses included; what follows its last parenthesis is plain.
  const char* fields = strrchr(text, ')');
  if (fields == nullptr) return false;
  int parent = 0;
  char state = 0;
  unsigned long long start = 0;
  constexpr char kFormat[] = ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu";
  if (sscanf(fields, kFormat, &state, &parent, &start) != 3) return false;
  *process = {.pid = static_cast<pid_t>(atoi(pid)), .parent = parent, .state = state, .start_ticks = start};
  return true;
}

UniqueFd OpenProc() { return UniqueFd(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }

std::vector<Process> ReadAllProcesses() {
  std::vector<Process> processes;
  DIR* folder = opendir("/proc");
  if (folder == nullptr) return processes;
  while (const dirent* entry = readdir(folder)) {
    Process process;
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    if (ReadProcess(dirfd(folder), entry->d_name, &process)) processes.push_back(process);
  }
  closedir(folder);
  return processes;
}

// Descendants of the caller, each parent before its children.
std::vector<Process> Descendants(const std::vector<pid_t>& spared) {
  std::unordered_map<pid_t, std::vector<Process>> children;
  for (const Process& process : ReadAllProcesses()) children[process.parent].push_back(process);
  std::vector<Process> found;
  for (const Process& child : children[getpid()]) {
    if (std::find(spared.begin(), spared.end(), child.pid) == spared.end()) found.push_back(child);
  }
  // The snapshot was not taken at one moment: reused pids could make a ring of parents.
  std::unordered_set<pid_t> seen;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!seen.insert(found[i].pid).second) continue;
    const auto next = children.find(found[i].pid);
    if (next != children.end()) found.insert(found.end(), next->second.begin(), next->second.end());
  }
  return found;
}

enum class Killed { kYes, kGone, kForbidden };

// Kills exactly this process: the pidfd pins one process, and only if that is still the one that was listed is it signalled.
Killed KillProcess(int proc, const Process& process, UniqueFd* pidfd) {
  pidfd->Reset(static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0)));
  if (!*pidfd) return Killed::kGone;
  Process now;
  if (!ReadProcess(proc, std::to_string(process.pid).c_str(), &now) || now.start_ticks != process.start_ticks)
    return Killed::kGone;
  if (syscall(SYS_pidfd_send_signal, pidfd->get(), SIGKILL, nullptr, 0) == 0) return Killed::kYes;
  return errno == EPERM ? Killed::kForbidden : Killed::kGone;
}

// Numbers in /proc are those of the namespace it was mounted for; where that is not ours they would name the wrong processes.
bool ProcIsOurs() {
  char pid[32] = {};
  return readlink("/proc/self", pid, sizeof pid - 1) > 0 && atoi(pid) == getpid();
}

void AppendNumbers(const std::string& path, std::vector<pid_t>* numbers) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char buffer[4096];
  for (ssize_t bytes; file && (bytes = read(file.get(), buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(bytes));
  char* next = text.data();
  for (char* end = next; *next != '\0'; next = end) {
    const long number = strtol(next, &end, 10);
    if (end == next || number <= 0) break;
    numbers->push_back(static_cast<pid_t>(number));
  }
}

// The caller's children, dead but unreaped ones included, from the short file that each thread has for its own; from all of
// /proc where the kernel was built without CONFIG_PROC_CHILDREN.
std::vector<pid_t> ListChildren() {
  std::vector<pid_t> children;
  if (access("/proc/thread-self/children", R_OK) == 0) {
    DIR* threads = opendir("/proc/self/task");
    while (const dirent* entry = threads != nullptr ? readdir(threads) : nullptr) {
      if (entry->d_name[0] != '.') AppendNumbers(std::string("/proc/self/task/") + entry->d_name + "/children", &children);
    }
    if (threads != nullptr) closedir(threads);
    return children;
  }
  for (const Process& process : ReadAllProcesses()) {
    if (process.parent == getpid()) children.push_back(process.pid);
  }
  return children;
}

class Ending {
 public:
  Ending(const std::vector<pid_t>& spared, const Reaped& reaped) : spared_(spared), reaped_(reaped), proc_(OpenProc()) {}

  enum class Result { kNoneLeft, kGoOn, kForbidden };

  // A process that forks and exits in a circle has another pid every tenth of a millisecond: only a round as short as this one,
  // over the own children and nothing else, catches it. Every orphan comes here, so no child left means no descendant left.
  Result KillChildren() {
    size_t alive = 0, forbidden = 0;
    bool progress = false;
    for (const pid_t pid : ListChildren()) {
      if (std::find(spared_.begin(), spared_.end(), pid) != spared_.end()) continue;
      int status = 0;
      ++alive;
      // Nobody else reaps them, so the pid is still theirs.
      if (kill(pid, SIGKILL) != 0 && errno == EPERM) ++forbidden;
      if (waitpid(pid, &status, WNOHANG) == pid) {
        signalled_.erase(pid);
        progress = true;
        if (reaped_) reaped_(pid, status);
      } else {
        progress |= signalled_.insert(pid).second;
      }
    }
    if (alive == 0) return Result::kNoneLeft;
    if (progress && ++rounds_ % kRoundsBetweenListings != 0) return Result::kGoOn;
    return KillBelow(forbidden == alive);
  }

 private:
  static constexpr int kRoundsBetweenListings = 64;

  // The deeper ones too, rather than one generation after the other.
  Result KillBelow(bool children_forbidden) {
    size_t killed = 0;
    UniqueFd dying;
    for (const Process& process : Descendants(spared_)) {
      UniqueFd pidfd;
      if (process.state == 'Z' || KillProcess(proc_.get(), process, &pidfd) != Killed::kYes) continue;
      ++killed;
      dying = std::move(pidfd);
    }
    if (killed == 0 && children_forbidden) return Result::kForbidden;
    // All have their signal: wait for one of the dying. The bound is for what another death may set free meanwhile.
    pollfd ended = {.fd = dying.get(), .events = POLLIN, .revents = 0};
    poll(&ended, 1, 2);
    return Result::kGoOn;
  }

  const std::vector<pid_t>& spared_;
  const Reaped& reaped_;
  const UniqueFd proc_;
  std::unordered_set<pid_t> signalled_;
  int rounds_ = 0;
};

}  // namespace

bool EndDescendants(const std::vector<pid_t>& spared, int timeout_ms, const Reaped& reaped) {
  if (!ProcIsOurs()) return false;
  const int64_t deadline = NowMilliseconds() + timeout_ms;
  // Against many that fork as fast as they can, a fair share of the processor is too little; refused without the right to it.
  const int nice = getpriority(PRIO_PROCESS, 0);
  setpriority(PRIO_PROCESS, 0, -20);
  Ending ending(spared, reaped);
  Ending::Result result;
  do {
    result = ending.KillChildren();
  } while (result == Ending::Result::kGoOn && (timeout_ms < 0 || NowMilliseconds() < deadline));
  setpriority(PRIO_PROCESS, 0, nice);
  return result == Ending::Result::kNoneLeft;
}

void EndNamespace(const Reaped& reaped) {
  // The kernel signals all under one lock, and a process with a signal pending cannot finish a fork: one call reaches everyone.
  kill(-1, SIGKILL);
  int status = 0;
  while (true) {
    const pid_t pid = waitpid(-1, &status, 0);
    if (pid > 0 && reaped) reaped(pid, status);
    if (pid < 0 && errno != EINTR) return;
  }
}

std::vector<pid_t> Children() { return ListChildren(); }

void RemoveFolder(const char* path) {
  constexpr int kOpenFoldersMax = 16;
  nftw(
      path,
      [](const char* entry, const struct stat*, int, struct FTW*) {
        remove(entry);
        return 0;
      },
      kOpenFoldersMax, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

pid_t ForkIntoNamespace() {
  return static_cast<pid_t>(syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
}

int MountNamespaceProc() {
  if (mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return errno;
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) return errno;
  return 0;
}

}  // namespace muster::guard

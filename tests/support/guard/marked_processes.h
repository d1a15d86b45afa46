// Finding and awaiting processes by a mark in their environment, whoever their parent is by now.
#ifndef MUSTER_TESTS_SUPPORT_GUARD_MARKED_PROCESSES_H_
#define MUSTER_TESTS_SUPPORT_GUARD_MARKED_PROCESSES_H_

#include <dirent.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/base/fd.h"

namespace muster {

// Processes whose environment holds `mark`; the dead have none.
inline std::vector<pid_t> FindMarked(const std::string& mark) {
  std::vector<pid_t> found;
  DIR* folder = opendir("/proc");
  while (const dirent* entry = folder != nullptr ? readdir(folder) : nullptr) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    std::ifstream file(std::string("/proc/") + entry->d_name + "/environ");
    std::stringstream text;
    text << file.rdbuf();
    if (text.str().find(mark) != std::string::npos) found.push_back(static_cast<pid_t>(std::stol(entry->d_name)));
  }
  if (folder != nullptr) closedir(folder);
  return found;
}

// Waits until no process with the mark is left; returns those that are after `limit`.
inline std::vector<pid_t> AwaitNoMarked(const std::string& mark, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (true) {
    const std::vector<pid_t> found = FindMarked(mark);
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (found.empty() || left <= 0) return found;
    for (const pid_t pid : found) {
      const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
      pollfd ended = {.fd = pidfd.get(), .events = POLLIN, .revents = 0};
      if (pidfd.valid()) poll(&ended, 1, static_cast<int>(left));
    }
  }
}

}  // namespace muster

#endif  // MUSTER_TESTS_SUPPORT_GUARD_MARKED_PROCESSES_H_

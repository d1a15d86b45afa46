#include "launcher/guard/shared_memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>

#include "launcher/guard/process_tree.h"

namespace muster::guard {
namespace {

constexpr char kFolder[] = "/dev/shm";
// Of MPICH 4.0, UCX 1.13, Open MPI 4.1 (its shared-memory transport, one-sided windows, a probe) and 5.0.
constexpr const char* kPrefixes[] = {"mpich_shar_tmp", "ucx_shm_posix_", "vader_segment.", "sm_segment.",
                                     "osc_sm.",        "osc_rdma.",      "open_mpi."};

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

bool HasSuchName(const char* name) {
  for (const char* prefix : kPrefixes) {
    if (strncmp(name, prefix, strlen(prefix)) == 0) return true;
  }
  return false;
}

// Paths of files that a killed program may have left.
std::set<std::string> Candidates(int64_t since_ns) {
  std::set<std::string> found;
  const Folder folder(opendir(kFolder));
  while (const dirent* entry = folder ? readdir(folder.get()) : nullptr) {
    struct stat file;
    if (!HasSuchName(entry->d_name)) continue;
    if (fstatat(dirfd(folder.get()), entry->d_name, &file, AT_SYMLINK_NOFOLLOW) != 0) continue;
    const int64_t changed_ns = int64_t{file.st_ctim.tv_sec} * 1'000'000'000 + file.st_ctim.tv_nsec;
    if (S_ISREG(file.st_mode) && file.st_uid == geteuid() && changed_ns >= since_ns) {
      found.insert(std::string(kFolder) + "/" + entry->d_name);
    }
  }
  return found;
}

// Without those that the process has mapped.
void KeepMapped(const std::string& process, std::set<std::string>* paths) {
  FILE* const maps = fopen((process + "/maps").c_str(), "re");
  if (maps == nullptr) return;
  char* line = nullptr;
  size_t size = 0;
  while (getline(&line, &size, maps) > 0) {
    const char* const path = strstr(line, kFolder);
    if (path == nullptr) continue;
    std::string name = path;
    while (!name.empty() && name.back() == '\n') name.pop_back();
    paths->erase(name);
  }
  free(line);
  fclose(maps);
}

// And without those that it has open.
void KeepOpen(const std::string& process, std::set<std::string>* paths) {
  const std::string descriptors = process + "/fd";
  const Folder folder(opendir(descriptors.c_str()));
  while (const dirent* entry = folder ? readdir(folder.get()) : nullptr) {
    char path[512];
    const ssize_t length = readlinkat(dirfd(folder.get()), entry->d_name, path, sizeof path);
    if (length > 0) paths->erase(std::string(path, static_cast<size_t>(length)));
  }
}

}  // namespace

std::string SharedMemoryFolder(const std::string& session_folder) {
  const size_t name = session_folder.rfind('/');
  return std::string(kFolder) + "/" + session_folder.substr(name == std::string::npos ? 0 : name + 1);
}

void RemoveSharedMemory(const std::string& session_folder, int64_t since_ns) {
  if (!session_folder.empty()) RemoveFolder(SharedMemoryFolder(session_folder).c_str());
  std::set<std::string> paths = Candidates(since_ns);
  if (paths.empty()) return;
  const Folder processes(opendir("/proc"));
  if (!processes) return;
  while (const dirent* entry = readdir(processes.get())) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    const std::string process = std::string("/proc/") + entry->d_name;
    // In this order: whoever makes such a file has it open, then mapped as well, and closes it after that.
    KeepOpen(process, &paths);
    KeepMapped(process, &paths);
  }
  for (const std::string& path : paths) unlink(path.c_str());
}

int64_t FileTimeNow() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace muster::guard

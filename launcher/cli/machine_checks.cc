#include "launcher/cli/machine_checks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/agent/machine.h"
#include "launcher/agent/reserved_port.h"
#include "launcher/cli/own_environment.h"
#include "launcher/cli/program.h"
#include "launcher/guard/cover.h"
#include "launcher/job/job_folder.h"
#include "launcher/mpi/loopback.h"
#include "runtime/base/fd.h"

namespace muster {
namespace {

#ifndef SYS_futex_waitv
constexpr long kFutexWaitv = 449;
#else
constexpr long kFutexWaitv = SYS_futex_waitv;
#endif

Check Ok(std::string name, std::string finding) { return {std::move(name), CheckLevel::kOk, std::move(finding), ""}; }
Check Warning(std::string name, std::string finding, std::string remedy) {
  return {std::move(name), CheckLevel::kWarning, std::move(finding), std::move(remedy)};
}
Check Failure(std::string name, std::string finding, std::string remedy) {
  return {std::move(name), CheckLevel::kFailure, std::move(finding), std::move(remedy)};
}

// Runs `body` in a child; its result (0..255), or -1.
int InChild(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

Check CheckSharedMemory() {
  constexpr char kName[] = "shared memory";
  constexpr char kRemedy[] = "collectives need memfd_create and file seals: allow them in the container's seccomp profile";
  const UniqueFd memory(::memfd_create("muster-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) return Failure(kName, absl::StrCat("memfd_create: ", std::strerror(errno)), kRemedy);
  if (::posix_fallocate(memory.get(), 0, 1 << 20) != 0) {
    return Failure(kName, "1 MiB of a memfd cannot be allocated", "raise the memory limit of the container or cgroup");
  }
  if (::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 || ::ftruncate(memory.get(), 0) == 0) {
    return Failure(kName, "file seals do not hold", kRemedy);
  }
  return Ok(kName, "memfd and its seals work");
}

Check CheckFutexWaitv() {
  constexpr char kName[] = "futex_waitv";
  // No word to wait for is EINVAL where the call exists.
  ::syscall(kFutexWaitv, nullptr, 0, 0, nullptr, 0);
  if (errno == EINVAL) return Ok(kName, "one thread watches all workers");
  return Warning(kName, absl::StrCat("not to be had (", std::strerror(errno), "), so one thread watches each worker"),
                 "Linux 5.16 or later has it; container runtimes may have to allow it");
}

Check CheckRobustFutex() {
  constexpr char kName[] = "robust futex";
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Failure(kName, "4 KiB cannot be mapped", "raise the memory limit");
  auto* mutex = static_cast<pthread_mutex_t*>(memory);
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  ::pthread_mutex_init(mutex, &attributes);
  const int locked = InChild([mutex] { return ::pthread_mutex_lock(mutex); });
  const int result = locked == 0 ? ::pthread_mutex_trylock(mutex) : -1;
  ::munmap(memory, 4096);
  if (result == EOWNERDEAD) return Ok(kName, "a worker's death is seen in a tenth of a millisecond");
  return Warning(kName, "the kernel does not tell of a lock whose owner died, so deaths are seen by pidfd, 25 ms later per GiB",
                 "allow set_robust_list in the container's seccomp profile");
}

Check CheckPidfd() {
  constexpr char kName[] = "pidfd";
  const UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (self) return Ok(kName, "processes are named without a race");
  return Failure(kName, absl::StrCat("pidfd_open: ", std::strerror(errno)),
                 "Linux 5.3 or later has it; allow it in the seccomp profile");
}

std::string StatusLine(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, key)) return line.substr(line.find_first_not_of(" \t", key.size()));
  }
  return "";
}

Check CheckSeccomp() {
  constexpr char kName[] = "seccomp";
  ::syscall(SYS_io_uring_setup, 0, nullptr);  // EINVAL or EFAULT where it may be called
  const bool io_uring = errno != EPERM && errno != ENOSYS && errno != EACCES;
  const std::string uring = io_uring ? "io_uring allowed" : "io_uring blocked (muster does not need it)";
  const std::string mode = StatusLine("Seccomp:");
  return Ok(kName, absl::StrCat(mode == "0" || mode.empty() ? "no filter; " : "a filter is active; ", uring));
}

// Workers are siblings: one child reads from another.
Check CheckProcessVmReadv() {
  constexpr char kName[] = "process_vm_readv";
  static const uint64_t secret = 0x6d7573746572;
  int gate[2];
  if (::pipe2(gate, O_CLOEXEC) != 0) return Warning(kName, std::strerror(errno), "raise the limit of open files (ulimit -n)");
  const pid_t sibling = ::fork();
  if (sibling == 0) {
    char end;
    ::close(gate[1]);
    [[maybe_unused]] const ssize_t bytes = ::read(gate[0], &end, 1);  // until the parent closes the gate
    ::_exit(0);
  }
  const int result = InChild([sibling] {
    uint64_t copy = 0;
    const iovec here{&copy, sizeof copy};
    const iovec there{const_cast<uint64_t*>(&secret), sizeof secret};
    if (::process_vm_readv(sibling, &here, 1, &there, 1, 0) == sizeof copy && copy == secret) return 0;
    return errno == 0 ? 255 : errno;
  });
  ::close(gate[0]);
  ::close(gate[1]);
  if (sibling > 0) ::waitpid(sibling, nullptr, 0);
  if (result == 0) return Ok(kName, "ranks may read each other's private buffers");
  return Warning(kName,
                 absl::StrCat("ranks may not read each other's memory (", result > 0 ? std::strerror(result) : "unknown error",
                              "), so private buffers go through shared memory"),
                 "set kernel.yama.ptrace_scope to 0 or grant CAP_SYS_PTRACE if that speed matters");
}

Check CheckMemory() {
  const MemoryLimit limit = FindMemoryLimit();
  const std::string machine = absl::StrCat(HumanBytes(limit.machine_bytes), " in the machine");
  if (!limit.cgroup_bytes) return Ok("memory", absl::StrCat(machine, "; no cgroup limit"));
  const std::string text = absl::StrCat(HumanBytes(limit.bytes()), " may be used (", limit.cgroup_file, "); ", machine);
  if (limit.bytes() >= int64_t{256} << 20) return Ok("memory", text);
  return Warning("memory", text, "raise the limit of the container or cgroup");
}

Check CheckCores() {
  const UsableCores cores = FindUsableCores();
  const std::string affinity = absl::StrCat(cores.affinity, cores.affinity == 1 ? " core" : " cores");
  if (!cores.quota) return Ok("cores", absl::StrCat(affinity, "; no cgroup quota"));
  const std::string text =
      absl::StrFormat("%s; cgroup quota of %.3g cores; default -np %d", affinity, *cores.quota, cores.count());
  if (*cores.quota >= cores.affinity) return Ok("cores", text);
  return Warning("cores", text, "with more ranks than the quota they wait for each other; raise it or start fewer");
}

constexpr unsigned kAnswerSeconds = 5;

// Of what `program` writes; empty where it does not end well, or not soon.
std::string FirstLineOf(const std::string& program, const char* argument) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "";
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(write_end.get(), STDOUT_FILENO);
    ::alarm(kAnswerSeconds);  // outlives exec: whatever it hangs in, the kernel ends it
    ::execl(program.c_str(), program.c_str(), argument, nullptr);
    ::_exit(127);
  }
  write_end.Reset();
  char text[256] = {};
  const ssize_t bytes = ::read(read_end.get(), text, sizeof text - 1);
  int status = 0;
  if (pid < 0 || ::waitpid(pid, &status, 0) != pid || status != 0 || bytes <= 0) return "";
  const std::string line = text;
  return line.substr(0, line.find('\n'));
}

Check CheckCover() {
  const CoverReport report = ProbeTreeCover();
  if (report.cover != TreeCover::kSubreaper) return Ok("kill cover", report.reason);
  return Warning("kill cover", report.reason,
                 "all is ended all the same unless muster and its two guard processes are killed in one moment");
}

Check CheckGuard() {
  const auto folder = OwnFolder();
  const auto guard = folder.ok() ? FindGuard(*folder) : folder;
  if (guard.ok()) return Ok("muster-guard", *guard);
  return Failure("muster-guard", std::string(guard.status().message()), "");
}

// Both ways by which MPI libraries find their launcher need the loopback interface; Open MPI's needs a process of ours besides.
Check CheckMpi() {
  const std::string remedy = "install the whole of muster, and libpmix2; programs of MPICH and without MPI run all the same";
  const auto listener = ListenOnLoopback();
  if (!listener.ok()) return Warning("MPI", std::string(listener.status().message()), "ip link set lo up");
  const auto folder = OwnFolder();
  const auto guard = folder.ok() ? FindGuard(*folder) : folder;
  if (!guard.ok()) return Warning("MPI", std::string(guard.status().message()), remedy);
  const std::string program = absl::StrCat(guard->substr(0, guard->rfind('/') + 1), "muster-pmix");
  if (::access(program.c_str(), X_OK) != 0) return Warning("MPI", absl::StrCat("MPICH only: there is no ", program), remedy);
  const std::string library = FirstLineOf(program, "--version");
  if (library.empty()) return Warning("MPI", absl::StrCat("MPICH only: ", program, " does not start"), remedy);
  return Ok("MPI", absl::StrCat("programs of Open MPI (by ", library, ") and of MPICH (by PMI-1)"));
}

Check CheckOpenFiles() {
  rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string text = absl::StrCat(limit.rlim_cur, " (up to ", limit.rlim_max, ")");
  if (limit.rlim_cur >= 256) return Ok("open files", text);
  return Warning("open files", text, "ulimit -n 1024; a worker takes about eight");
}

Check CheckFolder(const std::string& name, const std::string& folder, const std::string& remedy) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path nearest = folder;  // what is not there yet is made by muster
  while (!fs::exists(nearest, error) && nearest.has_relative_path()) nearest = nearest.parent_path();
  if (fs::is_directory(nearest, error) && ::access(nearest.c_str(), W_OK | X_OK) == 0) return Ok(name, folder);
  return Failure(name, absl::StrCat("cannot write ", folder), remedy);
}

Check CheckStateFolder() {
  bool fallback = false;
  const std::string home = StateHome(Variable("XDG_STATE_HOME"), Variable("HOME"), TemporaryFolder(), &fallback);
  return CheckFolder("state folder", home + "/muster", "set XDG_STATE_HOME to a folder that can be written");
}

Check CheckPort() {
  const auto port = ReservedPort::Reserve();
  if (port.ok()) return Ok("MASTER_PORT", "a free port can be reserved");
  return Failure("MASTER_PORT", std::string(port.status().message()), "choose one with --master-port");
}

}  // namespace

std::vector<Check> CheckMachine() {
  return {CheckGuard(),       CheckSharedMemory(),
          CheckFutexWaitv(),  CheckRobustFutex(),
          CheckPidfd(),       CheckProcessVmReadv(),
          CheckSeccomp(),     CheckCores(),
          CheckMemory(),      CheckOpenFiles(),
          CheckCover(),       CheckMpi(),
          CheckStateFolder(), CheckFolder("temporary folder", TemporaryFolder(), "set TMPDIR to a folder that can be written"),
          CheckPort()};
}

}  // namespace muster

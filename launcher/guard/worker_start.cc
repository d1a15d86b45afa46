#include "launcher/guard/worker_start.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace muster::guard {
namespace {

constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
constexpr unsigned kCloseRangeCloexec = 4;  // CLOSE_RANGE_CLOEXEC, which <linux/close_range.h> of older kernels lacks

// The strings of a request, mapped from its blob.
class SpawnStrings {
 public:
  ~SpawnStrings() {
    if (text_ != nullptr) munmap(text_, bytes_);
  }

  // False if the blob is not as guard_protocol.h says.
  bool Map(const Request& request, int blob) {
    struct stat file;
    const int seals = fcntl(blob, F_GET_SEALS);
    if (seals < 0 || (seals & kSeals) != kSeals || fstat(blob, &file) != 0) return false;
    if (request.blob_bytes == 0 || request.blob_bytes > kBlobBytesMax) return false;
    if (static_cast<uint64_t>(file.st_size) != request.blob_bytes) return false;
    bytes_ = request.blob_bytes;
    void* mapped = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE, blob, 0);
    if (mapped == MAP_FAILED) return false;
    text_ = static_cast<char*>(mapped);
    return text_[bytes_ - 1] == '\0' && Cut(request);
  }

  const char* program() const { return program_; }
  const char* working_directory() const { return working_directory_; }
  const char* cpus() const { return cpus_; }
  const char* memory_nodes() const { return memory_nodes_; }
  char** argv() { return argv_.data(); }
  char** env() { return env_.data(); }

 private:
  bool Cut(const Request& request) {
    char* next = text_;
    const char* end = text_ + bytes_;
    const auto take = [&]() -> char* {
      if (next == end) return nullptr;
      char* string = next;
      next += strlen(string) + 1;
      return string;
    };
    program_ = take();
    working_directory_ = take();
    cpus_ = take();
    memory_nodes_ = take();
    if (program_ == nullptr || working_directory_ == nullptr || cpus_ == nullptr || memory_nodes_ == nullptr) return false;
    for (auto [list, count] : {std::pair{&argv_, request.argument_count}, std::pair{&env_, request.environment_count}}) {
      for (uint32_t i = 0; i < count; ++i) {
        list->push_back(take());
        if (list->back() == nullptr) return false;
      }
      list->push_back(nullptr);
    }
    return next == end;
  }

  char* text_ = nullptr;
  size_t bytes_ = 0;
  const char* program_ = nullptr;
  const char* working_directory_ = nullptr;
  const char* cpus_ = nullptr;
  const char* memory_nodes_ = nullptr;
  std::vector<char*> argv_;
  std::vector<char*> env_;
};

[[noreturn]] void Fail(int error_pipe, Stage stage) {
  const StartError error = {stage, errno};
  [[maybe_unused]] const ssize_t bytes = write(error_pipe, &error, sizeof error);
  _exit(127);
}

// An ignored or blocked signal would survive exec; a worker starts as a login shell would start it. The guard itself was started with
// all signals as they are by default.
void ResetSignals() {
  for (const int number : kSignalsForTheAgent) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// When memory runs out the kernel ends the process that holds most, and shared windows count for none in particular. Without
// this it could be muster itself, and nobody would be left to say what happened. Raising needs no right; a worker that cannot
// (no /proc) runs all the same.
void OfferToOutOfMemoryKiller() {
  constexpr int kMore = 300;  // thousandths of the memory
  constexpr int kMost = 1000;
  const UniqueFd file(open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC));
  char text[16] = {};
  if (!file || read(file.get(), text, sizeof text - 1) <= 0) return;
  const int now = atoi(text);
  const int length = snprintf(text, sizeof text, "%d", now + kMore < kMost ? now + kMore : kMost);
  [[maybe_unused]] const ssize_t bytes = pwrite(file.get(), text, static_cast<size_t>(length), 0);
}

// The bits of "0-3,8", in the kernel's layout. False for what is no such list.
bool ReadMask(const char* list, std::vector<unsigned long>* mask) {
  constexpr unsigned long kBits = 8 * sizeof(unsigned long), kNumberMax = 1ul << 16;
  for (const char* next = list; *next != '\0';) {
    char* end = nullptr;
    const unsigned long first = strtoul(next, &end, 10);
    unsigned long last = first;
    if (end == next) return false;
    if (*end == '-') {
      next = end + 1;
      last = strtoul(next, &end, 10);
      if (end == next) return false;
    }
    if (first > last || last >= kNumberMax || (*end != ',' && *end != '\0')) return false;
    if (mask->size() <= last / kBits) mask->resize(last / kBits + 1, 0);
    for (unsigned long number = first; number <= last; ++number) (*mask)[number / kBits] |= 1ul << number % kBits;
    next = *end == ',' ? end + 1 : end;
  }
  return true;
}

// Memory from the given nodes while they have some, else from others: a worker that is short of near memory is slow, one that is
// refused far memory is dead. Kernels before 5.15 know one preferred node only. Where the call is forbidden (containers) memory
// follows first touch, as ever. Source: set_mempolicy(2).
void PreferMemoryOf(const char* nodes) {
  constexpr int kPreferred = 1, kPreferredMany = 5;  // MPOL_PREFERRED, MPOL_PREFERRED_MANY
  std::vector<unsigned long> mask;
  if (!ReadMask(nodes, &mask) || mask.empty()) return;
  int count = 0;
  for (const unsigned long word : mask) count += __builtin_popcountl(word);
  // The kernel takes one bit less than it is told.
  syscall(SYS_set_mempolicy, count == 1 ? kPreferred : kPreferredMany, mask.data(),
          mask.size() * 8 * sizeof(unsigned long) + 1);
}

// 0, or the errno of a refusal.
int Bind(const char* cpus) {
  std::vector<unsigned long> mask;
  if (!ReadMask(cpus, &mask)) return EINVAL;
  if (mask.empty()) return 0;
  return sched_setaffinity(0, mask.size() * sizeof(unsigned long), reinterpret_cast<const cpu_set_t*>(mask.data())) == 0
             ? 0
             : errno;
}

[[noreturn]] void RunWorker(const Request& request, const std::vector<UniqueFd>& descriptors, SpawnStrings& strings,
                            const rlimit& open_files, pid_t guard, int error_pipe) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != guard) _exit(127);  // died before prctl
  if ((request.controlling_terminal != 0 ? setsid() : setpgid(0, 0)) < 0) Fail(error_pipe, Stage::kGroup);
  for (int i = 0; i < 3; ++i) {
    if (dup2(descriptors[i].get(), i) < 0) Fail(error_pipe, Stage::kDescriptors);
  }
  if (request.controlling_terminal != 0 && ioctl(1, TIOCSCTTY, 0) != 0) Fail(error_pipe, Stage::kTerminal);
  if (strings.working_directory()[0] != '\0' && chdir(strings.working_directory()) != 0) Fail(error_pipe, Stage::kChdir);
  // All are close-on-exec already; this is for one that a library opened without it.
  syscall(SYS_close_range, 3u, ~0u, kCloseRangeCloexec);
  const int refused = Bind(strings.cpus());
  if (refused != 0 && request.binding_is_optional == 0) {
    errno = refused;
    Fail(error_pipe, Stage::kBind);
  }
  if (refused == 0) PreferMemoryOf(strings.memory_nodes());
  setrlimit(RLIMIT_NOFILE, &open_files);
  OfferToOutOfMemoryKiller();
  ResetSignals();
  execve(strings.program(), strings.argv(), strings.env());
  Fail(error_pipe, Stage::kExecve);
}

}  // namespace

StartError StartWorker(const Request& request, const std::vector<UniqueFd>& descriptors, const rlimit& open_files,
                       StartedWorker* worker) {
  SpawnStrings strings;
  if (descriptors.size() != kSpawnDescriptors) return {Stage::kDescriptors, EMFILE};  // the kernel cut what did not fit
  if (!strings.Map(request, descriptors[3].get())) return {Stage::kRequest, EINVAL};
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {Stage::kFork, errno};
  worker->error_pipe.Reset(ends[0]);
  const UniqueFd write_end(ends[1]);
  const pid_t guard = getpid();
  const pid_t pid = fork();
  if (pid < 0) return {Stage::kFork, errno};
  if (pid == 0) RunWorker(request, descriptors, strings, open_files, guard, write_end.get());
  worker->pid = pid;
  worker->pidfd.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!worker->pidfd) {
    const int error = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return {Stage::kFork, error};
  }
  return {};
}

}  // namespace muster::guard

#include "launcher/agent/core_locks.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// Locks. Byte n: processor n. Beyond them, by the same number: that its holder has settled. Beyond those one byte for whoever is taking.
constexpr int64_t kSettled = CpuSet::kNumberMax;
constexpr int64_t kTaking = 2 * int64_t{CpuSet::kNumberMax};
// Content: 8 bytes for each processor, the job of its last holder.
int64_t JobAt(uint32_t cpu) { return int64_t{cpu} * 8; }

absl::StatusOr<UniqueFd> OpenIn(const std::string& folder) {
  const std::string path = folder + "/muster-cores";
  constexpr int kHow = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  // Without O_CREAT first: in a sticky folder the kernel refuses it for another user's file (fs.protected_regular).
  UniqueFd file(::open(path.c_str(), kHow));
  if (!file && errno == ENOENT) {
    file.Reset(::open(path.c_str(), kHow | O_CREAT | O_EXCL, 0666));
    if (file) {
      ::fchmod(file.get(), 0666);  // whatever the umask: it is everybody's
    } else if (errno == EEXIST) {
      file.Reset(::open(path.c_str(), kHow));
    }
  }
  if (!file) return ErrnoToStatus(errno, path);
  return file;
}

struct flock Range(int64_t at, short type) {
  struct flock range = {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = at;
  range.l_len = 1;
  return range;
}

std::vector<HeldCpus> ByHolder(const std::map<int64_t, CpuSet>& holders) {
  std::vector<HeldCpus> held;
  for (const auto& [pid, cpus] : holders) held.push_back({cpus, pid});
  return held;
}

}  // namespace

absl::StatusOr<CoreLocks> CoreLocks::Open(const std::string& job_id, const std::string& folder) {
  absl::StatusOr<UniqueFd> file = OpenIn(folder.empty() ? "/dev/shm" : folder);
  if (!file.ok() && folder.empty()) file = OpenIn("/tmp");
  if (!file.ok()) return file.status();
  uint64_t job = 0;
  std::memcpy(&job, job_id.data(), std::min(job_id.size(), sizeof job));
  return CoreLocks(*std::move(file), job);
}

bool CoreLocks::Take(uint32_t cpu) {
  if (!Lock(cpu)) return false;
  // A full disk costs no more than that nodes of one job keep off each other's cores.
  [[maybe_unused]] const ssize_t written = ::pwrite(file_.get(), &job_, sizeof job_, JobAt(cpu));
  ours_.Add(cpu);
  return true;
}

bool CoreLocks::IsOurJobs(uint32_t cpu) const {
  uint64_t job = 0;
  return ::pread(file_.get(), &job, sizeof job, JobAt(cpu)) == sizeof job && job == job_;
}

bool CoreLocks::Lock(int64_t at) {
  struct flock range = Range(at, F_WRLCK);
  return ::fcntl(file_.get(), F_SETLK, &range) == 0;
}

void CoreLocks::Unlock(int64_t at) {
  struct flock range = Range(at, F_UNLCK);
  ::fcntl(file_.get(), F_SETLK, &range);
}

int64_t CoreLocks::HolderOf(int64_t at) const {
  struct flock range = Range(at, F_WRLCK);
  if (::fcntl(file_.get(), F_GETLK, &range) != 0 || range.l_type == F_UNLCK) return -1;
  return range.l_pid > 0 ? range.l_pid : 0;
}

CoreLocks::Taken CoreLocks::Take(const CpuSet& cpus) {
  Taken taken;
  const bool alone = Lock(kTaking);
  taken.settled = alone;  // two at once would each get a part
  std::map<int64_t, CpuSet> holders;
  for (const uint32_t cpu : cpus.numbers()) {
    if (ours_.Contains(cpu) || (alone && Take(cpu))) continue;
    const int64_t holder = HolderOf(cpu);
    if (holder >= 0 && IsOurJobs(cpu)) continue;
    if (holder < 0) continue;  // just let go of, or we were not alone: the next look tells
    holders[holder].Add(cpu);
    if (HolderOf(kSettled + cpu) < 0) taken.settled = false;
  }
  if (alone) Unlock(kTaking);
  taken.held = ByHolder(holders);
  return taken;
}

std::vector<HeldCpus> CoreLocks::Settle(const CpuSet& cpus) {
  const CpuSet unwanted = ours_.Without(cpus);
  for (const uint32_t cpu : unwanted.numbers()) {
    Unlock(kSettled + cpu);
    Unlock(cpu);
  }
  ours_ = ours_.And(cpus);
  std::map<int64_t, CpuSet> holders;
  for (const uint32_t cpu : cpus.numbers()) {
    if (ours_.Contains(cpu) || Take(cpu)) {
      Lock(kSettled + cpu);
    } else if (!IsOurJobs(cpu)) {
      holders[std::max<int64_t>(0, HolderOf(cpu))].Add(cpu);
    }
  }
  return ByHolder(holders);
}

}  // namespace muster

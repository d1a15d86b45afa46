#include "launcher/agent/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> Words(const std::string& text) {
  return absl::StrSplit(text, absl::ByAnyChar(" \n\t"), absl::SkipEmpty());
}

std::optional<int64_t> ReadNumber(const std::string& path) {
  int64_t number = 0;
  const std::vector<std::string> words = Words(ReadFile(path));
  if (words.empty() || !absl::SimpleAtoi(words[0], &number)) return std::nullopt;
  return number;
}

CgroupFolders FindOwn(const std::string& controller) {
  return FindCgroupFolders(ReadFile("/proc/self/cgroup"), ReadFile("/proc/self/mountinfo"), controller);
}

// In cores; empty: none is set in this folder.
std::optional<double> QuotaIn(const std::string& folder, bool version_2) {
  std::optional<int64_t> quota, period;
  if (version_2) {
    const std::vector<std::string> words = Words(ReadFile(folder + "/cpu.max"));  // "max 100000" or "150000 100000"
    int64_t first = 0, second = 0;
    if (words.size() == 2 && absl::SimpleAtoi(words[0], &first) && absl::SimpleAtoi(words[1], &second)) {
      quota = first;
      period = second;
    }
  } else {
    quota = ReadNumber(folder + "/cpu.cfs_quota_us");  // -1: none
    period = ReadNumber(folder + "/cpu.cfs_period_us");
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

}  // namespace

int UsableCores::count() const {
  if (!quota) return affinity;
  return std::max(1, std::min(affinity, static_cast<int>(std::ceil(*quota - 1e-9))));
}

UsableCores FindUsableCores() {
  UsableCores cores;
  // Larger than cpu_set_t, which ends at 1024 cores.
  std::vector<cpu_set_t> mask(16);
  if (::sched_getaffinity(0, mask.size() * sizeof(cpu_set_t), mask.data()) == 0) {
    cores.affinity = std::max(1, CPU_COUNT_S(mask.size() * sizeof(cpu_set_t), mask.data()));
  }
  const CgroupFolders cgroup = FindOwn("cpu");
  for (const std::string& folder : cgroup.folders) {
    const std::optional<double> quota = QuotaIn(folder, cgroup.version_2);
    if (quota && (!cores.quota || *quota < *cores.quota)) cores.quota = quota;
  }
  return cores;
}

int64_t MemoryLimit::bytes() const { return cgroup_bytes ? std::min(*cgroup_bytes, machine_bytes) : machine_bytes; }

MemoryLimit FindMemoryLimit() {
  MemoryLimit limit;
  limit.machine_bytes = static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  const CgroupFolders cgroup = FindOwn("memory");
  for (const std::string& folder : cgroup.folders) {
    const std::string file = folder + (cgroup.version_2 ? "/memory.max" : "/memory.limit_in_bytes");
    const std::optional<int64_t> bytes = ReadNumber(file);  // v2's "max" is no number; v1 says "none" by a huge one
    if (!bytes || *bytes <= 0 || *bytes >= int64_t{1} << 60) continue;
    if (!limit.cgroup_bytes || *bytes < *limit.cgroup_bytes) {
      limit.cgroup_bytes = bytes;
      limit.cgroup_file = file;
    }
  }
  return limit;
}

std::optional<OutOfMemoryKills> ReadOutOfMemoryKills() {
  const CgroupFolders cgroup = FindOwn("memory");
  for (const std::string& folder : cgroup.folders) {
    const std::string file = folder + (cgroup.version_2 ? "/memory.events" : "/memory.oom_control");
    const std::vector<std::string> words = Words(ReadFile(file));  // "oom_kill 3" among other pairs
    for (size_t i = 0; i + 1 < words.size(); i += 2) {
      int64_t count = 0;
      if (words[i] == "oom_kill" && absl::SimpleAtoi(words[i + 1], &count)) return OutOfMemoryKills{file, count};
    }
  }
  return std::nullopt;
}

std::string NewOutOfMemoryKill(const std::optional<OutOfMemoryKills>& before) {
  if (!before) return "";
  const std::optional<OutOfMemoryKills> now = ReadOutOfMemoryKills();
  if (!now || now->file != before->file || now->count <= before->count) return "";
  const MemoryLimit limit = FindMemoryLimit();
  return absl::StrCat("memory limit of ", HumanBytes(limit.bytes()), " in ", now->file);
}

std::string HumanBytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double amount = static_cast<double>(bytes);
  int unit = 0;
  for (; amount >= 1024 && unit < 4; ++unit) amount /= 1024;
  return absl::StrFormat("%.*f %s", unit == 0 ? 0 : 1, amount, kUnits[unit]);
}

CgroupFolders FindCgroupFolders(const std::string& cgroup_text, const std::string& mountinfo_text,
                                const std::string& controller) {
  const auto has = [&](absl::string_view list) {
    const std::vector<std::string> names = absl::StrSplit(list, ',');
    return std::find(names.begin(), names.end(), controller) != names.end();
  };
  std::optional<std::string> path_1, path_2;
  for (absl::string_view line : absl::StrSplit(cgroup_text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));  // number:controllers:path
    if (parts.size() != 3) continue;
    if (parts[0] == "0" && parts[1].empty()) path_2 = parts[2];
    if (has(parts[1])) path_1 = parts[2];
  }
  CgroupFolders found;
  found.version_2 = !path_1.has_value();
  const std::optional<std::string>& path = found.version_2 ? path_2 : path_1;
  if (!path) return found;
  for (absl::string_view line : absl::StrSplit(mountinfo_text, '\n', absl::SkipEmpty())) {
    // 36 35 98:0 ROOT MOUNTPOINT options [tags] - TYPE source SUPEROPTIONS
    const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<std::string> left = Words(halves[0]), right = Words(halves[1]);
    if (left.size() < 5 || right.size() < 3) continue;
    if (found.version_2 ? right[0] != "cgroup2" : (right[0] != "cgroup" || !has(right[2]))) continue;
    const std::string root = left[3] == "/" ? "" : left[3];
    const std::string& mount = left[4];
    // A path outside the mounted part (a container shows the host's path): the mount itself is then our own.
    std::string below = absl::StartsWith(*path, root) ? path->substr(root.size()) : "";
    while (!below.empty() && below != "/") {
      found.folders.push_back(mount + below);
      below.resize(below.rfind('/'));
    }
    found.folders.push_back(mount);
    break;
  }
  return found;
}

}  // namespace muster

#include "launcher/agent/worker_resources.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "launcher/agent/machine.h"

namespace muster {
namespace {

constexpr const char* kMemoryInformation = "/proc/meminfo";
constexpr size_t kProcessorsMax = 8192;

}  // namespace

WindowMemory FindWindowMemory() {
  const MemoryLimit limit = FindMemoryLimit();
  if (limit.cgroup_bytes.has_value() && *limit.cgroup_bytes < limit.machine_bytes)
    return {*limit.cgroup_bytes, limit.cgroup_file};
  std::ifstream file(kMemoryInformation);
  std::ostringstream text;
  text << file.rdbuf();
  const int64_t available = MemAvailableIn(text.str());
  return available > 0 ? WindowMemory{available, kMemoryInformation} : WindowMemory{};
}

int64_t MemAvailableIn(absl::string_view meminfo) {
  for (absl::string_view line : absl::StrSplit(meminfo, '\n')) {
    if (!absl::ConsumePrefix(&line, "MemAvailable:")) continue;
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t kibibytes = 0;
    if (!words.empty() && absl::SimpleAtoi(words[0], &kibibytes)) return kibibytes * 1024;
  }
  return 0;
}

v1::ProcessorMask ProcessorsOf(pid_t pid) {
  v1::ProcessorMask mask(kProcessorsMax / 64);
  if (::sched_getaffinity(pid, mask.size() * sizeof(uint64_t), reinterpret_cast<cpu_set_t*>(mask.data())) != 0) return {};
  while (!mask.empty() && mask.back() == 0) mask.pop_back();
  return mask;
}

int64_t QuotaMillicores() {
  const UsableCores cores = FindUsableCores();
  return cores.quota.has_value() ? std::max<int64_t>(1, std::llround(*cores.quota * 1000)) : 0;
}

}  // namespace muster

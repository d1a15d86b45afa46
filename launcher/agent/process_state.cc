#include "launcher/agent/process_state.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace muster {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

ProcessState ParseProcessStat(absl::string_view stat, int64_t ticks_per_second) {
  constexpr size_t kUserTicks = 11, kSystemTicks = 12;  // after the name, counted from the state
  ProcessState state;
  const size_t name_end = stat.rfind(')');
  if (name_end == absl::string_view::npos || ticks_per_second <= 0) return state;
  const std::vector<absl::string_view> fields = absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipWhitespace());
  uint64_t user = 0, system = 0;
  if (fields.size() <= kSystemTicks || !absl::SimpleAtoi(fields[kUserTicks], &user) ||
      !absl::SimpleAtoi(fields[kSystemTicks], &system)) {
    return state;
  }
  state.letter = fields[0][0];
  state.cpu_ms = (user + system) * 1000 / static_cast<uint64_t>(ticks_per_second);
  return state;
}

ProcessState ReadProcessState(pid_t pid) {
  ProcessState state = ParseProcessStat(ReadText(absl::StrCat("/proc/", pid, "/stat")), ::sysconf(_SC_CLK_TCK));
  if (state.letter == 0) return state;
  state.wait_channel = ReadText(absl::StrCat("/proc/", pid, "/wchan"));
  if (state.wait_channel == "0") state.wait_channel.clear();  // it runs, or we may not look
  return state;
}

}  // namespace muster

#include "launcher/hosts/slurm_allocation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "launcher/hosts/host_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::Status In(const char* name, const std::string& value, const absl::Status& why) {
  return absl::InvalidArgumentError(absl::StrCat(name, "=", value.substr(0, 80), ", which Slurm has set, cannot be read: ",
                                                 why.message(), "; name hosts with -H instead, or use --starter local"));
}

absl::Status CheckStep(const VariableOf& variable) {
  const std::string tasks = variable("SLURM_STEP_NUM_TASKS").value_or("1");
  if (!variable("SLURM_STEP_ID") || tasks == "1") return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("srun starts this command ", tasks, " times, and each would start the whole job; start it once, without srun: "
                   "muster asks Slurm for the other nodes itself"));
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> ParseSlurmCounts(absl::string_view text) {
  std::vector<int64_t> counts;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    int64_t count = 0, times = 1;
    const std::pair<absl::string_view, absl::string_view> halves = absl::StrSplit(part, absl::MaxSplits('(', 1));
    absl::string_view repeat = halves.second;
    const bool repeats = part.find('(') != absl::string_view::npos;
    if (repeats && (!absl::ConsumePrefix(&repeat, "x") || !absl::ConsumeSuffix(&repeat, ")") || !absl::SimpleAtoi(repeat, &times))) {
      times = 0;
    }
    if (!absl::SimpleAtoi(halves.first, &count) || count < 1 || times < 1) {
      return absl::InvalidArgumentError(absl::StrCat("\"", part, "\" is no number of tasks or cores such as 2 or 2(x3)"));
    }
    if (static_cast<uint64_t>(times) > kHostsMax - counts.size()) {
      return absl::InvalidArgumentError(absl::StrCat("it counts more than ", kHostsMax, " nodes"));
    }
    counts.insert(counts.end(), static_cast<size_t>(times), count);
  }
  return counts;
}

absl::StatusOr<std::vector<std::string>> ParseSlurmNodeList(absl::string_view text) {
  std::vector<std::string> names;
  size_t begin = 0, depth = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '[') ++depth;
    if (i < text.size() && text[i] == ']' && depth > 0) --depth;
    if (i < text.size() && (text[i] != ',' || depth > 0)) continue;
    const absl::string_view word = text.substr(begin, i - begin);
    begin = i + 1;
    MUSTER_ASSIGN_OR_RETURN(HostWord parsed, ParseHostWord(word));
    if (!parsed.user.empty() || parsed.has_suffix) {
      return absl::InvalidArgumentError(absl::StrCat("\"", word, "\" is no name of nodes"));
    }
    if (parsed.names.size() > kHostsMax - names.size()) {
      return absl::InvalidArgumentError(absl::StrCat("it names more than ", kHostsMax, " nodes"));
    }
    std::move(parsed.names.begin(), parsed.names.end(), std::back_inserter(names));
  }
  return names;
}

absl::StatusOr<std::vector<Host>> FindSlurmAllocation(const VariableOf& variable) {
  const std::optional<std::string> job = variable("SLURM_JOB_ID"), nodes = variable("SLURM_JOB_NODELIST");
  if (!job || !nodes) return std::vector<Host>();
  MUSTER_RETURN_IF_ERROR(CheckStep(variable));
  const auto names = ParseSlurmNodeList(*nodes);
  if (!names.ok()) return In("SLURM_JOB_NODELIST", *nodes, names.status());
  std::vector<Host> hosts;
  for (const std::string& name : *names) hosts.push_back({.name = name});
  for (const char* name : {"SLURM_TASKS_PER_NODE", "SLURM_JOB_CPUS_PER_NODE"}) {
    const std::optional<std::string> value = variable(name);
    if (!value) continue;
    const auto counts = ParseSlurmCounts(*value);
    if (!counts.ok()) return In(name, *value, counts.status());
    if (counts->size() != hosts.size()) {
      return In(name, *value,
                absl::InvalidArgumentError(absl::StrCat("it counts ", counts->size(), " nodes, and SLURM_JOB_NODELIST=", *nodes,
                                                        " names ", hosts.size())));
    }
    for (size_t i = 0; i < hosts.size(); ++i) {
      hosts[i].slots = std::min((*counts)[i], kHostSlotsMax);
      hosts[i].slots_given = true;
    }
    return hosts;
  }
  return hosts;
}

}  // namespace muster

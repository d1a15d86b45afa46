// job.yaml: whatever the file holds, there is a job whose values are in their ranges, or errors that name file, line and column.
#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "launcher/yaml/job_file.h"

namespace {

void Check(bool holds) {
  if (!holds) __builtin_trap();
}

void CheckCount(const muster::Field<int64_t>& field, int64_t least) {
  Check(!field || (field->value >= least && field->line >= 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto job = muster::ParseJobFile("job", absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!job.ok()) {
    const std::vector<std::string> lines = absl::StrSplit(job.status().message(), '\n');
    Check(!lines.empty() && lines.size() <= muster::kJobFileErrorsMax);
    for (const std::string& line : lines) Check(absl::StartsWith(line, "job:"));
    return 0;
  }
  CheckCount(job->workers.min, 1);
  CheckCount(job->workers.max, 1);
  Check(!job->workers.min || !job->workers.max || job->workers.min->value <= job->workers.max->value);
  CheckCount(job->recovery.max_restarts, 0);
  CheckCount(job->resources.memory_bytes, 1);
  Check(!job->command || (!job->command->value.empty() && !job->command->value[0].empty()));
  Check(!job->checkpoint.every_steps || job->checkpoint.path);
  for (const auto& volume : job->kubernetes.volumes) Check(volume.claim && volume.path && volume.path->value[0] == '/');
  if (job->env) {
    for (const auto& [name, value] : job->env->value) Check(!name.empty() && !absl::StrContains(name, '='));
  }
  return 0;
}

// muster ps: the jobs that run here.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/job_argument.h"
#include "launcher/cli/job_text.h"
#include "launcher/cli/subcommand.h"

namespace muster {
namespace {

constexpr char kUsage[] = R"(usage: muster ps [options]

Shows this user's jobs that run, newest first: id, state, workers, nodes, generation, restarts,
last committed step, age and command. The newest 20 jobs are kept after their end.

examples
  muster ps                    what runs
  muster ps --all              and what has ended: done, failed, stopped by somebody, or lost
                               with its coordinator
  muster ps --all --json       the same as a JSON array
)";

}  // namespace

int PsCommand(const std::vector<std::string>& arguments) {
  bool all = false, json = false;
  FlagSet flags("muster ps");
  flags.Switch("--all -a", &all, "also jobs that have ended");
  flags.Switch("--json", &json,
               "a JSON array of objects: job_id, state, running, workers,\nnodes, generation, restarts, "
               "committed_step, checkpoint_step,\nstarted_unix_ms, command, folder, exit_code, sentence");
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(absl::StrCat(kUsage, "\noptions\n", flags.Help()));
  if (!rest.ok()) return UsageError(rest.status().message());
  if (!rest->empty())
    return UsageError(absl::StrCat("muster ps takes no job; for one job write: muster status ", rest->front()));
  std::vector<StoredJob> jobs = ListJobs(JobsStateHome());
  if (!all) jobs.erase(std::remove_if(jobs.begin(), jobs.end(), [](const StoredJob& job) { return !job.held; }), jobs.end());
  return Print(json ? JobsJson(jobs) : JobsTable(jobs, absl::Now()));
}

}  // namespace muster

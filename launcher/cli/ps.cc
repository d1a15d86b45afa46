// muster ps: the jobs that run here.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
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

struct PsFlags {
  bool all = false;
  bool json = false;
};

FlagSet Declare(PsFlags* ps) {
  FlagSet flags("muster ps");
  flags.Switch("--all -a", &ps->all, "also jobs that have ended");
  flags.Switch("--json", &ps->json,
               "a JSON array of objects: job_id, state, running, workers,\nnodes, generation, restarts, "
               "committed_step, checkpoint_step,\nstarted_unix_ms, command, folder, exit_code, sentence");
  return flags;
}

}  // namespace

HelpPage PsPage() {
  PsFlags unused;
  return {.before = kUsage, .flags = Declare(&unused).Describe()};
}

int PsCommand(const std::vector<std::string>& arguments) {
  PsFlags ps;
  FlagSet flags = Declare(&ps);
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(PsPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  if (!rest->empty())
    return UsageError(absl::StrCat("muster ps takes no job; for one job write: muster status ", rest->front()));
  std::vector<StoredJob> jobs = ListJobs(JobsStateHome());
  if (!ps.all) jobs.erase(std::remove_if(jobs.begin(), jobs.end(), [](const StoredJob& job) { return !job.held; }), jobs.end());
  return Print(ps.json ? JobsJson(jobs) : JobsTable(jobs, absl::Now()));
}

}  // namespace muster

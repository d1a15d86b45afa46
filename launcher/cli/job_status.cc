// muster status: how a job stands.
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/job_argument.h"
#include "launcher/cli/job_text.h"
#include "launcher/cli/subcommand.h"

namespace muster {
namespace {

constexpr char kUsage[] = R"(usage: muster status [JOB] [options]

Shows on one screen how a job stands: its state and since when, its nodes and ranks, what NCCL is
told of the network, the last committed step and checkpoint, its restarts with their causes,
connections that were refused, and after its end the verdict. JOB is the beginning of a job's
id; without it the newest job.

examples
  muster status
  muster status 4e52
  muster status --json 4e52
)";

FlagSet Declare(bool* json) {
  FlagSet flags("muster status");
  flags.Switch("--json", json,
               "one JSON object: job_id, command, state, since_unix_ms,\nstarted_unix_ms, workers, workers_min, workers_now,\n"
               "nodes_wanted, generation, restarts, restarts_used,\nmax_restarts, committed_step, checkpoint_step,\n"
               "checkpoint_unix_ms, checkpoint_path, plan, nccl[],\nnccl_notes[], output_files, output_files_only, "
               "nodes[], ranks[],\nhistory[], refusals, refused[], running, folder, verdict");
  return flags;
}

}  // namespace

HelpPage StatusPage() {
  bool unused = false;
  return {.before = kUsage, .flags = Declare(&unused).Describe(), .operand = Operand::kJob};
}

int StatusCommand(const std::vector<std::string>& arguments) {
  bool json = false;
  FlagSet flags = Declare(&json);
  StoredJob job;
  int exit_code = 0;
  if (!TakeJobArgument(&flags, arguments, StatusPage(), &job, &exit_code)) return exit_code;
  return Print(json ? StatusObject(job) : StatusScreen(job, absl::Now(), absl::LocalTimeZone()));
}

}  // namespace muster

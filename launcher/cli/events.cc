// muster events: what happened in a job.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/followed_file.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/job_argument.h"
#include "launcher/cli/job_text.h"
#include "launcher/cli/subcommand.h"
#include "launcher/process/exit_codes.h"

namespace muster {
namespace {

constexpr char kUsage[] = R"(usage: muster events [JOB] [options]

Shows what happened in a job, oldest first, one line each: starts, losses, restarts,
checkpoints, refused connections, the verdict. JOB is the beginning of a job's id; without it
the newest job.

examples
  muster events
  muster events 4e52 --follow          and what happens from now on, until the job is over
  muster events --json | jq .kind      unix_ms, kind, text; where it means something generation,
                                       rank, node, host
)";

FlagSet Declare(bool* follow, bool* json) {
  FlagSet flags("muster events");
  flags.Switch("--follow -f", follow, "go on until the job is over");
  flags.Switch("--json", json, "one JSON object a line");
  return flags;
}

}  // namespace

HelpPage EventsPage() {
  bool unused = false;
  return {.before = kUsage, .flags = Declare(&unused, &unused).Describe(), .operand = Operand::kJob};
}

int EventsCommand(const std::vector<std::string>& arguments) {
  bool json = false, follow = false;
  FlagSet flags = Declare(&follow, &json);
  StoredJob job;
  int exit_code = 0;
  if (!TakeJobArgument(&flags, arguments, EventsPage(), &job, &exit_code)) return exit_code;

  FollowedFile events(job.folder + "/events.jsonl");
  const absl::TimeZone zone = absl::LocalTimeZone();
  while (true) {
    const bool over = !follow || !IsHeld(job.folder);  // asked before the last look
    for (std::string lines = events.Read(over); !lines.empty(); lines = events.Read(over)) {
      std::string shown;
      for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
        const auto event = ParseEvent(line);
        if (!event.ok()) continue;  // torn by a full disk
        absl::StrAppend(&shown, json ? absl::StrCat(line, "\n") : EventLine(*event, zone));
      }
      if (const int printed = Print(shown); printed != kExitOk) return printed;
    }
    if (over) return kExitOk;
    if (!WaitForMore()) return kExitBrokenPipe;
  }
}

}  // namespace muster

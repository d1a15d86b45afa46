#include "launcher/cli/help_command.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "launcher/cli/completion.h"
#include "launcher/cli/console.h"
#include "launcher/cli/job_argument.h"
#include "launcher/cli/man_page.h"
#include "launcher/job/job_list.h"
#include "launcher/job/write_file.h"
#include "launcher/process/exit_codes.h"
#include "runtime/base/nearest_name.h"

namespace muster {
namespace {

constexpr char kWords[] = "--words";

constexpr char kHelpUsage[] = R"(usage: muster help [options] [COMMAND]

Shows what muster does, or what one of its commands does, with options and examples.

examples
  muster help run              the same as muster run --help
  muster help --man run        the same as a manual page
  muster help --man run | man -l -
)";

constexpr char kCompletionUsage[] = R"(usage: muster completion SHELL

Prints what makes SHELL (bash, zsh or fish) complete muster's command lines: commands, options, their
values, the ids of this user's jobs, and files. Where muster was installed it is in place already.

examples
  source <(muster completion bash)
  muster completion bash > ~/.local/share/bash-completion/completions/muster
  muster completion zsh > "${fpath[1]}/_muster"
  muster completion fish > ~/.config/fish/completions/muster.fish
)";

struct HelpFlags {
  bool man = false;
  std::string man_folder;
};

FlagSet Declare(HelpFlags* help) {
  FlagSet flags("muster help");
  flags.Switch("--man", &help->man, "as a page of the manual, for man -l");
  flags.Text("--man-folder", "FOLDER", &help->man_folder, "write all pages of the manual to FOLDER");
  return flags;
}

std::vector<std::string> NamesOf(const std::vector<CommandPage>& commands) {
  std::vector<std::string> names;
  for (const CommandPage& command : commands) names.push_back(command.name);
  return names;
}

ManualEdition Edition() { return {.version = MUSTER_VERSION, .date = MUSTER_RELEASE_DATE}; }

int WriteManual(const std::vector<CommandPage>& commands, const HelpPage& overview, const std::string& folder) {
  const std::vector<std::string> names = NamesOf(commands);
  absl::Status status = WriteFile(folder + "/muster.1", OverviewManual(overview, commands, Edition()));
  for (const CommandPage& command : commands) {
    status.Update(WriteFile(absl::StrCat(folder, "/muster-", command.name, ".1"), CommandManual(command, names, Edition())));
  }
  if (status.ok()) return kExitOk;
  Say(absl::StrCat("the manual cannot be written: ", status.message()));
  return kExitCannotWrite;
}

std::vector<Candidate> JobCandidates() {
  std::vector<Candidate> candidates;
  for (const StoredJob& job : ListJobs(JobsStateHome())) {
    candidates.push_back({job.brief(), absl::StrCat(job.state(), "  ", job.command.substr(0, job.command.find('\n')))});
  }
  return candidates;
}

}  // namespace

HelpPage HelpCommandPage() {
  HelpFlags unused;
  return {.before = kHelpUsage, .flags = Declare(&unused).Describe(), .operand = Operand::kCommand};
}

HelpPage CompletionCommandPage() { return {.before = kCompletionUsage, .flags = {}, .operand = Operand::kShell}; }

int HelpCommand(const std::vector<CommandPage>& commands, const HelpPage& overview, const std::vector<std::string>& arguments) {
  HelpFlags help;
  FlagSet flags = Declare(&help);
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(HelpCommandPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  if (!help.man_folder.empty()) return WriteManual(commands, overview, help.man_folder);
  if (rest->empty()) return Print(help.man ? OverviewManual(overview, commands, Edition()) : HelpText(overview));
  const auto command =
      std::find_if(commands.begin(), commands.end(), [&rest](const CommandPage& one) { return one.name == rest->front(); });
  if (command == commands.end()) {
    const std::string nearest = NearestName(rest->front(), NamesOf(commands));
    return UsageError(absl::StrCat(
        "no command ", rest->front(),
        nearest.empty() ? "; `muster --help` lists the commands" : absl::StrCat("; did you mean: muster help ", nearest)));
  }
  return Print(help.man ? CommandManual(*command, NamesOf(commands), Edition()) : HelpText(command->page));
}

int CompletionCommand(const std::vector<CommandPage>& commands, const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments[0] == kWords) {
    return Print(CompletionText(Complete(commands, {arguments.begin() + 1, arguments.end()}, JobCandidates())));
  }
  FlagSet flags("muster completion");
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(CompletionCommandPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  const std::string script = rest->size() == 1 ? CompletionScript(rest->front()) : "";
  if (script.empty()) return UsageError("muster completion takes the name of a shell: bash, zsh or fish");
  return Print(script);
}

}  // namespace muster

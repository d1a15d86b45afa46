#include "launcher/cli/run_applications.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/cli/run_options.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::Status CheckApplication(const RunApplication& application, size_t number) {
  if (application.command.empty() || application.command[0].empty()) {
    return absl::InvalidArgumentError(absl::StrCat("program ", number, " of the command line is missing: write what to run ",
                                                   number == 1 ? "before" : "after", " the `:`, as in muster run -np 1 A : -np 2 B"));
  }
  if (application.workers == 0) {
    return absl::InvalidArgumentError(absl::StrCat("-np is missing for ", application.command[0], ", program ", number,
                                                   " of the command line: several programs need a number of workers each, ",
                                                   "as in muster run -np 1 A : -np 2 B"));
  }
  return absl::OkStatus();
}

}  // namespace

FlagSet DeclareApplication(const FlagSet& job, RunApplication* application) {
  FlagSet flags("muster run");
  flags.Count("-np -n", "N", &application->workers, 1, kNodesMax * kWorkersMax, "number of workers of this program");
  flags.Texts("-x --env", "NAME[=VALUE]", &application->environment, "set NAME for this program's workers");
  flags.Text("-wdir --wd --working-dir", "FOLDER", &application->working_directory, "start this program's workers in FOLDER");
  flags.Switch("-m --module", &application->module, "this program is a Python module");
  flags.Refuse(
      job,
      "stands after a `:`, but is said once for the whole job: put it before the first program (each program has -np, -x, "
      "-wdir and -m of its own)");
  return flags;
}

absl::Status ReadApplications(const FlagSet& job, const std::vector<std::string>& words, bool separated, RunApplication first,
                              std::vector<RunApplication>* applications, bool* help_wanted) {
  applications->clear();
  auto begin = words.begin();
  auto colon = separated ? words.end() : std::find(begin, words.end(), ":");
  if (colon == words.end()) return absl::OkStatus();
  first.command.assign(begin, colon);
  MUSTER_RETURN_IF_ERROR(CheckApplication(first, 1));
  applications->push_back(std::move(first));
  while (colon != words.end()) {
    RunApplication next;
    FlagSet flags = DeclareApplication(job, &next);
    auto rest = flags.Parse({colon + 1, words.end()});
    *help_wanted = *help_wanted || flags.help_wanted();
    if (!rest.ok() || *help_wanted) return rest.status();
    // The flags end at the program, so a `:` among them is a value or an error of Parse.
    begin = words.end() - static_cast<ptrdiff_t>(rest->size());
    colon = flags.separated() ? words.end() : std::find(begin, words.end(), ":");
    next.command.assign(begin, colon);
    MUSTER_RETURN_IF_ERROR(CheckApplication(next, applications->size() + 1));
    applications->push_back(std::move(next));
  }
  return absl::OkStatus();
}

std::vector<std::string> CommandToStart(const std::vector<std::string>& command, bool module, const std::string& python) {
  if (!module || command.empty()) return command;
  std::vector<std::string> started = {python, "-m"};
  started.insert(started.end(), command.begin(), command.end());
  return started;
}

}  // namespace muster

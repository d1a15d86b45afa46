// muster: starts training jobs, keeps them going, and gives them collectives.
#include <fcntl.h>
#include <signal.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_command.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/subcommand.h"
#include "launcher/process/exit_codes.h"
#include "runtime/base/nearest_name.h"

namespace muster {
namespace {

int Help(const std::vector<std::string>& arguments);
int Complete(const std::vector<std::string>& arguments);
int Version(const std::vector<std::string>& arguments);
HelpPage VersionPage();

struct Entry {
  const char* name;
  const char* summary;
  Subcommand run;
  HelpPage (*page)();
};

// In the order in which help shows them.
const Entry kSubcommands[] = {
    {"run", "start a program on several ranks and watch over it", RunCommand, RunPage},
    {"ps", "list jobs and how they stand", PsCommand, PsPage},
    {"status", "show one job: nodes, ranks, steps, restarts, verdict", StatusCommand, StatusPage},
    {"events", "show what happened in a job", EventsCommand, EventsPage},
    {"logs", "show what a job's workers have written", LogsCommand, LogsPage},
    {"cancel", "end a job", CancelCommand, CancelPage},
    {"checkpoint", "show the checkpoints in a folder, or verify them", CheckpointCommand, CheckpointPage},
    {"bench", "measure collectives here, beside the least that memory allows", BenchCommand, BenchPage},
    {"topo", "show the network between nodes, and plan the order of ranks in it", TopoCommand, TopoPage},
    {"k8s", "write manifests for Kubernetes from a job file, or check manifests", K8sCommand, K8sPage},
    {"doctor", "check what this machine offers and what muster can promise on it", DoctorCommand, DoctorPage},
    {"coordinator", "coordinate a job on nodes where you start the agents", CoordinatorCommand, CoordinatorPage},
    {"agent", "run one node's part of such a job", AgentCommand, AgentPage},
    {"help", "show this page, or that of a command: muster help run", Help, HelpCommandPage},
    {"completion", "print what makes a shell complete muster's command lines", Complete, CompletionCommandPage},
    {"version", "print the version", Version, VersionPage},
};

const Entry* Find(const std::string& name) {
  for (const Entry& entry : kSubcommands) {
    if (name == entry.name) return &entry;
  }
  return nullptr;
}

HelpPage Overview() {
  std::string text = R"(usage: muster COMMAND [options]

muster starts a training program on several ranks, watches over it, and ends it cleanly.

examples
  muster run -np 4 ./train              start ./train four times; each process is one rank
  muster run -np 4 python3 train.py     any program will do: the rank is in RANK and OMPI_COMM_WORLD_RANK
  muster run -np 4 --tag-output ./train the rank before each line of output
  muster run --timeout 600 --report result.json -np 4 ./train
  muster run -np 4 --nodes 2 --max-restarts 3 ./train
                                        as two nodes; started again when a worker or a node is lost
  muster status                         how the newest job stands
  muster doctor                         what this machine offers

commands
)";
  for (const Entry& entry : kSubcommands) {
    std::string name = absl::StrCat("  ", entry.name);
    name.resize(15, ' ');
    absl::StrAppend(&text, name, entry.summary, "\n");
  }
  absl::StrAppend(&text, "\n`muster COMMAND --help` shows a command's options and examples.\n");
  return {.before = std::move(text), .flags = {}};
}

std::vector<CommandPage> Pages() {
  std::vector<CommandPage> pages;
  for (const Entry& entry : kSubcommands) pages.push_back({entry.name, entry.summary, entry.page()});
  return pages;
}

int Help(const std::vector<std::string>& arguments) { return HelpCommand(Pages(), Overview(), arguments); }

int Complete(const std::vector<std::string>& arguments) { return CompletionCommand(Pages(), arguments); }

HelpPage VersionPage() {
  return {.before = "usage: muster version\n\nPrints muster's version.\n\nexamples\n  muster version\n", .flags = {}};
}

int Version(const std::vector<std::string>& arguments) {
  FlagSet flags("muster version");
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(VersionPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  return Print("muster " MUSTER_VERSION "\n");
}

int Dispatch(const std::vector<std::string>& words) {
  if (words.empty()) {
    Say(absl::StrCat("no command given\n\n", HelpText(Overview())));
    return kExitUsage;
  }
  const std::string& word = words[0];
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (word == "-h" || word == "--help" || word == "-help") return Print(HelpText(Overview()));
  if (word == "--version" || word == "-version" || word == "-V") return Version({});
  if (const Entry* entry = Find(word); entry != nullptr) return entry->run(rest);

  if (absl::StartsWith(word, "-")) {
    return UsageError(
        absl::StrCat("options come after the command: muster run ", word, " ...; `muster --help` shows examples"));
  }
  std::vector<std::string> names;
  for (const Entry& entry : kSubcommands) names.push_back(entry.name);
  const std::string nearest = NearestName(word, names);
  return UsageError(nearest.empty() ? absl::StrCat("no command ", word, "; to start a program write: muster run ", word)
                                    : absl::StrCat("no command ", word, "; did you mean: muster ", nearest));
}

}  // namespace

}  // namespace muster

int main(int argc, char** argv) {
  // A descriptor of ours must not become stdout because the caller has closed it.
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != fd) return muster::kExitInternal;
  }
  // A reader that has gone is seen as EPIPE by whoever writes.
  signal(SIGPIPE, SIG_IGN);
  return muster::Dispatch(std::vector<std::string>(argv + 1, argv + argc));
}

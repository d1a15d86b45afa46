// muster: starts training jobs, keeps them going, and gives them collectives.
#include <fcntl.h>
#include <signal.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/subcommand.h"
#include "launcher/process/exit_codes.h"

namespace muster {
namespace {

int HelpCommand(const std::vector<std::string>& arguments);
int VersionCommand(const std::vector<std::string>& arguments);

struct Entry {
  const char* name;
  const char* summary;
  Subcommand run;
};

// In the order in which help shows them.
const Entry kSubcommands[] = {
    {"run", "start a program on several ranks and watch over it", RunCommand},
    {"ps", "list jobs and how they stand", PsCommand},
    {"status", "show one job: nodes, ranks, steps, restarts, verdict", StatusCommand},
    {"events", "show what happened in a job", EventsCommand},
    {"logs", "show what a job's workers have written", LogsCommand},
    {"cancel", "end a job", CancelCommand},
    {"checkpoint", "show the checkpoints in a folder, or verify them", CheckpointCommand},
    {"bench", "measure collectives here, beside the least that memory allows", BenchCommand},
    {"doctor", "check what this machine offers and what muster can promise on it", DoctorCommand},
    {"coordinator", "coordinate a job on nodes where you start the agents", CoordinatorCommand},
    {"agent", "run one node's part of such a job", AgentCommand},
    {"help", "show this page, or that of a command: muster help run", HelpCommand},
    {"version", "print the version", VersionCommand},
};

const Entry* Find(const std::string& name) {
  for (const Entry& entry : kSubcommands) {
    if (name == entry.name) return &entry;
  }
  return nullptr;
}

std::string Overview() {
  std::string text = R"(muster starts a training program on several ranks, watches over it, and ends it cleanly.

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
  return text;
}

int HelpCommand(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] == "help" || arguments[0] == "version" || absl::StartsWith(arguments[0], "-")) {
    return Print(Overview());
  }
  const Entry* entry = Find(arguments[0]);
  if (entry == nullptr) return UsageError(absl::StrCat("no command ", arguments[0], "; `muster --help` lists the commands"));
  return entry->run({"--help"});
}

int VersionCommand(const std::vector<std::string>&) { return Print("muster " MUSTER_VERSION "\n"); }

int Dispatch(const std::vector<std::string>& words) {
  if (words.empty()) {
    Say(absl::StrCat("no command given\n\n", Overview()));
    return kExitUsage;
  }
  const std::string& word = words[0];
  const std::vector<std::string> rest(words.begin() + 1, words.end());
  if (word == "-h" || word == "--help" || word == "-help") return HelpCommand(rest);
  if (word == "--version" || word == "-version" || word == "-V") return VersionCommand(rest);
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

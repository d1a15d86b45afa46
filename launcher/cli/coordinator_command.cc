// muster coordinator: a job's coordinator as a process of its own, for `muster run` or typed by a person.
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/own_environment.h"
#include "launcher/cli/run_applications.h"
#include "launcher/cli/run_endings.h"
#include "launcher/cli/run_network.h"
#include "launcher/cli/run_output.h"
#include "launcher/cli/run_placement.h"
#include "launcher/cli/run_ssh.h"
#include "launcher/cli/subcommand.h"
#include "launcher/job/job_folder.h"
#include "launcher/process/coordinator_process.h"
#include "launcher/process/exit_codes.h"
#include "runtime/base/fd.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr char kUsage[] = R"(usage: muster coordinator [options] PROGRAM [ARGUMENTS] [: -np N PROGRAM [ARGUMENTS]]...

Coordinates a job on nodes where you start the agents yourself. It writes one ticket a node into
the job's folder and says what to run there; each ticket is good once, for that node. The job
begins when all nodes have joined. Its output comes here.

examples
  muster coordinator --nodes 2 -np 8 ./train
  muster coordinator --listen 10.0.0.5:4242 --nodes 4 -np 16 --min-np 12 --max-restarts 3 ./train
)";

constexpr char kAfter[] = R"(Exit status and signals are those of muster run.
)";

struct CoordinatorFlags {
  std::string listen = "0.0.0.0";
  int64_t nodes = 1;
  int64_t workers = 0;
  int64_t workers_min = 0;
  int64_t max_restarts = 0;
  int64_t spares = 0;
  double last_call_seconds = 0;  // 0: not said
  PlacementOptions placement;
  EndingOptions ending;
  NetworkOptions network;
  std::string working_directory;
  std::vector<std::string> environment;
  bool module = false;
  OutputFlags output;
  int64_t master_port = 0;
  bool verbose = false;
};

FlagSet Declare(CoordinatorFlags* job) {
  FlagSet flags("muster coordinator");
  flags.Text("--listen", "ADDRESS[:PORT]", &job->listen,
             "numeric address of this machine at which agents reach it (all), and\nthe port (any that is free)");
  flags.Count("--nodes", "K", &job->nodes, 1, 100'000, "number of nodes (1)");
  flags.Count("-np -n", "N", &job->workers, 1, 1'000'000, "number of workers, spread over the nodes; without it one a node");
  flags.Count("--min-np", "M", &job->workers_min, 1, 1'000'000,
              "go on with M workers when nodes are lost and do not come back");
  flags.Count("--max-restarts", "R", &job->max_restarts, 0, 1'000'000,
              "start all workers again after a failure, R times without a new\ncheckpoint between them (0)");
  flags.Count("--spares", "N", &job->spares, 0, 100'000,
              "N more nodes, the last ones, stand by: at a restart each takes the\nplace of one that is lost");
  flags.Seconds("--last-call", "SECONDS", &job->last_call_seconds, "how long lost nodes are waited for");
  flags.Texts("-x --env", "NAME=VALUE", &job->environment, "set NAME for the workers; may be given many times");
  flags.Text("-wdir --wd --working-dir", "FOLDER", &job->working_directory, "start the workers in FOLDER of their node");
  flags.Switch("-m --module", &job->module, "PROGRAM is a Python module, as of python3 -m");
  DeclareEndings(&flags, &job->ending);
  DeclareNetwork(&flags, &job->network);
  DeclareOutput(&flags, &job->output);
  flags.Count("--master-port", "N", &job->master_port, 1, 65535, "MASTER_PORT for the workers");
  flags.Switch("-v --verbose", &job->verbose, "say on stderr what muster does");
  flags.Heading("which rank runs where");
  DeclarePlacement(&flags, &job->placement);
  return flags;
}

absl::Status AddEnvironment(const std::vector<std::string>& settings,
                            google::protobuf::RepeatedPtrField<std::string>* environment) {
  for (const std::string& setting : settings) {
    if (setting.find('=') == std::string::npos || setting[0] == '=') {
      return absl::InvalidArgumentError(
          absl::StrCat("-x ", setting, ": write -x NAME=VALUE; agents do not know this environment"));
    }
    *environment->Add() = setting;
  }
  return absl::OkStatus();
}

// Several programs: what is said of each.
absl::Status AddApplications(const std::vector<RunApplication>& applications, CoordinatorFlags* job, v1::JobSpec* spec) {
  if (applications.empty()) return absl::OkStatus();
  int64_t workers = 0;
  for (const RunApplication& one : applications) {
    v1::Application* application = spec->add_applications();
    application->set_workers(static_cast<uint32_t>(one.workers));
    for (const std::string& word : CommandToStart(one.command, one.module, Python())) application->add_command(word);
    MUSTER_RETURN_IF_ERROR(AddEnvironment(one.environment, application->mutable_environment()));
    application->set_working_directory(one.working_directory);
    workers += one.workers;
  }
  if (job->workers_min > 0 && job->workers_min < workers) {
    return absl::InvalidArgumentError(absl::StrCat("--min-np ", job->workers_min,
                                                   ": a job of several programs runs with all its ", workers,
                                                   " workers or not at all; leave --min-np out"));
  }
  job->workers = workers;
  job->environment.clear();  // the first program's own now
  job->working_directory.clear();
  return absl::OkStatus();
}

// What several nodes look like only they know.
absl::Status SettlePlacement(CoordinatorFlags* job) {
  MUSTER_RETURN_IF_ERROR(CheckPlacement(&job->placement));
  if (job->workers > 0 || !absl::StartsWith(job->placement.map_by, "ppr:")) return absl::OkStatus();
  if (job->placement.per_node == 0) {
    return absl::InvalidArgumentError(absl::StrCat("--map-by ", job->placement.map_by,
                                                   ": how many workers that makes only the nodes know; say it with -np N"));
  }
  job->workers = job->nodes * job->placement.per_node;
  return absl::OkStatus();
}

absl::Status CheckRecovery(const CoordinatorFlags& job) {
  if (job.max_restarts > 0) return absl::OkStatus();
  return OutOfPlace({{"--spares", job.spares > 0}, {"--last-call", job.last_call_seconds > 0}}, "going on after a loss",
                    "add --max-restarts R");
}

absl::StatusOr<v1::Launch> LaunchOf(CoordinatorFlags job, const std::vector<std::string>& command,
                                    const std::vector<RunApplication>& applications) {
  v1::Launch launch;
  MUSTER_RETURN_IF_ERROR(AddApplications(applications, &job, launch.mutable_job()));
  if (command.empty()) {
    return absl::InvalidArgumentError(
        "no program given; it stands after the options: muster coordinator --nodes 2 -np 8 PROGRAM");
  }
  MUSTER_RETURN_IF_ERROR(SplitListen(job.listen, &launch));
  MUSTER_RETURN_IF_ERROR(SettlePlacement(&job));
  MUSTER_RETURN_IF_ERROR(CheckRecovery(job));
  std::string job_id(16, '\0');
  MUSTER_CHECK(::getentropy(job_id.data(), job_id.size()) == 0, "getentropy");
  launch.set_job_id(job_id);
  launch.set_nodes(static_cast<uint32_t>(job.nodes + job.spares));
  launch.set_spares(static_cast<uint32_t>(job.spares));
  launch.set_workers(static_cast<uint32_t>(job.workers > 0 ? job.workers : job.nodes));
  launch.set_workers_min(static_cast<uint32_t>(job.workers_min));
  launch.set_max_restarts(static_cast<uint32_t>(job.max_restarts));
  if (job.last_call_seconds > 0)
    launch.set_last_call_ms(std::max<int64_t>(1, static_cast<int64_t>(job.last_call_seconds * 1e3)));
  if (job.ending.orphan_after_seconds > 0) {
    return absl::InvalidArgumentError("--orphan-after is each agent's own here: muster agent --orphan-after SECONDS");
  }
  MUSTER_RETURN_IF_ERROR(SettleEndings(&job.ending));
  AddEndings(job.ending, &launch);
  MUSTER_RETURN_IF_ERROR(TakeNetwork(job.placement.order_is_chosen, &job.network));
  AddNetwork(job.network, &launch);
  launch.set_verbose(job.verbose);
  launch.set_starter(v1::Launch::NONE);
  launch.set_text(CommandText(command));
  if (job.nodes > static_cast<int64_t>(launch.workers())) {
    return absl::InvalidArgumentError(
        absl::StrCat("--nodes ", job.nodes, " is more than -np ", launch.workers(), ": some nodes would have no worker"));
  }
  if (launch.workers_min() > launch.workers()) {
    return absl::InvalidArgumentError(absl::StrCat("--min-np ", job.workers_min, " is more than -np ", launch.workers()));
  }
  v1::JobSpec* spec = launch.mutable_job();
  for (const std::string& word : CommandToStart(command, job.module && applications.empty(), Python())) spec->add_command(word);
  MUSTER_RETURN_IF_ERROR(AddEnvironment(job.environment, spec->mutable_environment()));
  spec->set_working_directory(job.working_directory);
  if (job.placement.wanted()) *spec->mutable_placement() = PlacementOf(job.placement);
  spec->set_master_port(static_cast<uint32_t>(job.master_port));
  std::error_code error;
  MUSTER_RETURN_IF_ERROR(SettleOutput(launch.workers(), job.nodes, std::filesystem::current_path(error).string(), &job.output));
  AddOutput(job.output, true, spec);
  return launch;
}

bool IsSocket(int fd) {
  struct stat status;
  return ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

int Run(CoordinatorProcessOptions options) {
  auto process = CoordinatorProcess::Create(std::move(options));
  if (!process.ok()) {
    Say(process.status().message());
    return kExitInternal;
  }
  return (*process)->Run();
}

int RunForPerson(v1::Launch launch) {
  bool fallback = false;
  const std::string state_home = StateHome(Variable("XDG_STATE_HOME"), Variable("HOME"), TemporaryFolder(), &fallback);
  auto folder = JobFolder::Create(state_home, absl::BytesToHexString(launch.job_id()));
  if (!folder.ok()) {
    Say(folder.status().message());
    return kExitCannotWrite;
  }
  if (fallback) Say(absl::StrCat("HOME is not set, so the job's record goes to ", (*folder)->path()));
  (*folder)->RemoveOlder();
  launch.set_job_folder((*folder)->path());
  if (launch.verbose()) {
    SetLogSink([](LogLevel, absl::string_view line) { Say(line); });
  }
  CoordinatorProcessOptions options;
  options.launch = std::move(launch);
  options.job_folder = *std::move(folder);
  return Run(std::move(options));
}

}  // namespace

HelpPage CoordinatorPage() {
  CoordinatorFlags unused;
  return {.before = kUsage, .flags = Declare(&unused).Describe(), .after = kAfter, .operand = Operand::kProgram};
}

int CoordinatorCommand(const std::vector<std::string>& arguments) {
  // `muster run` gives no words: all is in the Launch that comes through its socket.
  if (arguments.empty() && IsSocket(kLaunchFd)) {
    CoordinatorProcessOptions options;
    options.link = UniqueFd(kLaunchFd);
    return Run(std::move(options));
  }
  CoordinatorFlags job;
  FlagSet flags = Declare(&job);
  const auto command = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(CoordinatorPage()));
  if (!command.ok()) return UsageError(command.status().message());
  std::vector<RunApplication> applications;
  bool help_wanted = false;
  const absl::Status read =
      ReadApplications(flags, *command, flags.separated(),
                       {job.workers, job.environment, job.working_directory, job.module, {}}, &applications, &help_wanted);
  if (help_wanted) return Print(HelpText(CoordinatorPage()));
  if (!read.ok()) return UsageError(read.message());
  auto launch = LaunchOf(job, *command, applications);
  if (absl::IsFailedPrecondition(launch.status())) {  // what a topology file says
    for (const absl::string_view line : absl::StrSplit(launch.status().message(), '\n')) Say(line);
    return kExitJobFile;
  }
  if (!launch.ok()) return UsageError(launch.status().message());
  return RunForPerson(*std::move(launch));
}

}  // namespace muster

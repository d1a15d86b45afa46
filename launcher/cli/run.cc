// muster run: start a program on several ranks and watch over it.
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/agent/environment.h"
#include "launcher/agent/machine.h"
#include "launcher/cli/console.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/local_job.h"
#include "launcher/cli/own_environment.h"
#include "launcher/cli/program.h"
#include "launcher/cli/remote_job.h"
#include "launcher/cli/run_options.h"
#include "launcher/cli/subcommand.h"
#include "launcher/job/job_folder.h"
#include "launcher/job/job_list.h"
#include "launcher/job/write_file.h"
#include "launcher/process/exit_codes.h"
#include "launcher/process/last_words.h"
#include "launcher/process/node_order.h"
#include "launcher/process/report.h"
#include "launcher/process/session_folder.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

// "-x NAME" alone passes on our own NAME, which the workers inherit anyway.
absl::Status CheckEnvironment(const std::vector<std::string>& environment) {
  for (const std::string& setting : environment) {
    const std::string name = setting.substr(0, setting.find('='));
    if (IsPlaceVariable(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("-x ", setting, ": ", name, " is set by muster itself, for each rank; leave it out"));
    }
    if (name == setting && !Variable(name.c_str())) {
      return absl::InvalidArgumentError(absl::StrCat("-x ", name, ": ", name, " is not set here; write -x ", name, "=VALUE"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFolder(const std::string& folder) {
  std::error_code error;
  if (folder.empty() || fs::is_directory(folder, error)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "-wdir ", folder, fs::exists(folder, error) ? " is not a folder" : " does not exist", "; make it, or name another"));
}

// Failing at the end for want of a place to write to would cost a whole training run.
absl::Status CheckReport(const std::string& file) {
  if (file.empty()) return absl::OkStatus();
  std::error_code error;
  const fs::path folder = fs::absolute(file, error).parent_path();
  if (fs::is_directory(file, error))
    return absl::PermissionDeniedError(absl::StrCat("--report ", file, " is a folder; name a file"));
  if (!fs::is_directory(folder, error)) {
    return absl::NotFoundError(absl::StrCat("--report ", file, ": there is no folder ", folder.string(), "; make it first"));
  }
  const bool regular = !fs::exists(file, error) || fs::is_regular_file(file, error);
  if (::access(regular ? folder.c_str() : file.c_str(), W_OK) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("--report ", file, ": cannot write there; name a file in a folder of yours"));
  }
  return absl::OkStatus();
}

int Fail(int exit_code, const absl::Status& status) {
  Say(status.message());
  return exit_code;
}

// Writes --report and --termination-message; the job's own exit code goes before a failure to write them.
int WriteReport(int exit_code, const std::string& json, const RunOptions& run) {
  if (!run.last_words_file.empty()) {
    const absl::Status said = WriteLastWords(run.last_words_file, JobLastWords(json));
    if (!said.ok()) Say(absl::StrCat("--termination-message: ", said.message()));
  }
  if (run.report_file.empty()) return exit_code;
  if (const absl::Status status = WriteFile(run.report_file, json); !status.ok()) {
    Say(absl::StrCat("cannot write the report: ", status.message()));
    return exit_code == kExitOk ? kExitCannotWrite : exit_code;
  }
  return exit_code;
}

// The same, and keeps the verdict in the job's folder.
int WriteReports(int exit_code, const std::string& json, const std::string& job_folder, const RunOptions& run) {
  const absl::Status kept = WriteFile(job_folder + "/verdict.json", json);
  // Where the job's record could not be written the verdict cannot either, and that has been said.
  if (!kept.ok() && exit_code != kExitCannotWrite) Say(absl::StrCat("cannot keep the verdict: ", kept.message()));
  return WriteReport(exit_code, json, run);
}

void SayVerdict(const v1::Verdict& verdict) {
  if (!verdict.sentence().empty() && verdict.exit_code() != kExitBrokenPipe) Say(verdict.sentence());
}

absl::Status CheckEnvironments(const RunOptions& options) {
  for (const RunApplication& one : options.applications) MUSTER_RETURN_IF_ERROR(CheckEnvironment(one.environment));
  return CheckEnvironment(options.environment);
}

// On other hosts their agents look.
absl::Status CheckFolders(const RunOptions& options) {
  if (options.hosts.chosen != v1::Launch::LOCAL) return absl::OkStatus();
  for (const RunApplication& one : options.applications) {
    MUSTER_RETURN_IF_ERROR(CheckFolder(one.working_directory));
  }
  return CheckFolder(options.working_directory);
}

// What the workers should know before they start, said once.
void SayDefaults(const RunOptions& options, const std::vector<std::string>& environment) {
  const auto on_a_node = static_cast<uint32_t>((options.workers + options.nodes - 1) / options.nodes);
  const auto would_set = [&](const std::vector<std::string>& chosen) {
    return WouldSetOmpThreads(environment, chosen, on_a_node);
  };
  const bool sets = options.applications.empty()
                        ? would_set(options.environment)
                        : std::any_of(options.applications.begin(), options.applications.end(),
                                      [&](const RunApplication& one) { return would_set(one.environment); });
  if (!sets) return;
  Say("each worker gets OMP_NUM_THREADS=1, for it was not set; choose with -x OMP_NUM_THREADS=N");
}

struct Start {
  RunOptions run;
  std::string job_id;               // 16 bytes
  Startable program;                // of run.command
  std::vector<Startable> programs;  // of several programs: of each
  std::string guard_path;
  std::string temporary;
};

// A verdict that no coordinator has made, in the form of all reports.
std::string ReportOf(const Start& start, const v1::Verdict& verdict) {
  JobResult result;
  result.job_id = absl::BytesToHexString(start.job_id);
  result.command = start.run.command;
  result.workers = start.run.workers;
  result.started = absl::Now();
  result.judgement.verdict = verdict;
  return ReportJson(result);
}

// The job has a folder, and no coordinator has begun: who looks there finds why.
int FailJob(const Start& start, const JobFolder& folder, int exit_code, const absl::Status& status) {
  v1::Verdict verdict;
  verdict.set_exit_code(exit_code);
  verdict.set_origin("muster");
  verdict.set_failure_class("cannot start");
  verdict.set_rank(-1);
  verdict.set_committed_step(-1);
  verdict.set_sentence(std::string(status.message()));
  SayVerdict(verdict);
  return WriteReports(exit_code, ReportOf(start, verdict), folder.path(), start.run);
}

// In this process, joined by memory.
int RunHere(const Start& start, const JobFolder& folder) {
  LocalJobOptions options;
  auto session_folder = SessionFolder::Create(start.temporary, absl::BytesToHexString(start.job_id));
  if (!session_folder.ok()) return FailJob(start, folder, kExitCannotWrite, session_folder.status());
  options.job_id = start.job_id;
  options.program = start.program;
  options.programs = start.programs;
  options.guard_path = start.guard_path;
  options.job_folder = folder.path();
  options.session_folder = (*session_folder)->path();
  options.environment = OwnEnvironment();
  options.run = start.run;
  auto job = LocalJob::Create(std::move(options));
  if (!job.ok()) {
    // The record says so when the disk is full or may not be written.
    const bool disk = absl::IsResourceExhausted(job.status()) || absl::IsDataLoss(job.status());
    return FailJob(start, folder, disk ? kExitCannotWrite : kExitInternal, job.status());
  }
  // Takes milliseconds: ranks start meanwhile.
  const std::jthread older([&folder] { folder.RemoveOlder(); });
  const JobResult result = (*job)->Run();
  job->reset();  // the guard has ended before we say how it went
  SayVerdict(result.judgement.verdict);
  return WriteReports(result.judgement.verdict.exit_code(), ReportJson(result), folder.path(), start.run);
}

// "NAME" alone stands for what it is here.
std::string WithValue(const std::string& setting) {
  const bool name_alone = setting.find('=') == std::string::npos;
  return name_alone ? absl::StrCat(setting, "=", Variable(setting.c_str()).value_or("")) : setting;
}

absl::StatusOr<v1::Launch> MakeLaunch(const Start& start, const JobFolder& folder) {
  const RunOptions& run = start.run;
  v1::Launch launch;
  launch.set_job_id(start.job_id);
  launch.set_workers(static_cast<uint32_t>(run.workers));
  launch.set_workers_min(static_cast<uint32_t>(run.workers_min));
  launch.set_max_restarts(static_cast<uint32_t>(run.max_restarts));
  launch.set_job_folder(folder.path());
  launch.set_detached(run.detach);
  launch.set_verbose(run.verbose);
  AddEndings(run.ending, &launch);
  launch.set_nodes(static_cast<uint32_t>(run.nodes + run.spares));
  launch.set_spares(static_cast<uint32_t>(run.spares));
  AddHosts(run.hosts, &launch);
  AddNetwork(run.network, &launch);
  launch.set_node_network(run.node_network == "namespaces" ? v1::Launch::NAMESPACES
                          : run.node_network == "host"     ? v1::Launch::HOST
                                                           : v1::Launch::AUTO);
  if (launch.starter() == v1::Launch::LOCAL) launch.set_temporary_folder(start.temporary);  // other hosts have their own
  MUSTER_ASSIGN_OR_RETURN(*launch.mutable_agent_program(), OwnProgram());
  if (launch.starter() != v1::Launch::LOCAL) {
    MUSTER_RETURN_IF_ERROR(TakeSshOptions(run.ssh, &launch));
    launch.mutable_ssh()->set_home_if_no_folder(run.working_directory.empty());
  }
  // 0 stands for the default.
  if (run.last_call_seconds > 0)
    launch.set_last_call_ms(std::max<int64_t>(1, static_cast<int64_t>(run.last_call_seconds * 1e3)));
  launch.set_text(CommandText(run.command));
  launch.set_name(run.name);

  v1::JobSpec& job = *launch.mutable_job();
  for (const std::string& word : run.command) job.add_command(word);
  for (const std::string& setting : run.environment) job.add_environment(WithValue(setting));
  std::error_code error;
  for (const RunApplication& one : run.applications) {
    v1::Application* application = job.add_applications();
    application->set_workers(static_cast<uint32_t>(one.workers));
    for (const std::string& word : one.command) application->add_command(word);
    for (const std::string& setting : one.environment) application->add_environment(WithValue(setting));
    if (!one.working_directory.empty()) {
      application->set_working_directory(fs::absolute(one.working_directory, error).lexically_normal());
    }
  }
  job.set_working_directory(
      fs::absolute(run.working_directory.empty() ? "." : run.working_directory, error).lexically_normal());
  if (run.placement.wanted()) *job.mutable_placement() = PlacementOf(run.placement);
  job.set_master_port(static_cast<uint32_t>(run.master_port));
  AddOutput(run.output, !run.detach, &job);
  job.set_pty(run.pty || (!run.detach && ::isatty(STDOUT_FILENO) == 1));
  job.set_session_folder_parent(launch.temporary_folder());
  job.mutable_checkpoint()->set_path(run.checkpoint_path);
  job.mutable_checkpoint()->set_every_steps(run.checkpoint_every);
  job.mutable_checkpoint()->set_keep(static_cast<int32_t>(run.checkpoint_keep));
  return launch;
}

// Each agent of this machine would say the same. On others it is theirs to say.
absl::Status CheckTemporaryFolder(const Start& start) {
  std::error_code error;
  if (start.run.hosts.needs_coordinator() ||
      (fs::is_directory(start.temporary, error) && ::access(start.temporary.c_str(), W_OK | X_OK) == 0)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat("cannot make the job's temporary folder in ", start.temporary,
                                                    " (set TMPDIR to a folder that can be written)"));
}

// With a coordinator in a process of its own.
int RunRemotely(const Start& start, const JobFolder& folder) {
  folder.RemoveOlder();
  if (const absl::Status status = CheckTemporaryFolder(start); !status.ok())
    return FailJob(start, folder, kExitCannotWrite, status);
  auto launch = MakeLaunch(start, folder);
  if (!launch.ok()) return FailJob(start, folder, kExitInternal, launch.status());
  RemoteJobOptions options;
  options.launch = *std::move(launch);
  options.coordinator_log = folder.path() + "/coordinator.log";
  options.job_lock = folder.lock_fd();
  auto job = RemoteJob::Create(std::move(options));
  if (!job.ok())
    return FailJob(start, folder, absl::IsInvalidArgument(job.status()) ? kExitUsage : kExitInternal, job.status());
  RemoteResult result = (*job)->Run();
  if (result.runs_on) {
    const std::string id = absl::BytesToHexString(start.job_id), brief = id.substr(0, 8);
    Say(absl::StrCat("the job runs on; muster status ", brief, ", muster logs ", brief, " --follow, muster cancel ", brief));
    return Print(id + "\n");
  }
  job->reset();
  SayVerdict(result.verdict);
  const int exit_code = result.verdict.exit_code();
  if (result.goes_on) return WriteReport(exit_code, ReportOf(start, result.verdict), start.run);  // no verdict on the job
  if (result.report_json.empty()) {
    return WriteReports(exit_code, ReportOf(start, result.verdict), folder.path(), start.run);
  }
  return WriteReport(exit_code, result.report_json, start.run);  // the coordinator has kept its verdict
}

// Of the job that this command goes on with, whose id is then the job's; else a new one.
absl::StatusOr<std::unique_ptr<JobFolder>> TakeFolder(const std::string& state_home, Start* start) {
  const std::string& name = start->run.hosts.same_job;
  const std::optional<StoredJob> found = name.empty() ? std::nullopt : FindUnfinished(state_home, name);
  if (found) {
    auto folder = JobFolder::TakeUp(found->folder);
    if (folder.ok()) {
      start->job_id = absl::HexStringToBytes(found->job_id);
      Say(absl::StrCat("goes on with job ", found->brief(), ", whose coordinator was lost"));
      return folder;
    }
    Say(absl::StrCat("job ", found->brief(), " is not gone on with: ", folder.status().message(), "; a new one begins"));
  }
  MUSTER_ASSIGN_OR_RETURN(auto folder, JobFolder::Create(state_home, absl::BytesToHexString(start->job_id)));
  if (!name.empty()) MUSTER_RETURN_IF_ERROR(WriteFile(folder->path() + "/same-job", name + "\n"));
  return folder;
}

int RunJob(Start start) {
  bool fallback = false;
  const std::string state_home = StateHome(Variable("XDG_STATE_HOME"), Variable("HOME"), start.temporary, &fallback);
  auto folder = TakeFolder(state_home, &start);
  if (!folder.ok()) return Fail(kExitCannotWrite, folder.status());
  if (fallback) Say(absl::StrCat("HOME is not set, so the job's record goes to ", (*folder)->path()));
  const absl::Status kept = WriteFile((*folder)->path() + "/command", CommandText(start.run.command) + "\n");
  if (!kept.ok()) Say(absl::StrCat("`muster ps` will not show the command: ", kept.message()));
  SayDefaults(start.run, OwnEnvironment());
  return start.run.nodes > 1 || start.run.spares > 0 || start.run.detach || start.run.hosts.needs_coordinator()
             ? RunRemotely(start, **folder)
             : RunHere(start, **folder);
}

// On other hosts their agents look.
absl::Status FindPrograms(const RunOptions& options, const std::string& own_folder, Start* start) {
  const std::string path = Variable("PATH").value_or("/usr/local/bin:/usr/bin:/bin");
  if (options.applications.empty()) {
    MUSTER_ASSIGN_OR_RETURN(start->program,
                            FindCommand(options.command, options.working_directory, path, own_folder, Python()));
  }
  for (const RunApplication& one : options.applications) {
    MUSTER_ASSIGN_OR_RETURN(start->programs.emplace_back(),
                            FindCommand(one.command, one.working_directory, path, own_folder, Python()));
  }
  return absl::OkStatus();
}

// Modules become commands, and what workers get only by a flag of its own is an environment variable from here on.
void TakePrograms(RunOptions* options) {
  options->command = CommandToStart(options->command, options->module && options->applications.empty(), Python());
  for (RunApplication& one : options->applications) one.command = CommandToStart(one.command, one.module, Python());
  if (!options->role.empty()) options->environment.push_back(absl::StrCat("ROLE_NAME=", options->role));
  if (!options->backend.empty()) options->environment.push_back(absl::StrCat("MUSTER_BACKEND=", options->backend));
}

// Where nobody has said how many workers, the placement may say it.
absl::Status SettlePlacement(int64_t usable, RunOptions* options) {
  if (options->workers > 0 || options->workers_per_node > 0 || !options->workers_per_node_typed.empty())
    return absl::OkStatus();
  if (!options->hosts.named.empty()) {  // what other machines have nobody knows yet
    options->workers_per_node = options->placement.per_node;
    return absl::OkStatus();
  }
  MUSTER_ASSIGN_OR_RETURN(options->workers,
                          WorkersOfPlacement(options->placement, std::max<int64_t>(1, options->nodes), usable));
  return absl::OkStatus();
}

// The nodes as the coordinator would arrange them, as far as the user's files tell it; what agents would add is not known.
absl::Status Arrange(const v1::NetworkKnowledge& knowledge, std::vector<std::string>* hosts, std::vector<uint32_t>* slots) {
  MUSTER_ASSIGN_OR_RETURN(const membership::OrderFunction order_of, MakeOrderFunction(knowledge));
  if (!order_of) return absl::OkStatus();
  std::vector<membership::NodeOffer> offers;
  for (size_t i = 0; i < hosts->size(); ++i) {
    offers.push_back({.node = static_cast<uint32_t>(i),
                      .host = (*hosts)[i],
                      .slots = 0,
                      .topology = {},
                      .network = {},
                      .address = {},
                      .devices = {}});
  }
  const membership::NodeOrder order = order_of(offers, {});
  for (const std::string& note : order.notes) Say(note);
  if (!order.plan.empty()) Say(order.plan);
  std::vector<std::string> arranged;
  std::vector<uint32_t> arranged_slots;
  for (const uint32_t node : order.nodes) {
    arranged.push_back((*hosts)[node]);
    if (!slots->empty()) arranged_slots.push_back((*slots)[node]);
  }
  *hosts = std::move(arranged);
  *slots = std::move(arranged_slots);
  return absl::OkStatus();
}

int ShowMap(const RunOptions& options) {
  std::vector<std::string> hosts;
  std::vector<uint32_t> slots;
  for (const HostShare& share : options.hosts.shares) {
    if (share.workers == 0) {
      return UsageError(absl::StrCat("--do-not-launch starts nothing that could say how many cores ", share.host.name,
                                     " has; give it slots=N, or say --nproc-per-node N"));
    }
    hosts.push_back(share.host.name);
    slots.push_back(static_cast<uint32_t>(share.workers));
  }
  const bool named = !hosts.empty();
  for (int64_t node = 0; !named && node < options.nodes; ++node) hosts.push_back(absl::StrCat("node", node));
  if (char name[HOST_NAME_MAX + 1] = {}; !named && options.nodes == 1 && ::gethostname(name, sizeof name - 1) == 0)
    hosts[0] = name;
  if (const absl::Status status = Arrange(options.network.knowledge, &hosts, &slots); !status.ok())
    return UsageError(status.message());
  const auto text = PlannedMap(options.placement, options.workers, hosts, slots);
  return text.ok() ? Print(*text) : UsageError(text.status().message());
}

}  // namespace

int RunCommand(const std::vector<std::string>& arguments) {
  bool help_wanted = false;
  auto options = ParseRunOptions(arguments, &help_wanted);
  if (help_wanted) return Print(HelpText(RunPage()));
  if (options.ok() && !options->job_file.path.empty()) {
    const auto job = ReadJobFile(options->job_file.path);
    if (absl::IsNotFound(job.status())) return UsageError(job.status().message());
    if (!job.ok()) {
      for (const absl::string_view line : absl::StrSplit(job.status().message(), '\n')) Say(line);
      return kExitJobFile;
    }
    options = ParseRunOptions(arguments, &help_wanted, &*job);
    if (absl::IsFailedPrecondition(options.status())) return Fail(kExitJobFile, options.status());
  }
  if (!options.ok()) return UsageError(options.status().message());
  if (const absl::Status status = CheckEnvironments(*options); !status.ok()) return UsageError(status.message());
  if (const absl::Status status = CheckReport(options->report_file); !status.ok()) return Fail(kExitCannotWrite, status);
  if (const absl::Status status = ReadHosts(&options->hosts); !status.ok()) return UsageError(status.message());
  const int64_t usable = FindUsableCores().count();
  if (const absl::Status status = SettlePlacement(usable, &*options); !status.ok()) return UsageError(status.message());
  if (const absl::Status status = SettleRunOptions(usable, &*options); !status.ok()) {
    return UsageError(status.message());
  }
  if (const absl::Status status = CheckFolders(*options); !status.ok()) return UsageError(status.message());
  if (options->ssh.remote_muster.empty() && options->hosts.chosen != v1::Launch::LOCAL) {
    options->ssh.remote_muster = options->job_file.remote_muster;
  }
  if (const absl::Status status = CheckSshOptions(options->ssh, options->hosts.chosen); !status.ok()) {
    return UsageError(status.message());
  }
  if (const absl::Status status = TakeNetwork(options->placement.order_is_chosen, &options->network); !status.ok()) {
    if (absl::IsInvalidArgument(status)) return UsageError(status.message());
    for (const absl::string_view line : absl::StrSplit(status.message(), '\n')) Say(line);
    return kExitJobFile;
  }
  if (options->placement.do_not_launch) return ShowMap(*options);
  if (!options->checkpoint_path.empty()) options->checkpoint_path = fs::absolute(options->checkpoint_path).lexically_normal();
  if (options->verbose) {
    SetLogSink([](LogLevel, absl::string_view line) { Say(line); });
    for (const std::string& note : options->job_file.without_effect) Say(note);
  }

  TakePrograms(&*options);
  auto own_folder = OwnFolder();
  if (!own_folder.ok()) return Fail(kExitInternal, own_folder.status());
  Start start;
  if (options->hosts.chosen == v1::Launch::LOCAL) {
    if (const absl::Status found = FindPrograms(*options, *own_folder, &start); !found.ok()) {
      return Fail(absl::IsNotFound(found) ? kExitNotFound : kExitNotExecutable, found);
    }
  }
  auto guard = FindGuard(*own_folder);
  if (!guard.ok()) return Fail(kExitInternal, guard.status());

  start.run = *std::move(options);
  start.job_id.resize(16);
  MUSTER_CHECK(::getentropy(start.job_id.data(), start.job_id.size()) == 0, "getentropy");
  start.guard_path = *std::move(guard);
  start.temporary = TemporaryFolder();
  return RunJob(start);
}

}  // namespace muster

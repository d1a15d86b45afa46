// muster run: start a program on several ranks and watch over it.
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "launcher/agent/environment.h"
#include "launcher/agent/machine.h"
#include "launcher/cli/console.h"
#include "launcher/cli/local_job.h"
#include "launcher/cli/own_environment.h"
#include "launcher/cli/program.h"
#include "launcher/cli/run_options.h"
#include "launcher/cli/subcommand.h"
#include "launcher/job/job_folder.h"
#include "launcher/job/write_file.h"
#include "launcher/process/exit_codes.h"
#include "launcher/process/report.h"
#include "launcher/process/session_folder.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

// "-x NAME" alone passes on our own NAME, which the workers inherit anyway.
absl::Status CheckEnvironment(const RunOptions& options) {
  for (const std::string& setting : options.environment) {
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

// Writes the report; the job's own exit code goes before a failure to write it.
int WriteReports(const JobResult& result, const std::string& job_folder, const std::string& report_file) {
  const std::string json = ReportJson(result);
  const int exit_code = result.judgement.verdict.exit_code();
  const absl::Status kept = WriteFile(job_folder + "/verdict.json", json);
  // Where the job's record could not be written the verdict cannot either, and that has been said.
  if (!kept.ok() && exit_code != kExitCannotWrite) Say(absl::StrCat("cannot keep the verdict: ", kept.message()));
  if (report_file.empty()) return exit_code;
  if (const absl::Status status = WriteFile(report_file, json); !status.ok()) {
    Say(absl::StrCat("cannot write the report: ", status.message()));
    return exit_code == kExitOk ? kExitCannotWrite : exit_code;
  }
  return exit_code;
}

absl::Status Check(const RunOptions& options) {
  MUSTER_RETURN_IF_ERROR(CheckEnvironment(options));
  return CheckFolder(options.working_directory);
}

// What the workers should know before they start, said once.
void SayDefaults(const RunOptions& options, const std::vector<std::string>& environment) {
  if (!WouldSetOmpThreads(environment, options.environment, static_cast<uint32_t>(options.workers))) return;
  Say("each worker gets OMP_NUM_THREADS=1, for it was not set; choose with -x OMP_NUM_THREADS=N");
}

int RunJob(LocalJobOptions options, const std::string& temporary) {
  const std::string job_id = absl::BytesToHexString(options.job_id);
  bool fallback = false;
  const std::string state_home = StateHome(Variable("XDG_STATE_HOME"), Variable("HOME"), temporary, &fallback);
  auto job_folder = JobFolder::Create(state_home, job_id);
  if (!job_folder.ok()) return Fail(kExitCannotWrite, job_folder.status());
  if (fallback) Say(absl::StrCat("HOME is not set, so the job's record goes to ", (*job_folder)->path()));
  auto session_folder = SessionFolder::Create(temporary, job_id);
  if (!session_folder.ok()) return Fail(kExitCannotWrite, session_folder.status());
  options.job_folder = (*job_folder)->path();
  options.session_folder = (*session_folder)->path();

  SayDefaults(options.run, options.environment);
  const std::string report_file = options.run.report_file;
  auto job = LocalJob::Create(std::move(options));
  if (!job.ok()) {
    // The record says so when the disk is full or may not be written.
    const bool disk = absl::IsResourceExhausted(job.status()) || absl::IsDataLoss(job.status());
    return Fail(disk ? kExitCannotWrite : kExitInternal, job.status());
  }
  const JobResult result = (*job)->Run();
  job->reset();  // the guard has ended before we say how it went
  if (!result.judgement.verdict.sentence().empty() && result.judgement.verdict.exit_code() != kExitBrokenPipe) {
    Say(result.judgement.verdict.sentence());
  }
  return WriteReports(result, (*job_folder)->path(), report_file);
}

}  // namespace

int RunCommand(const std::vector<std::string>& arguments) {
  bool help_wanted = false;
  auto options = ParseRunOptions(arguments, &help_wanted);
  if (help_wanted) return Print(RunHelp());
  if (!options.ok()) return UsageError(options.status().message());
  if (const absl::Status status = Check(*options); !status.ok()) return UsageError(status.message());
  if (const absl::Status status = CheckReport(options->report_file); !status.ok()) return Fail(kExitCannotWrite, status);
  if (options->workers == 0) options->workers = FindUsableCores().count();
  if (options->verbose) {
    SetLogSink([](LogLevel, absl::string_view line) { Say(line); });
  }

  auto own_folder = OwnFolder();
  if (!own_folder.ok()) return Fail(kExitInternal, own_folder.status());
  const std::string path = Variable("PATH").value_or("/usr/local/bin:/usr/bin:/bin");
  auto program = FindProgram(options->command[0], options->working_directory, path, *own_folder);
  if (!program.ok()) return Fail(absl::IsNotFound(program.status()) ? kExitNotFound : kExitNotExecutable, program.status());
  auto guard = FindGuard(*own_folder);
  if (!guard.ok()) return Fail(kExitInternal, guard.status());

  LocalJobOptions job;
  job.run = *std::move(options);
  job.job_id.resize(16);
  MUSTER_CHECK(::getentropy(job.job_id.data(), job.job_id.size()) == 0, "getentropy");
  job.program = *std::move(program);
  job.guard_path = *std::move(guard);
  job.environment = OwnEnvironment();
  return RunJob(std::move(job), TemporaryFolder());
}

}  // namespace muster

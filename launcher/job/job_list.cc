#include "launcher/job/job_list.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "launcher/job/job_folder.h"
#include "runtime/base/fd.h"
#include "runtime/base/file_system.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr size_t kListedMax = 5;  // in messages

std::string ReadText(const std::string& path) {
  auto text = PosixFileSystem().Read(path);
  return text.ok() ? *std::move(text) : "";
}

std::optional<StoredVerdict> ReadVerdict(const std::string& folder) {
  StoredVerdict verdict;
  verdict.json = ReadText(folder + "/verdict.json");
  const auto json = nlohmann::json::parse(verdict.json, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto code = json.find("exit_code"), sentence = json.find("sentence"), seconds = json.find("seconds");
  if (code == json.end() || !code->is_number_integer()) return std::nullopt;
  verdict.exit_code = code->get<int64_t>();
  if (sentence != json.end() && sentence->is_string()) verdict.sentence = sentence->get<std::string>();
  const auto failure_class = json.find("class");
  if (failure_class != json.end() && failure_class->is_string()) verdict.failure_class = failure_class->get<std::string>();
  if (seconds != json.end() && seconds->is_number()) verdict.seconds = seconds->get<double>();
  return verdict;
}

int64_t ModifiedMs(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return 0;
  return status.st_mtim.tv_sec * 1000 + status.st_mtim.tv_nsec / 1'000'000;
}

std::string Named(const StoredJob& job) { return absl::StrCat(job.brief(), " (", job.state(), ": ", job.command, ")"); }

std::string Listed(const std::vector<StoredJob>& jobs) {
  std::string text;
  for (size_t i = 0; i < std::min(jobs.size(), kListedMax); ++i) absl::StrAppend(&text, i == 0 ? "" : ", ", Named(jobs[i]));
  if (jobs.size() > kListedMax) absl::StrAppend(&text, ", and ", jobs.size() - kListedMax, " more");
  return text;
}

}  // namespace

std::string StoredJob::state() const {
  if (held) return verdict ? "over" : status.state;
  if (!verdict) return "lost";
  if (verdict->exit_code == 0) return "done";
  return verdict->failure_class == "stopped" ? "stopped" : "failed";
}

bool IsHeld(const std::string& folder) {
  const UniqueFd lock(::open((folder + "/lock").c_str(), O_RDONLY | O_CLOEXEC));
  return lock && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

StoredJob ReadJob(const std::string& folder) {
  StoredJob job;
  job.folder = folder;
  job.job_id = fs::path(folder).filename().string();
  job.held = IsHeld(folder);  // first: the verdict is written before the lock is let go of
  int64_t owner = 0;
  if (absl::SimpleAtoi(absl::StripAsciiWhitespace(ReadText(folder + "/lock")), &owner)) job.owner = static_cast<pid_t>(owner);
  if (auto status = ParseStatus(ReadText(folder + "/status.json")); status.ok()) job.status = *std::move(status);
  job.verdict = ReadVerdict(folder);
  job.command = std::string(absl::StripAsciiWhitespace(ReadText(folder + "/command")));
  if (job.command.empty()) job.command = job.status.command;
  job.started_unix_ms = job.status.started_unix_ms;
  if (job.started_unix_ms == 0) job.started_unix_ms = ModifiedMs(folder + "/command");
  if (job.started_unix_ms == 0) job.started_unix_ms = ModifiedMs(folder);
  return job;
}

std::vector<StoredJob> ListJobs(const std::string& state_home) {
  std::vector<StoredJob> jobs;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(state_home + "/muster", error)) {
    if (IsJobId(entry.path().filename().string())) jobs.push_back(ReadJob(entry.path().string()));
  }
  std::sort(jobs.begin(), jobs.end(), [](const StoredJob& a, const StoredJob& b) {
    return a.started_unix_ms != b.started_unix_ms ? a.started_unix_ms > b.started_unix_ms : a.job_id < b.job_id;
  });
  return jobs;
}

std::optional<StoredJob> FindUnfinished(const std::string& state_home, const std::string& name) {
  for (StoredJob& job : ListJobs(state_home)) {
    if (!job.verdict && absl::StripAsciiWhitespace(ReadText(job.folder + "/same-job")) == name) return std::move(job);
  }
  return std::nullopt;
}

absl::StatusOr<StoredJob> FindJob(const std::string& state_home, const std::string& id_prefix) {
  std::vector<StoredJob> jobs = ListJobs(state_home);
  if (jobs.empty()) {
    return absl::NotFoundError(absl::StrCat("no job is kept in ", state_home, "/muster; start one with muster run"));
  }
  if (id_prefix.empty()) return jobs.front();
  const std::string wanted = absl::AsciiStrToLower(id_prefix);
  std::vector<StoredJob> found;
  for (const StoredJob& job : jobs) {
    if (absl::StartsWith(job.job_id, wanted)) found.push_back(job);
  }
  if (found.size() == 1) return found.front();
  if (found.empty()) return absl::NotFoundError(absl::StrCat("no job ", id_prefix, "; the newest are ", Listed(jobs)));
  return absl::InvalidArgumentError(
      absl::StrCat("several jobs begin with ", id_prefix, "; write more of its id: ", Listed(found)));
}

}  // namespace muster

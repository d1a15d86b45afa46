// muster logs: what a job's workers have written.
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/followed_file.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/job_argument.h"
#include "launcher/cli/subcommand.h"
#include "launcher/job/log_keeper.h"
#include "launcher/process/exit_codes.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr char kUsage[] = R"(usage: muster logs [JOB] [options]

Shows what a job's workers have written to stdout (or stderr), rank after rank; with several
ranks "[RANK] " stands before each line. The newest 32 MiB of each stream are kept. JOB is the
beginning of a job's id; without it the newest job.

examples
  muster logs                          all ranks' stdout
  muster logs 4e52 --rank 3 --stderr   one rank's stderr, as it was written
  muster logs --follow                 and what is written from now on, until the job is over
)";

// "rank-3.out" is 3; -1: another stream or no log.
int64_t RankOf(absl::string_view name, bool is_stderr) {
  int64_t rank = -1;
  if (!absl::ConsumePrefix(&name, "rank-") || !absl::ConsumeSuffix(&name, is_stderr ? ".err" : ".out")) return -1;
  return absl::SimpleAtoi(name, &rank) ? rank : -1;
}

class Logs {
 public:
  Logs(std::string folder, int64_t only_rank, bool is_stderr)
      : folder_(std::move(folder)), only_rank_(only_rank), is_stderr_(is_stderr) {}

  // Ranks may come later: a job that has just begun, or has grown.
  void FindRanks() {
    if (only_rank_ >= 0) {
      Add(only_rank_);
      return;
    }
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_ + "/logs", error)) {
      if (const int64_t rank = RankOf(entry.path().filename().string(), is_stderr_); rank >= 0) Add(rank);
    }
  }

  // All that is there and was not shown. Not kExitOk: nobody reads it.
  int Show(bool over, bool tagged) {
    for (auto& [rank, file] : files_) {
      for (std::string lines = file.Read(over); !lines.empty(); lines = file.Read(over)) {
        if (const int printed = Print(tagged ? Tagged(rank, lines) : lines); printed != kExitOk) return printed;
      }
    }
    return kExitOk;
  }

 private:
  void Add(int64_t rank) { files_.try_emplace(rank, LogKeeper::Path(folder_, static_cast<uint32_t>(rank), is_stderr_)); }

  static std::string Tagged(int64_t rank, absl::string_view lines) {
    std::string text;
    while (!lines.empty()) {
      const size_t end = std::min(lines.find('\n'), lines.size());
      absl::StrAppend(&text, "[", rank, "] ", lines.substr(0, end), "\n");
      lines.remove_prefix(std::min(end + 1, lines.size()));
    }
    return text;
  }

  const std::string folder_;
  const int64_t only_rank_;
  const bool is_stderr_;
  std::map<int64_t, FollowedFile> files_;
};

struct LogsFlags {
  int64_t rank = -1;
  bool is_stderr = false;
  bool follow = false;
};

FlagSet Declare(LogsFlags* logs) {
  FlagSet flags("muster logs");
  flags.Count("--rank -r", "N", &logs->rank, 0, int64_t{1} << 31, "of this rank only, without a tag");
  flags.Switch("--stderr", &logs->is_stderr, "stderr instead of stdout");
  flags.Switch("--follow -f", &logs->follow, "go on until the job is over");
  return flags;
}

}  // namespace

HelpPage LogsPage() {
  LogsFlags unused;
  return {.before = kUsage, .flags = Declare(&unused).Describe(), .operand = Operand::kJob};
}

int LogsCommand(const std::vector<std::string>& arguments) {
  LogsFlags asked;
  FlagSet flags = Declare(&asked);
  StoredJob job;
  int exit_code = 0;
  if (!TakeJobArgument(&flags, arguments, LogsPage(), &job, &exit_code)) return exit_code;
  const int64_t rank = asked.rank;
  if (rank >= 0 && job.status.workers > 0 && rank >= job.status.workers) {
    return UsageError(absl::StrCat("--rank ", rank, ": job ", job.brief(), " has ranks 0 to ", job.status.workers - 1));
  }

  const bool tagged = rank < 0 && job.status.workers != 1;
  Logs logs(job.folder, rank, asked.is_stderr);
  while (true) {
    const bool over = !asked.follow || !IsHeld(job.folder);  // asked before the last look
    logs.FindRanks();
    if (const int shown = logs.Show(over, tagged); shown != kExitOk) return shown;
    if (over) return kExitOk;
    if (!WaitForMore()) return kExitBrokenPipe;
  }
}

}  // namespace muster

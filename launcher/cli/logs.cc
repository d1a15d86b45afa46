// muster logs: what a job's workers have written.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launcher/agent/line_format.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/followed_file.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/job_argument.h"
#include "launcher/cli/rank_list.h"
#include "launcher/cli/subcommand.h"
#include "launcher/job/log_keeper.h"
#include "launcher/process/exit_codes.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr char kUsage[] = R"(usage: muster logs [JOB] [options]

Shows what a job's workers have written to stdout (or stderr), on whichever node, rank after
rank; with several ranks "[RANK] " stands before each line. The newest 32 MiB of each stream are
kept. JOB is the beginning of a job's id; without it the newest job.

examples
  muster logs                          all ranks' stdout
  muster logs 4e52 --rank 3 --stderr   one rank's stderr, as it was written
  muster logs --rank 0,2-3 --tail 20   the last 20 lines of three ranks
  muster logs --follow                 and what is written from now on, until the job is over
  muster logs -f --stdout --stderr     both streams; "[RANK err] " before lines of stderr
)";

// "rank-3.out" is 3; -1: another stream or no log.
int64_t RankOf(absl::string_view name, bool is_stderr) {
  int64_t rank = -1;
  if (!absl::ConsumePrefix(&name, "rank-") || !absl::ConsumeSuffix(&name, is_stderr ? ".err" : ".out")) return -1;
  return absl::SimpleAtoi(name, &rank) ? rank : -1;
}

struct Shown {
  std::optional<RankList> ranks;  // none: all
  std::vector<bool> streams;      // is_stderr of each
  int64_t tail = -1;              // lines of what is there; -1: all
  bool marked = false;
  bool color = false;
};

class Logs {
 public:
  Logs(std::string folder, Shown shown) : folder_(std::move(folder)), shown_(std::move(shown)) {}

  // Ranks may come later: a job that has just begun, or has grown.
  void FindRanks() {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_ + "/logs", error)) {
      for (const bool is_stderr : shown_.streams) {
        const int64_t rank = RankOf(entry.path().filename().string(), is_stderr);
        if (rank >= 0 && (!shown_.ranks || shown_.ranks->contains(rank))) Add(rank, is_stderr);
      }
    }
    looked_ = true;
  }

  // All that is there and was not shown. Not kExitOk: nobody reads it.
  int Show(bool over) {
    for (auto& [stream, file] : files_) {
      for (std::string lines = file.Read(over); !lines.empty(); lines = file.Read(over)) {
        if (const int printed = Print(shown_.marked ? Marked(stream.first, stream.second, lines) : lines); printed != kExitOk) {
          return printed;
        }
      }
    }
    return kExitOk;
  }

 private:
  void Add(int64_t rank, bool is_stderr) {
    const auto [file, is_new] =
        files_.try_emplace({rank, is_stderr}, LogKeeper::Path(folder_, static_cast<uint32_t>(rank), is_stderr));
    // What a rank has written since our first look is all new.
    if (is_new && !looked_ && shown_.tail >= 0) file->second.SkipToLast(shown_.tail);
  }

  std::string Marked(int64_t rank, bool is_stderr, absl::string_view lines) const {
    const bool both = shown_.streams.size() > 1;
    const std::string mark = absl::StrCat(shown_.color ? RankColor(static_cast<uint32_t>(rank)) : "", "[", rank,
                                          both && is_stderr ? " err]" : "]", shown_.color ? kColorEnd : "", " ");
    std::string text;
    while (!lines.empty()) {
      const size_t end = std::min(lines.find('\n'), lines.size());
      absl::StrAppend(&text, mark, lines.substr(0, end), "\n");
      lines.remove_prefix(std::min(end + 1, lines.size()));
    }
    return text;
  }

  const std::string folder_;
  const Shown shown_;
  bool looked_ = false;
  std::map<std::pair<int64_t, bool>, FollowedFile> files_;
};

struct LogsFlags {
  std::string ranks;
  bool is_stdout = false;
  bool is_stderr = false;
  bool follow = false;
  int64_t tail = -1;
};

FlagSet Declare(LogsFlags* logs) {
  FlagSet flags("muster logs");
  flags.Text("--rank -r", "LIST", &logs->ranks, "of these ranks only, such as 3 or 0,2-5; a single one without a mark");
  flags.Switch("--stderr", &logs->is_stderr, "stderr instead of stdout");
  flags.Switch("--stdout", &logs->is_stdout, "stdout, which is so anyway; with --stderr both");
  flags.Count("--tail -n", "N", &logs->tail, 0, int64_t{1} << 40, "begin with the last N lines of each stream");
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
  Shown shown;
  if (!asked.ranks.empty()) {
    auto ranks = RankList::Parse(asked.ranks);
    if (!ranks.ok()) return UsageError(absl::StrCat("--rank ", asked.ranks, ": ", ranks.status().message()));
    if (job.status.workers > 0 && ranks->greatest() >= job.status.workers) {
      return UsageError(
          absl::StrCat("--rank ", asked.ranks, ": job ", job.brief(), " has ranks 0 to ", job.status.workers - 1));
    }
    shown.ranks = *std::move(ranks);
  }
  if (asked.is_stdout || !asked.is_stderr) shown.streams.push_back(false);
  if (asked.is_stderr) shown.streams.push_back(true);
  shown.tail = asked.tail;
  const bool single = shown.ranks ? shown.ranks->is_single() : job.status.workers == 1;
  shown.marked = !single || shown.streams.size() > 1;
  shown.color = ShowsColor(STDOUT_FILENO);
  if (job.status.output_files_only) {
    Say(absl::StrCat("this job's workers write to files alone: ", job.status.output_files, ", each on its node"));
    return kExitOk;
  }

  Logs logs(job.folder, std::move(shown));
  while (true) {
    const bool over = !asked.follow || !IsHeld(job.folder);  // asked before the last look
    logs.FindRanks();
    if (const int printed = logs.Show(over); printed != kExitOk) return printed;
    if (over) return kExitOk;
    if (!WaitForMore()) return kExitBrokenPipe;
  }
}

}  // namespace muster

#include "launcher/job/log_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int64_t kStreamBytesLeast = 64 << 10;

int64_t PartBytes(int64_t workers, const LogLimits& limits) {
  const int64_t share = limits.job_bytes_max / (2 * std::max<int64_t>(workers, 1));
  return std::max(std::min(limits.stream_bytes_max, share), kStreamBytesLeast) / 2;
}

}  // namespace

LogKeeper::LogKeeper(const std::string& folder, int64_t workers, LogLimits limits)
    : folder_(folder), part_bytes_max_(PartBytes(workers, limits)) {
  ::mkdir((folder + "/logs").c_str(), 0700);  // that it is missing is said when the first log cannot be opened
}

std::string LogKeeper::Path(const std::string& folder, uint32_t rank, bool is_stderr) {
  return absl::StrCat(folder, "/logs/rank-", rank, is_stderr ? ".err" : ".out");
}

void LogKeeper::Write(uint32_t rank, bool is_stderr, absl::string_view text) {
  if (text.empty()) return;
  Log& log = logs_[{rank, is_stderr}];
  if (log.path.empty()) log.path = Path(folder_, rank, is_stderr);
  // The newest is what is looked for.
  if (text.size() > static_cast<size_t>(part_bytes_max_))
    text.remove_prefix(text.size() - static_cast<size_t>(part_bytes_max_));
  const absl::Status status = Append(log, text);
  if (status.ok() || warned_) return;
  warned_ = true;
  muster::Log(LogLevel::kWarning,
              absl::StrCat("the job goes on, but `muster logs` will not show all output: ", status.message()));
}

absl::Status LogKeeper::Append(Log& log, absl::string_view text) {
  const auto lose = [&](size_t bytes, int error) {
    log.lost += bytes;
    bytes_lost_ += bytes;
    return ErrnoToStatus(error, absl::StrCat("write ", log.path));
  };
  if (log.bytes >= part_bytes_max_ || !log.file) {
    if (const absl::Status opened = TurnOver(log); !opened.ok()) {
      lose(text.size(), EIO).IgnoreError();
      return opened;
    }
  }
  std::string marked;
  if (log.lost > 0) {
    marked = absl::StrCat(log.torn ? "\n" : "", "[muster: ", log.lost, " bytes are missing here; they could not be written]\n",
                          text);
  }
  const absl::string_view all = log.lost > 0 ? absl::string_view(marked) : text;
  const ssize_t written = ::write(log.file.get(), all.data(), all.size());
  if (written <= 0) return lose(text.size(), written < 0 ? errno : ENOSPC);
  log.bytes += written;
  log.torn = all[static_cast<size_t>(written) - 1] != '\n';
  const size_t missing = all.size() - static_cast<size_t>(written);
  if (missing == 0) {
    log.lost = 0;
    return absl::OkStatus();
  }
  return lose(std::min(missing, text.size()), ENOSPC);
}

// Opens the log, or begins its next part.
absl::Status LogKeeper::TurnOver(Log& log) {
  if (log.bytes >= part_bytes_max_) {
    if (::rename(log.path.c_str(), OlderPath(log.path).c_str()) != 0) return ErrnoToStatus(errno, log.path);
    log.file.Reset();
    log.bytes = 0;
  }
  log.file.Reset(::open(log.path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.file) return ErrnoToStatus(errno, absl::StrCat("open ", log.path));
  struct stat status;
  if (::fstat(log.file.get(), &status) == 0) log.bytes = status.st_size;
  return absl::OkStatus();
}

}  // namespace muster

// The workers' output as the job's folder keeps it: FOLDER/logs/rank-N.out and rank-N.err, each with the part before it in
// rank-N.out.1, bounded in size.
#ifndef MUSTER_LAUNCHER_JOB_LOG_KEEPER_H_
#define MUSTER_LAUNCHER_JOB_LOG_KEEPER_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runtime/base/fd.h"

namespace muster {

struct LogLimits {
  int64_t stream_bytes_max = 32 << 20;       // of one rank's stdout (or stderr), both parts together
  int64_t job_bytes_max = int64_t{1} << 30;  // of all; each stream gets an equal share, and 64 KiB at least
};

// The newest output stays: when a part is full it becomes the one before, and that one goes. Nothing here ever fails the job: a
// disk that is full is warned of once, what could not be written is counted in the log itself, and writing is tried again with
// the next output. Not thread-safe.
class LogKeeper {
 public:
  // Makes `folder`/logs.
  LogKeeper(const std::string& folder, int64_t workers, LogLimits limits = {});

  // Whole lines, or the last piece of one.
  void Write(uint32_t rank, bool is_stderr, absl::string_view text);

  uint64_t bytes_lost() const { return bytes_lost_; }

  // FOLDER/logs/rank-3.err
  static std::string Path(const std::string& folder, uint32_t rank, bool is_stderr);
  // Of the part before it.
  static std::string OlderPath(const std::string& path) { return path + ".1"; }

 private:
  struct Log {
    std::string path;
    UniqueFd file;
    int64_t bytes = 0;
    uint64_t lost = 0;  // bytes, since something was written last
    bool torn = false;  // ends in the middle of a line
  };

  absl::Status Append(Log& log, absl::string_view text);
  absl::Status TurnOver(Log& log);

  const std::string folder_;
  const int64_t part_bytes_max_;
  std::map<std::pair<uint32_t, bool>, Log> logs_;
  uint64_t bytes_lost_ = 0;
  bool warned_ = false;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_JOB_LOG_KEEPER_H_

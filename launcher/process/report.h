// How a job went, as one JSON object: for `--report` and for the job's folder.
#ifndef MUSTER_LAUNCHER_PROCESS_REPORT_H_
#define MUSTER_LAUNCHER_PROCESS_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "launcher/coordinator/verdict.h"

namespace muster {

struct JobResult {
  std::string job_id;  // hexadecimal
  std::vector<std::string> command;
  std::string host;
  int64_t workers = 0;
  uint64_t generation = 0;
  absl::Time started;
  double seconds = 0;
  uint64_t lines_dropped = 0;
  Judgement judgement;
  Evidence evidence;
};

// Members (null where there is none): exit_code origin sentence class rank host signal worker_exit_code ended_with_it causes[]
// ranks[] job_id generation workers committed_step command started seconds lines_dropped muster_version.
std::string ReportJson(const JobResult& result);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_REPORT_H_

// What the commands about jobs print. Pure.
#ifndef MUSTER_LAUNCHER_CLI_JOB_TEXT_H_
#define MUSTER_LAUNCHER_CLI_JOB_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "launcher/job/job_files.h"
#include "launcher/job/job_list.h"

namespace muster {

// "41s", "12m", "3h07m", "5d".
std::string Age(absl::Duration age);

// "0-3,6" for 0, 1, 2, 3, 6; `numbers` ascend.
std::string Ranges(const std::vector<int64_t>& numbers);

// A table, one line a job, in their order.
std::string JobsTable(const std::vector<StoredJob>& jobs, absl::Time now);
// An array of objects: job_id, state, running, workers, nodes, generation, restarts, committed_step, checkpoint_step,
// started_unix_ms, command, folder, exit_code and sentence (null before the end).
std::string JobsJson(const std::vector<StoredJob>& jobs);

// One screen for an operator.
std::string StatusScreen(const StoredJob& job, absl::Time now, absl::TimeZone zone);
// The members of status.json, `state` as in the table, and running, folder, verdict (verdict.json, null before the end).
std::string StatusObject(const StoredJob& job);

// "10:31:02.123 restarting   rank 1 ...".
std::string EventLine(const JobEvent& event, absl::TimeZone zone);

// How a job that is over ended, in one sentence.
std::string HowItEnded(const StoredJob& job);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_JOB_TEXT_H_

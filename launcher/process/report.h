// How a job went, as one JSON object: for `--report` and for the job's folder.
#ifndef MUSTER_LAUNCHER_PROCESS_REPORT_H_
#define MUSTER_LAUNCHER_PROCESS_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "launcher/coordinator/membership.h"
#include "launcher/coordinator/verdict.h"

namespace muster {

struct JobResult {
  std::string job_id;  // hexadecimal
  std::vector<std::string> command;
  std::string host;
  int64_t workers = 0;
  uint64_t generation = 0;
  int64_t restarts = 0;
  int64_t checkpoint_step = -1;               // newest on disk; -1: none
  std::string plan;                           // why ranks were in their order; empty: by the numbers of nodes
  std::vector<std::string> nccl;              // what NCCL was told and why, a sentence each
  RefusalLedger refusals;
  std::vector<v1::GenerationEnded> failures;  // generations that failed before the last one, oldest first
  absl::Time started;
  double seconds = 0;
  uint64_t lines_dropped = 0;
  Judgement judgement;
  Evidence evidence;
};

// Fills in what the coordinator knows of a job that is over; `judgement` is the caller's.
void TakeMembership(const Membership& membership, JobResult* result);

// Members (null where there is none): exit_code origin sentence class rank host signal worker_exit_code ended_with_it causes[]
// ranks[] job_id generation restarts generations[] workers committed_step checkpoint_step plan command started seconds lines_dropped
// refusals refused[] where[] muster_version. `where` is filled by --timeout: ranks[] and what they did, the odd one out first, and
// each of ranks[] then has `at_timeout`. `refused` are connections turned away, by kind: by what from count unix_ms of the last. `generations` are those that failed before the last one and why: generation class sentence rank host exit_code
// committed_step.
std::string ReportJson(const JobResult& result);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_REPORT_H_

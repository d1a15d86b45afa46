// How a job stands and what has happened in it, in files that `muster ps`, `status` and `events` read at any time.
//
// status.json is one JSON object with the members of JobStatus by their names here, replaced as a whole. events.jsonl holds one
// object a line: unix_ms, kind, text, and where it means something generation, rank, node, host. Names and meanings are stable;
// new ones may be added.
#ifndef MUSTER_LAUNCHER_JOB_JOB_FILES_H_
#define MUSTER_LAUNCHER_JOB_JOB_FILES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

struct JobEvent {
  absl::Time when;
  std::string kind;         // as in proto/muster/v1/record.proto
  std::string text;         // one sentence
  uint64_t generation = 0;  // 0: none
  int64_t rank = -1;        // -1: none, as below
  int64_t node = -1;
  std::string host;  // empty: none
};

struct JobStatus {
  struct Node {
    int64_t node = 0;
    std::string host;
    std::string address;
    std::string state;  // "away", "spare", "starting", "ready", "running", "ending", "stopped"; "silent" when nothing is heard
  };
  struct Rank {
    int64_t rank = 0;
    int64_t node = 0;
    std::string host;
    std::string state;    // "starting", "running", "ended"
    std::string program;  // where the job has several; else empty
  };
  struct Restart {
    int64_t unix_ms = 0;
    uint64_t generation = 0;  // that ended
    int64_t step = -1;        // of the newest checkpoint then; -1: none
    std::string cause;        // a sentence
  };
  // Connections of one kind that one process has turned away.
  struct Refused {
    int64_t unix_ms = 0;  // of the last
    std::string by;       // "the coordinator", "host node1"
    std::string what;     // "plain text", ...
    std::string from;     // the last: numeric address and port, or process
    uint64_t count = 0;
    std::string text;  // all of it as a sentence
  };

  std::string job_id;   // hexadecimal
  std::string name;     // that the user gave the job; empty: none
  std::string command;  // as typed
  std::string launched_from;
  std::string state = "starting";  // "starting", "running", "restarting", "ending", "over"
  int64_t since_unix_ms = 0;       // of this state
  int64_t started_unix_ms = 0;
  int64_t workers = 0;      // wanted
  int64_t workers_min = 0;  // accepted after a loss
  int64_t workers_now = 0;  // members of this generation
  int64_t nodes_wanted = 1;
  bool detached = false;
  // Agents come by themselves: SIGTERM to the job's process means that another takes its place, SIGINT ends the job.
  bool agents_join = false;
  uint64_t generation = 0;
  int64_t restarts = 0;       // of the whole job
  int64_t restarts_used = 0;  // of max_restarts: since the last new checkpoint
  int64_t max_restarts = 0;
  int64_t committed_step = -1;
  int64_t checkpoint_step = -1;
  int64_t checkpoint_unix_ms = 0;  // when that one became known; 0: none
  std::string checkpoint_path;
  std::string output_files;             // pattern of the workers' own files, on their nodes; empty: none
  bool output_files_only = false;       // nothing of it is in the logs
  std::string plan;                     // why ranks are in the order that they are in; empty: they follow the numbers of nodes
  std::vector<std::string> nccl;        // what NCCL is told of the network and why, a sentence each
  std::vector<std::string> nccl_notes;  // what is doubtful about it
  std::vector<Node> nodes;
  std::vector<Rank> ranks;
  std::vector<Restart> history;  // oldest first; the newest kHistoryMax
  uint64_t refusals = 0;         // connections that coordinator, agents and workers have turned away
  std::vector<Refused> refused;  // all of them by kind, the kind last seen last; RefusalLedger bounds it

  static constexpr size_t kHistoryMax = 100;
};

std::string StatusJson(const JobStatus& status);
// Members that are missing keep their defaults. Errors: DataLoss (no JSON object).
absl::StatusOr<JobStatus> ParseStatus(absl::string_view json);
std::string EventJson(const JobEvent& event);  // one line, without its end
absl::StatusOr<JobEvent> ParseEvent(absl::string_view json);

// Writes both files into a job's folder. Nothing here ever fails the job: what cannot be written is warned of once. Belongs to the
// loop's thread.
class JobFiles {
 public:
  JobFiles(EventLoop* loop, std::string folder);
  ~JobFiles();  // writes what is still due

  // Appended at once. After kEventsBytesMax events are dropped, which the last line says.
  void Happened(const JobEvent& event);
  // Written within half a second and at most twice a second, if it is another than the last.
  void Show(JobStatus status);
  // Writes the last status shown now.
  void Flush();

  static constexpr int64_t kEventsBytesMax = 8 << 20;

 private:
  void Write();
  void Warn(const absl::Status& status);

  EventLoop* const loop_;
  const std::string folder_;
  UniqueFd events_;
  int64_t events_bytes_ = 0;
  bool torn_ = false;  // the last line lacks its end
  bool warned_ = false;
  std::optional<JobStatus> due_;
  std::string last_written_;
  int64_t last_write_ns_;
  std::optional<EventLoop::TimerId> timer_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_JOB_JOB_FILES_H_

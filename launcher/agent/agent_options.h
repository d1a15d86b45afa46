// What an agent is, and what its workers are.
#ifndef MUSTER_LAUNCHER_AGENT_AGENT_OPTIONS_H_
#define MUSTER_LAUNCHER_AGENT_AGENT_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "launcher/agent/worker_streams.h"
#include "muster/v1/agent.pb.h"

namespace muster {

// What the ranks of one program of the job run.
struct WorkerProgram {
  std::string program;  // a path
  std::vector<std::string> argv;
  std::vector<std::string> chosen_environment;  // over the job's own
  std::string working_directory;                // empty: the job's
  uint32_t workers = 0;                         // of the whole job
};

struct AgentOptions {
  std::string job_id;                 // 16 bytes
  std::string host;                   // as gethostname says
  std::string address = "127.0.0.1";  // numeric, where other nodes reach this one
  std::string network_interface;      // that has it; empty: Agent::Create looks
  v1::NetworkPlace network;           // for Join; without a source: nothing is known
  v1::NodeDevices devices;            // for Join; without ports: none is said
  uint32_t slots = 1;
  absl::Duration orphan_after = absl::Seconds(40);  // from ChannelLost to the end of the workers
  uint16_t master_port = 0;    // what Join offers; 0: reserve one. A port that the job has chosen is the coordinator's to say.
  std::string guard_path;      // the executable muster-guard; muster-pmix lies beside it, where there is one
  std::string session_folder;  // TMPDIR of the workers, made by the caller, removed by the guard; empty: none

  // Where the coordinator is another process, what the workers are and where their output goes comes with Joined. Called once,
  // with the first one: fills in everything below (TakeJob does what the JobSpec says; left are the program's path, where the
  // output goes and the inherited environment). There is no output() before it. An error is each worker's reason why it could
  // not be started. Empty: all below is said from the start.
  std::function<absl::Status(const v1::JobSpec& job, AgentOptions* options)> take_job;

  // What the workers are.
  std::string program;  // a path
  std::vector<std::string> argv;
  std::vector<std::string> inherited_environment;  // "NAME=value"
  std::vector<std::string> chosen_environment;     // over it
  std::string working_directory;                   // empty: ours
  std::optional<v1::Placement> placement;          // the coordinator is told the machine's topology then
  bool nccl_environment_off = false;               // no variable of NCCL is set
  v1::CheckpointSettings checkpoint;               // the job's, for those that ask their Session
  std::vector<WorkerProgram> applications;         // several programs, by Place.application; empty: `program` on every rank

  StreamOptions streams;  // `job_id` and `output.host` are the agent's own; fed_stdin: what Input messages bring
};

// Command, chosen environment, working directory, checkpoint settings, the kind of output and the readers of the input, as `job`
// says. `program` is the command's first word, which is not looked up in PATH here.
void TakeJob(const v1::JobSpec& job, AgentOptions* options);
// Of it the output and the input alone.
void TakeStreams(const v1::JobSpec& job, StreamOptions* streams);
LineMarks MarksOf(const v1::OutputSettings& output);

// What the ranks of this program run, with what the job says for all of them filled in. An empty `program`: the job has none such.
WorkerProgram ProgramOf(const AgentOptions& options, uint32_t application);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_AGENT_OPTIONS_H_

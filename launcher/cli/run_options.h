// What `muster run` was asked to do.
#ifndef MUSTER_LAUNCHER_CLI_RUN_OPTIONS_H_
#define MUSTER_LAUNCHER_CLI_RUN_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/run_applications.h"
#include "launcher/cli/run_endings.h"
#include "launcher/cli/run_hosts.h"
#include "launcher/cli/run_job_file.h"
#include "launcher/cli/run_network.h"
#include "launcher/cli/run_output.h"
#include "launcher/cli/run_placement.h"
#include "launcher/cli/run_ssh.h"
#include "proto/muster/v1/control_memory.h"

namespace muster {

inline constexpr int64_t kWorkersMax = v1::kLocalRanksMax;  // on one node
inline constexpr int64_t kNodesMax = 128;                   // simulated on one machine
inline constexpr int64_t kAgentsMax = 100'000;              // that come by themselves or are reached on other hosts

struct RunOptions {
  int64_t workers = 0;                 // on all nodes together; 0: one for each usable core
  int64_t workers_per_node = 0;        // instead of `workers`; 0: not said
  std::string workers_per_node_typed;  // --nproc-per-node: a number, or "auto", "cpu", "gpu"; empty: not said
  int64_t nodes = 0;                   // 0: not said
  std::string nodes_range;             // torchrun's --nnodes: N or MIN:MAX; empty: not said
  int64_t spares = 0;                  // nodes besides that stand by
  int64_t workers_min = 0;             // accepted after a loss; 0: not said
  int64_t max_restarts = 0;
  double last_call_seconds = 0;  // 0: not said
  std::string node_network = "auto";
  PlacementOptions placement;
  NetworkOptions network;
  bool detach = false;
  std::string checkpoint_path;           // empty: none
  int64_t checkpoint_every = 0;          // steps; 0: not said
  int64_t checkpoint_keep = 0;           // 0: not said
  std::vector<std::string> environment;  // -x: NAME or NAME=VALUE
  std::string working_directory;         // empty: ours
  EndingOptions ending;
  OutputFlags output;
  bool pty = false;
  int64_t master_port = 0;      // 0: one that is free, reserved for the job
  std::string report_file;      // empty: none
  std::string last_words_file;  // --termination-message; empty: none
  bool verbose = false;
  bool module = false;                     // `command` begins with the name of a Python module
  std::string log_folder, redirects, tee;  // torchrun's --log-dir, --redirects and --tee, as typed; empty: not said
  std::string backend;                     // MUSTER_BACKEND of the workers; empty: not said
  std::string role;                        // ROLE_NAME of the workers; empty: "default"
  HostOptions hosts;
  JobFileOptions job_file;
  std::string name;  // of the job, for people; empty: none
  RunSshOptions ssh;
  std::vector<std::string> command;          // program and its arguments; of several programs all their words as typed
  std::vector<RunApplication> applications;  // several programs in one world; empty: there is one, `command`
};

// Reads the words after `muster run`. `help_wanted` is set when they hold -h or --help before the program. `job`: what the file of
// -f says, which holds where the words say nothing; null: not read yet, or there is none.
// Errors: InvalidArgument with the flag and the remedy; FailedPrecondition with a place in the job file.
absl::StatusOr<RunOptions> ParseRunOptions(const std::vector<std::string>& arguments, bool* help_wanted,
                                           const JobFile* job = nullptr);

// Fills in what depends on the machine or on other options, and checks that all fit together: afterwards `workers`, `nodes` and
// `workers_min` are said. Errors: InvalidArgument with the flag and the remedy.
absl::Status SettleRunOptions(int64_t usable_cores, RunOptions* options);

// What `muster run --help` says.
HelpPage RunPage();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_OPTIONS_H_

// What is run to start agents on nodes of an allocation of Slurm, and what its failures mean. Pure.
//
// One srun is one step: it starts one far end on each of its nodes (`muster agent --stdin --host NODE`, start.proto), passes our
// standard input to every one of them, and what they write back. A far end takes the AgentStart that names its node and leaves the
// others. Tickets travel by this way alone; Slurm carries it between the job's own processes of one user.
//
// Source: srun(1) of Slurm 20.11 to 23.11 (--overlap came with 20.11).
#ifndef MUSTER_LAUNCHER_STARTER_SLURM_COMMAND_H_
#define MUSTER_LAUNCHER_STARTER_SLURM_COMMAND_H_

#include <string>
#include <vector>

namespace muster {

// The words of the command, `env` first: it takes from srun's environment what would change the step, since srun reads most of its
// options from there as well. `srun`: its path. `hosts`: as Slurm names them, at least one. Nothing in the words depends on the job.
std::vector<std::string> SrunWords(const std::string& srun, const std::vector<std::string>& hosts);

// What the far ends read before any AgentStart: two lines with the paths at which the shell there looks for muster before PATH. A
// path with a newline is left out.
std::string SlurmFirstLines(const std::string& remote_muster, const std::string& program);

// Why nothing (more) runs on a step's nodes.
struct SlurmFailure {
  std::string sentence;   // with the nodes and the remedy
  bool is_final = false;  // to try again is of no use
};

// `errors`: the last of what srun has written on its standard error; `how`: how it ended, "exited with 1". `hosts`: whom it was to
// start, or what was left of them, as a text.
SlurmFailure DescribeSrun(const std::string& hosts, const std::string& errors, const std::string& how);

// "node1, node2 and 7 more".
std::string NamesShown(const std::vector<std::string>& hosts);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_SLURM_COMMAND_H_

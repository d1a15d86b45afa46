// The flags about workers' output and input: mpirun's in all their spellings, and Slurm's --label.
#ifndef MUSTER_LAUNCHER_CLI_RUN_OUTPUT_H_
#define MUSTER_LAUNCHER_CLI_RUN_OUTPUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launcher/cli/flags.h"
#include "muster/v1/agent.pb.h"

namespace muster {

struct OutputFlags {
  bool tag = false, timestamp = false, label = false, merge_stderr = false;
  std::vector<std::string> words;  // of --output, as typed
  std::string filename;            // as typed; empty: none
  std::string color = "auto";
  std::string stdin_readers = "0";
  int64_t buffer_mib = 0;  // 0: the default

  // Of all of it, once settled, but for what depends on our terminal.
  v1::OutputSettings output;
  v1::StdinSettings standard_input;
};

void DeclareOutput(FlagSet* flags, OutputFlags* options);
// --stdin, for a command that reads it.
void DeclareStdin(FlagSet* flags, OutputFlags* options);

// Fills in `output` and `standard_input` for a job of this size. A relative file name begins in `folder`.
// Errors: InvalidArgument with the flag and the remedy.
absl::Status SettleOutput(int64_t workers, int64_t nodes, const std::string& folder, OutputFlags* options);

// The words of one --output, a value of --output-filename or of --stdin by itself: what a job file may say of it.
absl::Status CheckOutputWords(const std::string& list);
absl::Status CheckOutputFiles(const std::string& typed);
absl::Status CheckStdin(const std::string& word);

// What coordinator and agents are told. `attached`: our stdout and stderr get what comes back, in colour where they are terminals
// that show colours (or as --color says).
void AddOutput(const OutputFlags& options, bool attached, v1::JobSpec* job);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_OUTPUT_H_

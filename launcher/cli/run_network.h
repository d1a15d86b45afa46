// The flags of `muster run` that say what the network between the nodes looks like.
#ifndef MUSTER_LAUNCHER_CLI_RUN_NETWORK_H_
#define MUSTER_LAUNCHER_CLI_RUN_NETWORK_H_

#include <string>

#include "absl/status/status.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/topology_files.h"
#include "muster/v1/launch.pb.h"

namespace muster {

struct NetworkOptions {
  TopologyFileOptions files;              // --topology-file, --label-keys
  std::string nccl_environment = "auto";  // --nccl-environment
  v1::NetworkKnowledge knowledge;         // what TakeNetwork has read
};

// Errors: InvalidArgument (a word that --nccl-environment does not know).
absl::Status CheckNcclEnvironment(const std::string& word);

void DeclareNetwork(FlagSet* flags, NetworkOptions* options);

// Reads the files and looks whether they make sense, for the coordinator. `order_is_chosen`: --map-by or --rank-by was said, so ranks do
// not follow the network. Errors: InvalidArgument (flag, no such file), FailedPrecondition (what a file says is wrong: its lines).
absl::Status TakeNetwork(bool order_is_chosen, NetworkOptions* options);

// What was read, to the coordinator.
void AddNetwork(const NetworkOptions& options, v1::Launch* launch);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_NETWORK_H_

// The flags of `muster run` that say what the network between the nodes looks like.
#ifndef MUSTER_LAUNCHER_CLI_RUN_NETWORK_H_
#define MUSTER_LAUNCHER_CLI_RUN_NETWORK_H_

#include "absl/status/status.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/topology_files.h"
#include "muster/v1/launch.pb.h"

namespace muster {

struct NetworkOptions {
  TopologyFileOptions files;       // --topology-file, --label-keys
  v1::NetworkKnowledge knowledge;  // what TakeNetwork has read
};

void DeclareNetwork(FlagSet* flags, NetworkOptions* options);

// Reads the files and looks whether they make sense, for the coordinator. `order_is_chosen`: --map-by or --rank-by was said, so ranks do
// not follow the network. Errors: InvalidArgument (flag, no such file), FailedPrecondition (what a file says is wrong: its lines).
absl::Status TakeNetwork(bool order_is_chosen, NetworkOptions* options);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_NETWORK_H_

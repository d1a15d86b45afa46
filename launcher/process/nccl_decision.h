// What NCCL is told, as the coordinator's tables take it; and a node's devices as messages.
#ifndef MUSTER_LAUNCHER_PROCESS_NCCL_DECISION_H_
#define MUSTER_LAUNCHER_PROCESS_NCCL_DECISION_H_

#include "absl/status/statusor.h"
#include "launcher/coordinator/membership.h"
#include "launcher/nccl/node_devices.h"
#include "muster/v1/agent.pb.h"
#include "muster/v1/launch.pb.h"

namespace muster {

// By what agents tell of their devices, and by the lists of GPUs and NICs in the first cluster file of the user's.
// Errors: InvalidArgument, as MakeOrderFunction.
absl::StatusOr<membership::NcclFunction> MakeNcclFunction(const v1::NetworkKnowledge& knowledge);

v1::NodeDevices ToMessage(const NodeDevices& devices);
// A port of a NIC that is not there is left out.
NodeDevices FromMessage(const v1::NodeDevices& message);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_NCCL_DECISION_H_

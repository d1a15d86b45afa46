// The native backend: collectives on CPU memory, in shared memory inside a node and over TCP between nodes.
#ifndef MUSTER_RUNTIME_BACKEND_NATIVE_NATIVE_H_
#define MUSTER_RUNTIME_BACKEND_NATIVE_NATIVE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "muster/communicator.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/backend/native/node_link.h"
#include "runtime/collectives/nodes.h"
#include "runtime/shm/failure.h"
#include "runtime/transport/mesh.h"

namespace muster {

struct NativeOptions {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  uint64_t generation = 0;
  std::string host;                      // named in errors
  v1::ControlHeader* control = nullptr;  // mapped and checked by the caller; outlives the communicator
  NodeLink* link = nullptr;              // outlives the communicator; may be null in a world of one

  // The node of each rank, by rank; ranks of a node follow each other and nodes count up from 0. Empty: all are on this one.
  std::vector<int> node_of_rank;
  std::unique_ptr<Mesh> mesh;                   // connected to MeshPeers(...); null where that is empty
  int64_t outer_wait_nanoseconds = 50'000'000;  // Network; a rank that the machine delays by more is named though it had come
};

// The ranks on other nodes that `rank` exchanges data with. A vector is cut into as many lanes as the smallest node has ranks;
// local rank j of each node carries lane j and is connected to the local ranks j elsewhere. Ranks beyond the lanes have none.
std::vector<int> MeshPeers(const std::vector<int>& node_of_rank, int rank);

// What staging buffers must hold at least: of a node with so many ranks, and of each of so many nodes.
uint32_t StagingBytesMin(int local_ranks);
uint32_t StagingBytesMin(const Nodes& nodes);

// A world of one may use the memory of LocalControl (local_control.h). The memory stays mapped until the communicator and all
// its windows are destroyed. Leaving is the caller's: v1::MarkLeft (control_wake.h) after the last collective.
// Errors: InvalidArgument.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNativeCommunicator(NativeOptions options);

// For who waits for the ranks of `native`, which CreateNativeCommunicator or its Split has made, by other means. Any thread; never block.
//
// Why it is over, in the words of its calls' errors, and the agent hears whom this rank blames, as of a call; OK while nothing has ended
// it.
absl::Status WhyNativeIsOver(Communicator& native);
// The agent hears of a failure of those other means, unless it has heard of one in this communicator.
void BlameThroughNative(Communicator& native, const Failure& failure);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NATIVE_NATIVE_H_

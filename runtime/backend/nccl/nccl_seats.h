// What ranks agree on before NCCL starts: that each has the library and a GPU of its own, and where they will find each other.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_SEATS_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_SEATS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "runtime/backend/nccl/nccl_api.h"

namespace muster {

struct NcclSeat {
  absl::Status usable;  // why this rank cannot use NCCL
  std::string library;  // NcclApi::library()
  std::string gpu;      // equal on two ranks whose GPU is one: the machine and CudaApi::BusId
};

// Collective over `control`; the same answer on all ranks.
// Errors: FailedPrecondition names the lowest rank that is not seated and why: it cannot use NCCL, has another version of it, or shares
// its GPU with another rank. Those of `control`.
absl::Status AgreeOnSeats(Communicator& control, const NcclSeat& own, absl::Time deadline);

// How many ranks one root serves before there are more of them.
inline constexpr int kRanksPerRoot = 128;
// The ranks that make ids, as NCCL spreads them over a world: ranks of a root follow each other.
// Source: NCCL, ncclCommInitRankScalable: rank r belongs to root r / (n/roots) with the remainder spread over the first.
std::vector<int> RootsOf(int ranks, int roots);

// Collective over `control`. The ids of all roots; one root unless the library takes several. They are good for one communicator.
// Errors: Unavailable names the root that could make none; those of `control`.
absl::StatusOr<std::vector<NcclId>> ExchangeNcclIds(NcclApi& nccl, Communicator& control, absl::Time deadline,
                                                    int ranks_per_root = kRanksPerRoot);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_SEATS_H_

// Which ranks of one node have come to the MPI world and left it, and what that says against a rank: one for which others wait in
// MPI_Init for ever, or one that went without MPI_Finalize. Pure.
#ifndef MUSTER_LAUNCHER_MPI_MPI_ROLL_H_
#define MUSTER_LAUNCHER_MPI_MPI_ROLL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launcher/mpi/mpi_events.h"

namespace muster {

// Of one generation. Not thread-safe.
class MpiRoll {
 public:
  // The job cannot go on because of `rank`, which ends with `exit_code` (0: not known). `why` follows its name.
  struct Complaint {
    uint32_t rank = 0;
    int exit_code = 0;
    std::string why;
  };
  using Complaints = std::vector<Complaint>;  // a rank is complained of once

  Complaints Joined(MpiProtocol protocol, uint32_t rank);
  void Left(uint32_t rank);
  Complaints Aborted(uint32_t rank, int code);
  // With status 0, unasked.
  Complaints Ended(uint32_t rank);
  // The programs that speak `protocol` cannot go on; `rank` stands for them.
  Complaints Failed(uint32_t rank, const std::string& why);

  // `who`, of another node, waits for ranks of this one.
  Complaints Awaited(MpiProtocol protocol, const std::string& who);
  // Ranks of all nodes have been together in a barrier of PMI-1.
  void MetByPmi() { met_by_pmi_ = true; }

 private:
  void Complain(uint32_t rank, int exit_code, const std::string& why, Complaints* complaints);
  void LookForAbsent(Complaints* complaints);
  void LookForMix(Complaints* complaints);
  std::optional<uint32_t> OneThatOnlySpeaks(MpiProtocol protocol) const;

  std::map<uint32_t, std::set<MpiProtocol>> joined_;  // by rank: has called MPI_Init
  std::set<uint32_t> left_;                           // and MPI_Finalize since
  std::set<uint32_t> absent_;                         // have ended well, and had not joined
  std::set<uint32_t> named_;                          // in a complaint
  std::map<MpiProtocol, std::string> elsewhere_;      // who waits on another node
  bool met_by_pmi_ = false;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_MPI_ROLL_H_

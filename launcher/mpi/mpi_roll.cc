#include "launcher/mpi/mpi_roll.h"

#include "absl/strings/str_cat.h"

namespace muster {

void MpiRoll::Complain(uint32_t rank, int exit_code, const std::string& why, Complaints* complaints) {
  if (named_.insert(rank).second) complaints->push_back({rank, exit_code, why});
}

MpiRoll::Complaints MpiRoll::Joined(MpiProtocol protocol, uint32_t rank) {
  joined_[rank].insert(protocol);
  left_.erase(rank);
  Complaints complaints;
  LookForAbsent(&complaints);
  LookForMix(&complaints);
  return complaints;
}

void MpiRoll::Left(uint32_t rank) { left_.insert(rank); }

MpiRoll::Complaints MpiRoll::Aborted(uint32_t rank, int code) {
  Complaints complaints;
  Complain(rank, code & 0xff, absl::StrCat("called MPI_Abort with code ", code), &complaints);
  return complaints;
}

MpiRoll::Complaints MpiRoll::Ended(uint32_t rank) {
  Complaints complaints;
  if (!joined_.contains(rank)) {
    absent_.insert(rank);
    LookForAbsent(&complaints);
  } else if (!left_.contains(rank)) {
    Complain(rank, 0, "ended with status 0 and never called MPI_Finalize", &complaints);
  }
  return complaints;
}

MpiRoll::Complaints MpiRoll::Failed(uint32_t rank, const std::string& why) {
  Complaints complaints;
  Complain(rank, 0, why, &complaints);
  return complaints;
}

MpiRoll::Complaints MpiRoll::Awaited(MpiProtocol protocol, const std::string& who) {
  elsewhere_.emplace(protocol, who);
  Complaints complaints;
  LookForAbsent(&complaints);
  LookForMix(&complaints);
  return complaints;
}

// Who waits in MPI_Init for a rank that will never come waits for ever.
void MpiRoll::LookForAbsent(Complaints* complaints) {
  if (joined_.empty() && elsewhere_.empty()) return;
  const std::string who = joined_.empty() ? elsewhere_.begin()->second : absl::StrCat("rank ", joined_.begin()->first);
  for (const uint32_t rank : absent_) {
    Complain(rank, 0, absl::StrCat("ended with status 0 and never called MPI_Init, as ", who, " did"), complaints);
  }
}

// Who runs a program of one library after a program of the other has joined by both.
std::optional<uint32_t> MpiRoll::OneThatOnlySpeaks(MpiProtocol protocol) const {
  for (const auto& [rank, protocols] : joined_) {
    if (protocols.size() == 1 && protocols.contains(protocol)) return rank;
  }
  return std::nullopt;
}

// Two worlds that each wait for all ranks. The rank that speaks PMI-1 is named, so that only one node does it.
void MpiRoll::LookForMix(Complaints* complaints) {
  const auto of_pmi = OneThatOnlySpeaks(MpiProtocol::kPmi);
  if (!of_pmi) return;
  std::string of_pmix;
  if (const auto rank = OneThatOnlySpeaks(MpiProtocol::kPmix)) {
    of_pmix = absl::StrCat("rank ", *rank);
  } else if (const auto other = elsewhere_.find(MpiProtocol::kPmix); other != elsewhere_.end() && !met_by_pmi_) {
    of_pmix = other->second;
  } else {
    return;
  }
  Complain(*of_pmi, 0,
           absl::StrCat("speaks PMI-1, as programs of MPICH do, and ", of_pmix,
                        " speaks PMIx, as those of Open MPI do: they cannot be one MPI world, so build all programs of the job "
                        "with the same MPI library"),
           complaints);
}

}  // namespace muster

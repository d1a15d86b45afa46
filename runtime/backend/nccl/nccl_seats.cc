#include "runtime/backend/nccl/nccl_seats.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// What a rank tells the others, as bytes.
struct SeatRecord {
  char usable = 0;
  char why[767] = "";
  char library[32] = "";
  char gpu[128] = "";
};

struct IdRecord {
  NcclId id = {};
  char made = 0;
  char why[127] = "";
};

template <size_t kBytes>
void Put(const std::string& text, char (&to)[kBytes]) {
  to[text.copy(to, kBytes - 1)] = '\0';
}

template <typename Record>
absl::StatusOr<std::vector<Record>> Gather(Communicator& control, const Record& own, absl::Time deadline) {
  std::vector<Record> all(static_cast<size_t>(control.world_size()));
  const auto bytes = static_cast<int64_t>(sizeof(Record));
  MUSTER_RETURN_IF_ERROR(control.AllGather({&own, bytes, DataType::kUint8},
                                           {all.data(), bytes * control.world_size(), DataType::kUint8}, deadline));
  return all;
}

}  // namespace

absl::Status AgreeOnSeats(Communicator& control, const NcclSeat& own, absl::Time deadline) {
  SeatRecord record;
  record.usable = own.usable.ok() ? 1 : 0;
  Put(std::string(own.usable.message()), record.why);
  Put(own.library, record.library);
  Put(own.gpu, record.gpu);
  MUSTER_ASSIGN_OR_RETURN(const std::vector<SeatRecord> all, Gather(control, record, deadline));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].usable == 0) return absl::FailedPreconditionError(absl::StrCat("rank ", rank, ": ", all[rank].why));
  }
  std::map<std::string, size_t> holder;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (std::string(all[rank].library) != all[0].library) {
      return absl::FailedPreconditionError(
          absl::StrCat("rank ", rank, " has ", all[rank].library, ", rank 0 has ", all[0].library,
                       ": install one version on all nodes, or name it in MUSTER_NCCL_LIBRARY"));
    }
    const auto [other, is_first] = holder.emplace(all[rank].gpu, rank);
    if (is_first) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("ranks ", other->second, " and ", rank, " share the GPU ", all[rank].gpu,
                     ", and NCCL wants one for each rank: start no more ranks on a node than it has GPUs"));
  }
  return absl::OkStatus();
}

std::vector<int> RootsOf(int ranks, int roots) {
  std::vector<int> all;
  for (int root = 0, first = 0; root < roots; ++root) {
    all.push_back(first);
    first += ranks / roots + (root < ranks % roots ? 1 : 0);
  }
  return all;
}

absl::StatusOr<std::vector<NcclId>> ExchangeNcclIds(NcclApi& nccl, Communicator& control, absl::Time deadline,
                                                    int ranks_per_root) {
  const int ranks = control.world_size();
  const int roots = nccl.powers().several_roots ? (ranks + ranks_per_root - 1) / ranks_per_root : 1;
  const std::vector<int> root_ranks = RootsOf(ranks, roots);
  IdRecord own;
  if (std::count(root_ranks.begin(), root_ranks.end(), control.rank()) > 0) {
    const int code = nccl.GetId(&own.id);
    own.made = code == kNcclOk ? 1 : 0;
    if (code != kNcclOk) Put(nccl.ErrorText(code), own.why);
  }
  MUSTER_ASSIGN_OR_RETURN(const std::vector<IdRecord> all, Gather(control, own, deadline));
  std::vector<NcclId> ids;
  for (const int root : root_ranks) {
    const IdRecord& record = all[static_cast<size_t>(root)];
    if (record.made == 0) {
      return absl::UnavailableError(absl::StrCat("rank ", root, ": ", nccl.library(),
                                                 " makes no address for the ranks to meet at: ", record.why,
                                                 "; see NCCL_SOCKET_IFNAME and what NCCL_DEBUG=INFO says"));
    }
    ids.push_back(record.id);
  }
  return ids;
}

}  // namespace muster

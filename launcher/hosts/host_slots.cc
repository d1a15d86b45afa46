#include "launcher/hosts/host_slots.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

std::string Counted(int64_t count, const char* thing) { return absl::StrCat(count, " ", thing, count == 1 ? "" : "s"); }

// The hosts that are used, with the workers for each as their slots where those are asked for.
absl::StatusOr<std::vector<Host>> Chosen(const std::vector<Host>& hosts, const HostWishes& wishes) {
  if (wishes.hosts > static_cast<int64_t>(hosts.size())) {
    return absl::InvalidArgumentError(absl::StrCat("--nodes ", wishes.hosts, ", but the list holds ",
                                                   Counted(static_cast<int64_t>(hosts.size()), "host"),
                                                   "; name more, or use --nodes ", hosts.size(), " or less"));
  }
  std::vector<Host> chosen(hosts.begin(),
                           wishes.hosts > 0 ? hosts.begin() + static_cast<ptrdiff_t>(wishes.hosts) : hosts.end());
  if (wishes.workers_per_host == 0) return chosen;
  for (Host& host : chosen) {
    if (host.slots_given && wishes.workers_per_host > host.slots && !wishes.oversubscribe) {
      return absl::InvalidArgumentError(absl::StrCat("--nproc-per-node ", wishes.workers_per_host, ", but ", host.name, " has ",
                                                     Counted(host.slots, "slot"), "; use --nproc-per-node ", host.slots,
                                                     " or less, give it more slots, or add --oversubscribe"));
    }
    host.slots = wishes.workers_per_host;
  }
  return chosen;
}

// Shares out workers that no slot is left for, as evenly as the hosts' limits allow, the first hosts one more. Returns how many found
// no place.
int64_t Overfill(int64_t left, std::vector<HostShare>* shares) {
  std::vector<HostShare*> open;
  for (HostShare& share : *shares) open.push_back(&share);
  while (left > 0) {
    const auto is_full = [](const HostShare* share) {
      return share->host.slots_max > 0 && share->workers >= share->host.slots_max;
    };
    open.erase(std::remove_if(open.begin(), open.end(), is_full), open.end());
    if (open.empty()) return left;
    const int64_t count = static_cast<int64_t>(open.size()), each = left / count, more = left % count;
    for (int64_t i = 0; i < count; ++i) {
      HostShare& share = *open[static_cast<size_t>(i)];
      int64_t extra = each + (i < more ? 1 : 0);
      if (share.host.slots_max > 0) extra = std::min(extra, share.host.slots_max - share.workers);
      share.workers += extra;
      left -= extra;
    }
  }
  return 0;
}

// "-np 4 with --nproc-per-node 1 on 2 hosts", "-np 4 is more than ..."
absl::Status TooFewSlots(int64_t workers, int64_t slots, const std::vector<Host>& hosts, const HostWishes& wishes) {
  const int64_t count = static_cast<int64_t>(hosts.size());
  if (wishes.workers_per_host > 0) {
    return absl::InvalidArgumentError(absl::StrCat("-np ", workers, " is more than --nproc-per-node ", wishes.workers_per_host,
                                                   " on ", Counted(count, "host"), "; use -np ", slots,
                                                   " or less, or name more hosts"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "-np ", workers, " asks for more workers than ", count == 1 ? absl::StrCat(hosts[0].name, " has") : "the hosts have",
      " slots (", slots, count == 1 ? "" : absl::StrCat(" on ", Counted(count, "host")), "); use -np ", slots,
      " or less, give more slots (", hosts[0].name, ":N on the command line, slots=N in a hostfile), or add --oversubscribe"));
}

std::vector<HostShare> SharesOf(const std::vector<Host>& hosts) {
  std::vector<HostShare> shares;
  shares.reserve(hosts.size());
  for (const Host& host : hosts) shares.push_back({host, 0});
  return shares;
}

// Returns how many found no place, as the next two.
int64_t FillBySlot(int64_t workers, std::vector<HostShare>* shares) {
  for (HostShare& share : *shares) {
    share.workers = std::min(workers, share.host.slots);
    workers -= share.workers;
  }
  return Overfill(workers, shares);
}

// As evenly as slots allow, and what a host has no slot for as evenly over the others; the same counts as PlaceRanks' by node.
int64_t FillByNode(int64_t workers, int64_t slots, std::vector<HostShare>* shares) {
  const bool oversubscribed = workers > slots;
  const auto most = [oversubscribed](const HostShare& share) {
    if (!oversubscribed) return share.host.slots;
    return share.host.slots_max > 0 ? share.host.slots_max : std::numeric_limits<int64_t>::max();
  };
  int64_t left = workers, open = static_cast<int64_t>(shares->size());
  while (left > 0 && open > 0) {
    const int64_t average = std::max<int64_t>(1, left / open);
    int64_t one_more = std::max<int64_t>(0, left - average * open);
    open = 0;
    for (HostShare& share : *shares) {
      if (share.workers >= most(share) || left == 0) continue;
      int64_t more = average + (one_more > 0 ? 1 : 0);
      if (one_more > 0) --one_more;
      more = std::min({more, most(share) - share.workers, left});
      share.workers += more;
      left -= more;
      ++open;
    }
  }
  return left;
}

absl::Status FillPattern(int64_t workers, const HostWishes& wishes, std::vector<HostShare>* shares) {
  int64_t left = workers;
  for (HostShare& share : *shares) {
    share.workers = std::min(left, wishes.per_host);
    left -= share.workers;
    if (share.workers > share.host.slots && !wishes.oversubscribe) {
      return absl::InvalidArgumentError(absl::StrCat(Counted(share.workers, "worker"), " are to run on ", share.host.name,
                                                     ", which has ", Counted(share.host.slots, "slot"), "; use --npernode ",
                                                     share.host.slots, " or less, give it more slots, or add --oversubscribe"));
    }
  }
  if (left == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("-np ", workers, " is more than ", wishes.per_host, " on each of ",
                                                 Counted(static_cast<int64_t>(shares->size()), "host"), "; use -np ",
                                                 workers - left, " or less, or name more hosts"));
}

}  // namespace

absl::StatusOr<std::vector<HostShare>> FillHosts(const std::vector<Host>& hosts, const HostWishes& wishes) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Host> chosen, Chosen(hosts, wishes));
  if (chosen.empty()) return absl::InvalidArgumentError("the list of hosts is empty; name at least one");
  int64_t slots = 0;
  for (const Host& host : chosen) slots += host.slots;
  const int64_t most = wishes.workers_max > 0 ? std::min(slots, wishes.workers_max) : slots;
  const int64_t workers = wishes.workers > 0 ? wishes.workers : most;
  std::vector<HostShare> shares = SharesOf(chosen);
  if (wishes.fill == HostFill::kPattern && wishes.workers_per_host == 0) {
    MUSTER_RETURN_IF_ERROR(FillPattern(workers, wishes, &shares));
  } else {
    if (workers > slots && (!wishes.oversubscribe || wishes.workers_per_host > 0)) {
      return TooFewSlots(workers, slots, chosen, wishes);
    }
    int64_t left = 0;
    if (wishes.fill == HostFill::kEvery && workers <= slots) {
      for (HostShare& share : shares) share.workers = share.host.slots;
    } else if (wishes.fill == HostFill::kNode) {
      left = FillByNode(workers, slots, &shares);
    } else {
      left = FillBySlot(workers, &shares);
    }
    if (left > 0) {
      return absl::InvalidArgumentError(absl::StrCat("-np ", workers,
                                                     " is more than the max_slots of the hosts allow; use -np ", workers - left,
                                                     " or less, or raise max_slots"));
    }
  }
  shares.erase(std::remove_if(shares.begin(), shares.end(), [](const HostShare& share) { return share.workers == 0; }),
               shares.end());
  return shares;
}

}  // namespace muster

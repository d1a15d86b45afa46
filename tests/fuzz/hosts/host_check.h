// What every list of hosts promises, whatever was read.
#ifndef MUSTER_TESTS_FUZZ_HOSTS_HOST_CHECK_H_
#define MUSTER_TESTS_FUZZ_HOSTS_HOST_CHECK_H_

#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/hosts/host.h"
#include "launcher/hosts/host_slots.h"

namespace muster {

inline void CheckHosts(const absl::StatusOr<std::vector<Host>>& hosts) {
  if (!hosts.ok()) {
    if (hosts.status().message().empty()) __builtin_trap();
    return;
  }
  if (hosts->empty() || hosts->size() > kHostsMax) __builtin_trap();
  std::set<std::string> names;
  bool all_given = true;
  int64_t slots = 0;
  for (const Host& host : *hosts) {
    if (host.name.empty() || host.name[0] == '-' || host.user[0] == '-') __builtin_trap();
    if (!names.insert(host.name).second) __builtin_trap();
    if (host.slots < 0 || host.slots > kHostSlotsMax || (host.slots_given && host.slots == 0)) __builtin_trap();
    all_given = all_given && host.slots > 0;
    slots += host.slots;
  }
  if (!all_given) return;
  const auto shares = FillHosts(*hosts, {.workers = slots + 3, .oversubscribe = true});
  if (!shares.ok()) return;
  int64_t workers = 0;
  for (const HostShare& share : *shares) {
    if (share.workers < 1) __builtin_trap();
    workers += share.workers;
  }
  if (workers != slots + 3) __builtin_trap();
}

}  // namespace muster

#endif  // MUSTER_TESTS_FUZZ_HOSTS_HOST_CHECK_H_

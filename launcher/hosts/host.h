// A machine of a job's host list.
#ifndef MUSTER_LAUNCHER_HOSTS_HOST_H_
#define MUSTER_LAUNCHER_HOSTS_HOST_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace muster {

struct Host {
  std::string name;          // host name or numeric address as typed; an IPv6 address without brackets
  std::string user;          // to log in as; empty: not said
  int64_t slots = 0;         // workers that it holds; 0: as many as its cores
  bool slots_given = false;  // by a number, or by naming it several times
  int64_t slots_max = 0;     // not to be exceeded even when more workers than slots are allowed; 0: none
};

// Of one list; what asks for more is refused.
inline constexpr size_t kHostsMax = 10'000;
inline constexpr int64_t kHostSlotsMax = 4096;

// "root@node-a", as a person writes it.
inline std::string HostText(const Host& host) { return host.user.empty() ? host.name : host.user + "@" + host.name; }

}  // namespace muster

#endif  // MUSTER_LAUNCHER_HOSTS_HOST_H_

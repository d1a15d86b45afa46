#include "launcher/agent/network_interface.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <memory>

namespace muster {

std::string InterfaceWith(const std::string& address) {
  const std::string number = address.substr(0, address.find('%'));
  in_addr wanted4 = {};
  in6_addr wanted6 = {};
  const bool is4 = ::inet_pton(AF_INET, number.c_str(), &wanted4) == 1;
  if (!is4 && ::inet_pton(AF_INET6, number.c_str(), &wanted6) != 1) return "";
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return "";
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, ::freeifaddrs);
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_LOOPBACK) != 0) continue;
    if (one->ifa_addr->sa_family != (is4 ? AF_INET : AF_INET6)) continue;
    if (is4 && reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr.s_addr == wanted4.s_addr) return one->ifa_name;
    if (!is4 && ::memcmp(&reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr, &wanted6, sizeof wanted6) == 0) {
      return one->ifa_name;
    }
  }
  return "";
}

}  // namespace muster

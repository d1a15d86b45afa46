#include "launcher/starter/own_addresses.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "runtime/base/fd.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

std::string TextOf(const sockaddr* address, socklen_t length) {
  char text[NI_MAXHOST];
  if (::getnameinfo(address, length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) return "";
  return text;
}

bool IsLinkLocal(const sockaddr* address) {
  if (address->sa_family == AF_INET6) {
    return IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
  }
  return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 16 == 0xa9fe;  // 169.254.0.0/16
}

bool IsForGuests(const std::string& interface) {
  for (const char* prefix :
       {"docker", "br-", "virbr", "veth", "cni", "flannel", "cali", "lxc", "lxd", "podman", "tun", "tap"}) {
    if (absl::StartsWith(interface, prefix)) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<std::vector<OwnAddress>> FindOwnAddresses() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return ErrnoToStatus(errno, "this machine's addresses");
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, ::freeifaddrs);
  std::vector<OwnAddress> found;
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_UP) == 0) continue;
    const int family = one->ifa_addr->sa_family;
    if ((family != AF_INET && family != AF_INET6) || IsLinkLocal(one->ifa_addr)) continue;
    OwnAddress address;
    address.text = TextOf(one->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    address.interface = one->ifa_name;
    address.is_loopback = (one->ifa_flags & IFF_LOOPBACK) != 0;
    if (!address.text.empty()) found.push_back(std::move(address));
  }
  return found;
}

std::vector<std::string> ChooseOffers(const std::vector<OwnAddress>& own, bool all_here,
                                      const std::vector<std::string>& sources) {
  std::vector<OwnAddress> fit;
  for (const OwnAddress& address : own) {
    if (address.is_loopback == all_here) fit.push_back(address);
  }
  const auto rank = [&](const OwnAddress& address) {
    const auto source = std::find(sources.begin(), sources.end(), address.text);
    if (source != sources.end()) return source - sources.begin();
    return static_cast<ptrdiff_t>(sources.size()) + (IsForGuests(address.interface) ? 1 : 0);
  };
  std::stable_sort(fit.begin(), fit.end(), [&](const OwnAddress& a, const OwnAddress& b) { return rank(a) < rank(b); });
  std::vector<std::string> offers;
  for (const OwnAddress& address : fit) offers.push_back(address.text);
  return offers;
}

std::string SourceTowards(const std::string& to) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(to.c_str(), "9", &hints, &found) != 0) return "";
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  // Nothing is sent: connecting a datagram socket only asks for the route.
  const UniqueFd socket(::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (!socket || ::connect(socket.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return "";
  }
  return TextOf(reinterpret_cast<const sockaddr*>(&address), length);
}

bool HasIpv6() {
  const UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 any = {};
  any.sin6_family = AF_INET6;
  return socket && ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0;
}

absl::StatusOr<Reachable> ChooseReachable(const std::string& wanted, const std::vector<std::string>& hosts, bool all_here) {
  if (!wanted.empty() && wanted != "0.0.0.0" && wanted != "::") return Reachable{wanted, {wanted}};
  Reachable reachable;
  reachable.listen_address = !wanted.empty() ? wanted : HasIpv6() ? "::" : "0.0.0.0";
  std::vector<std::string> sources;
  for (const std::string& host : hosts) {
    const std::string source = SourceTowards(host);
    if (!source.empty() && std::find(sources.begin(), sources.end(), source) == sources.end()) sources.push_back(source);
  }
  // Where names tell nothing, the way to the world: addresses for documentation that nobody has, and no packet is sent there.
  for (const char* world : {"192.0.2.1", "2001:db8::1"}) sources.push_back(SourceTowards(world));
  MUSTER_ASSIGN_OR_RETURN(const std::vector<OwnAddress> own, FindOwnAddresses());
  std::vector<std::string>& offers = reachable.offers;
  offers = ChooseOffers(own, all_here, sources);
  if (reachable.listen_address == "0.0.0.0") {
    std::erase_if(offers, [](const std::string& one) { return one.find(':') != one.npos; });
  }
  if (!offers.empty()) return reachable;
  return absl::InvalidArgumentError(all_here ? "this machine has no loopback address; bring `lo` up (ip link set lo up)"
                                             : "this machine has no address at which other hosts could reach it; look at `ip "
                                               "addr`, or name one with --listen ADDRESS");
}

}  // namespace muster

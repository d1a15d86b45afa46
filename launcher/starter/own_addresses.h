// Where this machine can be reached: the addresses that a coordinator offers to agents, which try them all.
//
// No name is looked up: there may be no resolver, or one that knows a machine by a name that others cannot use.
// Source: getifaddrs(3), RFC 4291 (link-local addresses need a scope that only this machine knows, so they are not offered).
#ifndef MUSTER_LAUNCHER_STARTER_OWN_ADDRESSES_H_
#define MUSTER_LAUNCHER_STARTER_OWN_ADDRESSES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace muster {

struct OwnAddress {
  std::string text;  // numeric
  std::string interface;
  bool is_loopback = false;
};

// Addresses of interfaces that are up, without link-local and multicast ones, in the kernel's order.
absl::StatusOr<std::vector<OwnAddress>> FindOwnAddresses();

// The addresses to offer, best first. Loopback ones only where `all_here`, and then they alone: nothing leaves the machine. Else
// those of `sources` come first, in their order, then the others, those of bridges and tunnels that containers and virtual machines
// make (docker0, virbr0, veth...) last. Pure.
std::vector<std::string> ChooseOffers(const std::vector<OwnAddress>& own, bool all_here,
                                      const std::vector<std::string>& sources);

// Where a coordinator listens and what it offers to the agents on `hosts`: `wanted`, an address that somebody has chosen, or all of
// this machine's. `all_here`: no agent is on another machine. Errors: InvalidArgument, with the remedy (no address that helps).
struct Reachable {
  std::string listen_address;
  std::vector<std::string> offers;
};
absl::StatusOr<Reachable> ChooseReachable(const std::string& wanted, const std::vector<std::string>& hosts, bool all_here);

// The address of ours from which packets to the numeric address `to` would leave; empty: there is no way.
std::string SourceTowards(const std::string& to);

// Whether this kernel takes connections over IPv6.
bool HasIpv6();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_OWN_ADDRESSES_H_

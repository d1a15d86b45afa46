// Which network interface has an address of this machine.
#ifndef MUSTER_LAUNCHER_AGENT_NETWORK_INTERFACE_H_
#define MUSTER_LAUNCHER_AGENT_NETWORK_INTERFACE_H_

#include <string>

namespace muster {

// "eth0". Empty: none has this numeric address (IPv4 or IPv6, a scope such as %eth0 aside), or it is a loopback one, which no other
// machine reaches.
std::string InterfaceWith(const std::string& address);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_NETWORK_INTERFACE_H_

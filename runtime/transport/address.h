// A numeric address and port. Never a name: what resolves here may not resolve there.
#ifndef MUSTER_RUNTIME_TRANSPORT_ADDRESS_H_
#define MUSTER_RUNTIME_TRANSPORT_ADDRESS_H_

#include <array>
#include <cstdint>
#include <string>

namespace muster {

struct SocketAddress {
  int family = 4;  // 4 or 6
  std::array<uint8_t, 16> bytes = {};  // IPv4 in the first four; network order
  uint16_t port = 0;

  friend bool operator==(const SocketAddress&, const SocketAddress&) = default;
};

// "10.0.0.1:4242", "[fe80::1]:4242".
std::string ToString(const SocketAddress& address);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_ADDRESS_H_

#include "runtime/transport/address.h"

#include <gtest/gtest.h>

#include "runtime/transport/socket.h"

namespace muster {
namespace {

TEST(Address, GoesIntoASockaddrAndBack) {
  const SocketAddress v4 = {4, {10, 0, 0, 7}, 4242};
  SocketAddress v6 = {6, {0xfe, 0x80}, 65535};
  v6.bytes[15] = 1;
  for (const SocketAddress& address : {v4, v6}) {
    sockaddr_storage storage;
    ToSockaddr(address, &storage);
    EXPECT_EQ(FromSockaddr(storage), address);
  }
  EXPECT_EQ(ToString(v4), "10.0.0.7:4242");
  EXPECT_EQ(ToString(v6), "[fe80::1]:65535");
}

TEST(Address, AMappedIpv4AddressIsItself) {
  const SocketAddress mapped = {6, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 7}, 4242};
  sockaddr_storage storage;
  ToSockaddr(mapped, &storage);
  EXPECT_EQ(FromSockaddr(storage), (SocketAddress{4, {10, 0, 0, 7}, 4242}));
}

}  // namespace
}  // namespace muster

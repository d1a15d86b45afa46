#include "runtime/transport/address.h"

#include <arpa/inet.h>

#include "absl/strings/str_cat.h"

namespace muster {

std::string ToString(const SocketAddress& address) {
  char text[INET6_ADDRSTRLEN] = {};
  const bool v6 = address.family == 6;
  ::inet_ntop(v6 ? AF_INET6 : AF_INET, address.bytes.data(), text, sizeof text);
  return v6 ? absl::StrCat("[", text, "]:", address.port) : absl::StrCat(text, ":", address.port);
}

}  // namespace muster

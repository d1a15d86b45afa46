#include "runtime/measure/rank_mesh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "muster/tensor.h"
#include "runtime/base/status.h"
#include "runtime/transport/socket.h"

namespace muster {
namespace {

constexpr size_t kKeyBytes = 32;
constexpr size_t kJobBytes = 16;
constexpr size_t kEntryBytes = 32;  // family, port, address

absl::StatusOr<SocketAddress> ParseAddress(const std::string& text) {
  SocketAddress address;
  if (::inet_pton(AF_INET, text.c_str(), address.bytes.data()) == 1) {
    address.family = 4;
  } else if (::inet_pton(AF_INET6, text.c_str(), address.bytes.data()) == 1) {
    address.family = 6;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("MASTER_ADDR=", text, " is no numeric address; start this with muster run"));
  }
  return address;
}

// The address from which packets to `towards` leave: no packet is sent for it.
absl::StatusOr<SocketAddress> OwnAddress(SocketAddress towards) {
  towards.port = 9;
  sockaddr_storage storage;
  const socklen_t length = ToSockaddr(towards, &storage);
  const UniqueFd probe(::socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe || ::connect(probe.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("no way to ", ToString(towards)));
  }
  socklen_t own_length = sizeof storage;
  if (::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&storage), &own_length) != 0)
    return ErrnoToStatus(errno, "getsockname");
  SocketAddress own = FromSockaddr(storage);
  own.port = 0;
  return own;
}

absl::StatusOr<UniqueFd> BindAt(SocketAddress* address) {
  sockaddr_storage storage;
  socklen_t length = ToSockaddr(*address, &storage);
  UniqueFd listener(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener || ::bind(listener.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("bind ", ToString(*address)));
  }
  length = sizeof storage;
  if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&storage), &length) != 0)
    return ErrnoToStatus(errno, "getsockname");
  *address = FromSockaddr(storage);
  return listener;
}

void Put(const SocketAddress& address, uint8_t* entry) {
  entry[0] = static_cast<uint8_t>(address.family);
  entry[1] = static_cast<uint8_t>(address.port >> 8);
  entry[2] = static_cast<uint8_t>(address.port & 0xff);
  std::memcpy(entry + 3, address.bytes.data(), address.bytes.size());
}

SocketAddress Get(const uint8_t* entry) {
  SocketAddress address;
  address.family = entry[0] == 6 ? 6 : 4;
  address.port = static_cast<uint16_t>(entry[1] << 8 | entry[2]);
  std::memcpy(address.bytes.data(), entry + 3, address.bytes.size());
  return address;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Mesh>> ConnectRanks(Communicator& world, const std::string& towards, int streams,
                                                   absl::Time deadline) {
  MUSTER_ASSIGN_OR_RETURN(const SocketAddress master, ParseAddress(towards));
  MUSTER_ASSIGN_OR_RETURN(SocketAddress own, OwnAddress(master));
  MUSTER_ASSIGN_OR_RETURN(UniqueFd listener, BindAt(&own));

  std::vector<uint8_t> entry(kEntryBytes), entries(kEntryBytes * static_cast<size_t>(world.world_size()));
  Put(own, entry.data());
  MUSTER_RETURN_IF_ERROR(world.AllGather(MakeTensor(entry.data(), static_cast<int64_t>(entry.size())),
                                         MakeTensor(entries.data(), static_cast<int64_t>(entries.size())), deadline));
  std::vector<uint8_t> secret(kKeyBytes + kJobBytes);
  if (world.rank() == 0 && ::getrandom(secret.data(), secret.size(), 0) != static_cast<ssize_t>(secret.size())) {
    return ErrnoToStatus(errno, "getrandom");
  }
  MUSTER_RETURN_IF_ERROR(world.Broadcast(MakeTensor(secret.data(), static_cast<int64_t>(secret.size())), 0, deadline));

  MeshOptions options;
  options.key.assign(secret.begin(), secret.begin() + kKeyBytes);
  options.job_id.assign(secret.begin() + kKeyBytes, secret.end());
  options.generation = world.generation();
  options.rank = world.rank();
  options.streams = streams;
  options.listener = std::move(listener);
  for (int rank = 0; rank < world.world_size(); ++rank) {
    if (rank == world.rank()) continue;
    const SocketAddress address = Get(entries.data() + kEntryBytes * static_cast<size_t>(rank));
    options.peers.push_back({rank, 0, address, ToString(address)});
  }
  return Mesh::Connect(std::move(options), deadline, [] { return false; });
}

}  // namespace muster

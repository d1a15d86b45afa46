#include "tests/support/loopback_mesh.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/transport/socket.h"

namespace muster::test {
namespace {

int64_t InAMinute() { return MonotonicDeadline(absl::Now() + absl::Minutes(1)); }
bool Never() { return false; }

}  // namespace

UniqueFd BindLoopback(SocketAddress* address, int family) {
  *address = {};
  address->family = family;
  if (family == 6) {
    address->bytes[15] = 1;
  } else {
    address->bytes = {127, 0, 0, 1};
  }
  sockaddr_storage storage;
  socklen_t length = ToSockaddr(*address, &storage);
  UniqueFd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0) return UniqueFd();
  length = sizeof storage;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &length);
  *address = FromSockaddr(storage);
  return fd;
}

UniqueFd ConnectLoopback(const SocketAddress& address) {
  sockaddr_storage storage;
  const socklen_t length = ToSockaddr(address, &storage);
  UniqueFd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&storage), length), 0) << ToString(address);
  return fd;
}

std::vector<MeshOptions> LoopbackOptions(int ranks, int streams, int family) {
  std::vector<MeshOptions> all(static_cast<size_t>(ranks));
  std::vector<MeshPeer> places;
  for (int rank = 0; rank < ranks; ++rank) {
    MeshOptions& options = all[static_cast<size_t>(rank)];
    MeshPeer& place = places.emplace_back();
    options.listener = BindLoopback(&place.address, family);
    EXPECT_TRUE(options.listener) << "nothing can be bound on the loopback device";
    place.rank = rank;
    place.spawn = static_cast<uint32_t>(rank) + 10;
    place.host = absl::StrCat("node", rank);
  }
  for (int rank = 0; rank < ranks; ++rank) {
    MeshOptions& options = all[static_cast<size_t>(rank)];
    options.job_id = "0123456789abcdef";
    options.generation = 5;
    options.key = std::string(32, 'k');
    options.rank = rank;
    options.spawn = static_cast<uint32_t>(rank) + 10;
    options.streams = streams;
    for (const MeshPeer& place : places) {
      if (place.rank != rank) options.peers.push_back(place);
    }
  }
  return all;
}

std::vector<std::unique_ptr<Mesh>> ConnectAll(std::vector<MeshOptions> options, absl::Duration timeout) {
  std::vector<std::unique_ptr<Mesh>> meshes(options.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < options.size(); ++i) {
    threads.emplace_back([&, i] {
      auto mesh = Mesh::Connect(std::move(options[i]), absl::Now() + timeout, Never);
      EXPECT_TRUE(mesh.ok()) << mesh.status();
      if (mesh.ok()) meshes[i] = *std::move(mesh);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return meshes;
}

bool Await(Mesh& mesh, const std::function<bool()>& done) {
  const std::optional<MeshFailure> failure = mesh.Progress(done, Never, InAMinute(), absl::ZeroDuration());
  EXPECT_FALSE(failure.has_value()) << failure->text;
  return !failure.has_value();
}

MeshFailure AwaitFailure(Mesh& mesh) {
  const std::optional<MeshFailure> failure = mesh.Progress(Never, Never, InAMinute(), absl::ZeroDuration());
  return failure.value_or(MeshFailure{});
}

}  // namespace muster::test

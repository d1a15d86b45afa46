#include "tests/fault/transport/raw_peer.h"

#include <gtest/gtest.h>
#include <openssl/rand.h>
#include <sys/socket.h>

#include <thread>
#include <utility>

#include "tests/support/loopback_mesh.h"

namespace muster::test {

HandshakeParty PartyOf(const MeshOptions& options) {
  HandshakeParty party = {options.job_id, options.generation,  options.key, options.rank,
                          options.spawn,  options.streams + 1, {}};
  for (const MeshPeer& peer : options.peers) party.peers.push_back({peer.rank, peer.spawn});
  return party;
}

RawConnection DialRaw(const HandshakeParty& party, const MeshPeer& peer, int stream) {
  RawConnection made;
  made.fd = ConnectLoopback(peer.address);
  Nonce nonce;
  ::RAND_bytes(reinterpret_cast<unsigned char*>(nonce.data()), static_cast<int>(nonce.size()));
  const DialHandshake dial(party, {peer.rank, peer.spawn}, stream, nonce);
  made.hello = std::string(dial.hello());
  if (!SendRaw(made.fd, made.hello)) return made;
  made.welcome = ReceiveRaw(made.fd, kWelcomeBytes);
  if (made.welcome.size() < kWelcomeBytes) return made;
  auto proof = dial.Prove(made.welcome);
  if (!proof.ok()) {
    proof.emplace();
    proof->fill('?');
    made.welcome.copy(proof->data(), 12);  // mark and version, with which every message of the handshake begins
    const char kType[] = {3, 0, 0, 0};
    std::copy(std::begin(kType), std::end(kType), proof->begin() + 12);
  }
  made.proof.assign(proof->data(), proof->size());
  if (!SendRaw(made.fd, made.proof)) return made;
  made.open = ReceiveRaw(made.fd, kMeshHeaderBytes).size() == kMeshHeaderBytes;
  return made;
}

RawPair ConnectRawPair(int streams, std::function<void(const MeshRefusal&)> refused) {
  std::vector<MeshOptions> options = LoopbackOptions(2, streams);
  options[0].refused = std::move(refused);
  const HandshakeParty raw = PartyOf(options[1]);
  const MeshPeer place = options[1].peers[0];
  options.pop_back();
  EXPECT_EQ(::listen(options[0].listener.get(), SOMAXCONN), 0);  // before the plain sockets dial, which try once
  RawPair pair;
  std::thread dials([&] {
    for (int stream = 0; stream <= streams; ++stream) {
      RawConnection made = DialRaw(raw, place, stream);
      EXPECT_TRUE(made.open);
      pair.raw.push_back(std::move(made.fd));
    }
  });
  pair.mesh = std::move(ConnectAll(std::move(options))[0]);
  dials.join();
  return pair;
}

bool SendRaw(const UniqueFd& fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::string ReceiveRaw(const UniqueFd& fd, size_t bytes) {
  std::string received(bytes, '\0');
  size_t filled = 0;
  while (filled < bytes) {
    const ssize_t got = ::recv(fd.get(), received.data() + filled, bytes - filled, 0);
    if (got <= 0) break;
    filled += static_cast<size_t>(got);
  }
  received.resize(filled);
  return received;
}

void ResetRaw(UniqueFd* fd) {
  const linger at_once = {1, 0};
  ::setsockopt(fd->get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  fd->Reset();
}

std::string DataFrame(MeshTag tag, absl::string_view body, uint64_t generation) {
  std::string bytes(kMeshHeaderBytes, '\0');
  StoreMeshFrame({MeshFrameType::kData, generation, tag, body.size()}, bytes.data());
  return bytes.append(body.data(), body.size());
}

std::function<void(const MeshRefusal&)> Refusals::Listener() {
  return [this](const MeshRefusal& refusal) {
    EXPECT_TRUE(refusal.from.rfind("127.0.0.1:", 0) == 0) << refusal.from;
    MutexLock lock(mutex_);
    what_.push_back(refusal.what);
    more_.SignalAll();
  };
}

std::vector<std::string> Refusals::Await(size_t count) {
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  MutexLock lock(mutex_);
  while (what_.size() < count && absl::Now() < deadline) more_.WaitFor(mutex_, deadline - absl::Now());
  EXPECT_GE(what_.size(), count) << "refusals that did not come";
  return what_;
}

}  // namespace muster::test

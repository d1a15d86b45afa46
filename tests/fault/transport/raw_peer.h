// A peer in the test's own hands: plain blocking sockets that have gone through the handshake, or through a part of it.
#ifndef MUSTER_TESTS_FAULT_TRANSPORT_RAW_PEER_H_
#define MUSTER_TESTS_FAULT_TRANSPORT_RAW_PEER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "runtime/base/fd.h"
#include "runtime/base/mutex.h"
#include "runtime/transport/frame.h"
#include "runtime/transport/handshake.h"
#include "runtime/transport/mesh.h"

namespace muster::test {

// What the rank that `options` are for knows.
HandshakeParty PartyOf(const MeshOptions& options);

// One dialed connection and what went over it.
struct RawConnection {
  UniqueFd fd;
  std::string hello, welcome, proof;
  bool open = false;  // the other side took it
};
// Dials `peer` as `party`. A wrong key proves itself with that key all the same.
RawConnection DialRaw(const HandshakeParty& party, const MeshPeer& peer, int stream);

// The mesh of rank 0 and, in the place of rank 1, its plain sockets: by stream, the last for aborts.
struct RawPair {
  std::unique_ptr<Mesh> mesh;
  std::vector<UniqueFd> raw;
};
RawPair ConnectRawPair(int streams = 2, std::function<void(const MeshRefusal&)> refused = {});

// The whole of `bytes`; false when the other side has closed.
bool SendRaw(const UniqueFd& fd, absl::string_view bytes);
// `bytes` bytes, fewer when the other side closes before.
std::string ReceiveRaw(const UniqueFd& fd, size_t bytes);
// Closes with a RST instead of a FIN.
void ResetRaw(UniqueFd* fd);

// A data frame of generation 5, or of another.
std::string DataFrame(MeshTag tag, absl::string_view body, uint64_t generation = 5);

// What a mesh has refused, to be waited for.
class Refusals {
 public:
  std::function<void(const MeshRefusal&)> Listener();
  // The first `count` refusals, in order of coming; fewer, and a test failure, when a minute passes before.
  std::vector<std::string> Await(size_t count);

 private:
  Mutex mutex_;
  CondVar more_;
  std::vector<std::string> what_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_FAULT_TRANSPORT_RAW_PEER_H_

// Authenticated TCP connections between a rank and its peers on other nodes, and moving bytes over them.
//
// Connecting: HELLO {job, generation, communicator, rank, spawn, stream, nonce_a} -> WELCOME {nonce_b, MAC(key, "b", transcript)} -> PROOF
// {MAC(key, "a", transcript)} -> open; HMAC-SHA256 with the generation's key (handshake.h and frame.h have the layouts).
// Nothing is parked or allocated for a connection before its PROOF; 2 s in all; one live connection per (rank, spawn, stream).
// Of two ranks the higher dials. Besides its streams each pair has one connection for aborts alone, which get through however
// full the streams are. What is not a peer is turned away, counted and named. Frames carry the generation, the operation's
// number and a segment; they are neither encrypted nor signed: whoever can write into an established connection is not kept
// out.
#ifndef MUSTER_RUNTIME_TRANSPORT_MESH_H_
#define MUSTER_RUNTIME_TRANSPORT_MESH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/fd.h"
#include "runtime/transport/address.h"

namespace muster {

struct MeshPeer {
  int rank = 0;
  uint32_t spawn = 0;
  SocketAddress address;
  std::string host;  // for messages
};

// A connection that was turned away.
struct MeshRefusal {
  std::string what;  // "a stranger's connection", "wrong key", "rank 3 of generation 4, this is generation 5", ...
  std::string from;  // numeric address and port
};

struct MeshOptions {
  std::string job_id;  // 16 bytes
  uint64_t generation = 0;
  uint64_t communicator = 0;  // of the generation, equal on its ranks; 0: that of all ranks
  std::string key;            // 32 bytes, of the generation
  int rank = 0;
  uint32_t spawn = 0;
  std::vector<MeshPeer> peers;  // without this rank
  UniqueFd listener;            // bound; listening or not
  int streams = 4;              // connections to each peer, 1 to kMeshStreamsMax; equal on all ranks
  // How long a peer's kernel may be silent before it counts as lost. The connection for aborts tells (TCP_USER_TIMEOUT and probes):
  // a process that does not take what is sent to it, however long, is not silent.
  absl::Duration silence_max = absl::Seconds(20);
  // From the mesh's own thread; of frames of an older generation from that of Progress.
  std::function<void(const MeshRefusal& refusal)> refused;
};
inline constexpr int kMeshStreamsMax = 16;

// Why no more can be done: `reason` and `rank` as in the abort word.
struct MeshFailure {
  v1::AbortReason reason = v1::AbortReason::kNone;
  uint32_t rank = v1::kNoRank;  // blamed
  uint32_t detail = 0;
  std::string text;  // what is known beyond the reason, for people; of a peer's Abort, what it said
};

// One posted send or receive. Owned by the caller, who keeps it and its buffer alive until `done` or until the mesh has failed.
struct MeshTransfer {
  int64_t moved = 0;  // bytes so far: of a receive they may be read already
  bool done = false;
};

// What a message is for. Sender and receiver of one message name the same.
struct MeshTag {
  uint64_t op_seq = 0;
  uint32_t segment = 0;
};

// Threads: one at a time, except Abort() and destruction of what refused() refers to. A thread of its own only takes and checks
// new connections. Not usable in a forked child; descriptors() names what it should close.
class Mesh {
 public:
  // Dials and takes connections until each peer has all its streams. `interrupted` is asked at least every 5 ms.
  // Errors: Unavailable (a peer cannot be reached, refused us or went; names rank, host and address), DeadlineExceeded (names
  // the ranks that are missing), Aborted (interrupted), InvalidArgument. RankBlamedFor says which rank the first two are about.
  static absl::StatusOr<std::unique_ptr<Mesh>> Connect(MeshOptions options, absl::Time deadline,
                                                       absl::FunctionRef<bool()> interrupted);
  virtual ~Mesh() = default;

  // Queues `bytes` >= 0 from `data`. Messages of different segments to one peer travel over stream `segment % streams`, in the
  // order of posting on each; a long message holds up only its own stream.
  virtual void Send(int peer, MeshTag tag, const void* data, int64_t bytes, MeshTransfer* transfer) = 0;

  // Takes the message of that tag and exactly that length (another length is the peer's mismatch: kMismatch). A message that
  // nobody has posted a receive for waits in its stream and holds up those behind it, so receives of one stream are posted in
  // the order in which the peer sends, or all before waiting.
  virtual void Receive(int peer, MeshTag tag, void* data, int64_t bytes, MeshTransfer* transfer) = 0;

  // Moves bytes until `ready` holds: first without sleeping for as long as `spin` says, then waiting for the sockets;
  // `interrupted` is asked at least every 5 ms. Returns nothing when `ready`; else why not. After a failure every later call
  // returns it again.
  //   kPeerLost   a connection broke or fell silent       kPeerLeft  so it did, after Abort(kPeerLeft)
  //   kDeadline   `deadline` (MonotonicNanoseconds()) passed         kNone      interrupted
  //   kMismatch   a message's length is not what is expected
  //   and whatever a peer's Abort says.
  virtual std::optional<MeshFailure> Progress(absl::FunctionRef<bool()> ready, absl::FunctionRef<bool()> interrupted,
                                              int64_t deadline, absl::Duration spin) = 0;

  // Tells every peer, as far as their sockets take it now, that this generation is over for all, and why. Any thread; the first
  // call counts. This mesh's own Progress is not concerned.
  // kPeerLeft is weaker: this rank leaves in good order after its last operation, which others may still be finishing. What it
  // sent before is delivered, and a peer fails only once it waits for a receive that cannot come any more. A connection that
  // ended without it is kPeerLost in the same way: first what was sent is taken.
  virtual void Abort(const MeshFailure& failure) = 0;

  // Ranks of `options.peers`, ascending.
  virtual const std::vector<int>& peers() const = 0;
  virtual int streams() const = 0;
  virtual uint64_t refusals() const = 0;      // connections turned away
  virtual uint64_t stale_frames() const = 0;  // frames of an older generation: dropped and counted; the thread of Progress
  virtual std::vector<int> descriptors() const = 0;

 protected:
  Mesh() = default;
};

// The (first) rank that an error of Mesh::Connect is about, kNoRank where it is about none.
uint32_t RankBlamedFor(const absl::Status& connect_error);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_MESH_H_

// A mesh in memory: ranks are threads, a stream between two of them is a bounded queue.
#ifndef MUSTER_TESTS_SUPPORT_MEMORY_MESH_H_
#define MUSTER_TESTS_SUPPORT_MEMORY_MESH_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/base/mutex.h"
#include "runtime/transport/mesh.h"

namespace muster::test {

// Any thread. Outlives the meshes it hands out.
//
// Strict where sockets may be lenient: a stream takes `buffer_bytes` that its receiver has not taken, bytes move only inside a
// rank's own Progress, and messages are taken in their order only.
class MemoryNetwork {
 public:
  explicit MemoryNetwork(int64_t buffer_bytes = 4096, int streams = 4) : buffer_bytes_(buffer_bytes), streams_(streams) {}

  // Of `rank`, with the other ranks of its lane; once a rank.
  std::unique_ptr<Mesh> Join(int rank, std::vector<int> peers);

  // The process of `rank` is dead: its connections end behind what it sent.
  void Kill(int rank);

  // Payload bytes that went from node to node, by sender.
  int64_t bytes_sent(int rank) const;

 private:
  class MemoryMesh;

  struct Message {
    MeshTag tag;
    int64_t length = 0;
    int64_t arrived = 0;
    std::string bytes;  // arrived and not taken
  };
  struct Stream {
    std::deque<Message> messages;
    int64_t buffered = 0;
  };

  void End(int rank, v1::AbortReason reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t buffer_bytes_;
  const int streams_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::tuple<int, int, int>, Stream> wires_ ABSL_GUARDED_BY(mutex_);  // from, to, stream
  std::map<int, v1::AbortReason> ended_ ABSL_GUARDED_BY(mutex_);               // by rank
  std::map<int, MeshFailure> aborted_ ABSL_GUARDED_BY(mutex_);                 // by who was told
  std::map<int, int64_t> sent_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_MEMORY_MESH_H_

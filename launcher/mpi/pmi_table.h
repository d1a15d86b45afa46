// The PMI-1 server of one node and one generation: what MPICH's programs ask, and what they get. Pure: lines in, actions out.
#ifndef MUSTER_LAUNCHER_MPI_PMI_TABLE_H_
#define MUSTER_LAUNCHER_MPI_PMI_TABLE_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "launcher/mpi/mpi_world.h"

namespace muster {

// Keys and values are the node's own until a barrier; then every node has all. Not thread-safe.
class PmiTable {
 public:
  static constexpr size_t kBytesMax = size_t{64} << 20;  // of all keys and values

  // One line for a rank's connection.
  struct Reply {
    uint32_t rank = 0;
    std::string line;
  };
  // Close the rank's connection: it breaks the protocol, or asks for what is not there.
  struct Drop {
    uint32_t rank = 0;
    std::string why;
  };
  struct Joined {
    uint32_t rank = 0;
  };
  struct Left {
    uint32_t rank = 0;
  };
  // The rank has called MPI_Abort.
  struct Aborted {
    uint32_t rank = 0;
    int exit_code = 0;
  };
  // The rank wanted something that muster does not do; it has been told.
  struct Unsupported {
    uint32_t rank = 0;
    std::string what;
  };
  // All ranks of this node wait in a barrier: give `data` to the other nodes and answer with Exchanged.
  struct Exchange {
    std::string name;
    std::string data;
  };
  using Action = std::variant<Reply, Drop, Joined, Left, Aborted, Unsupported, Exchange>;
  using Actions = std::vector<Action>;

  explicit PmiTable(const MpiWorld& world);

  // A line, without its end, on the connection of `rank`, which is of this node and has one connection at most.
  Actions Line(uint32_t rank, absl::string_view line);
  // What all nodes gave to the open Exchange; what is no message of theirs breaks the barrier.
  Actions Exchanged(const std::vector<std::string>& parts);
  // The open Exchange failed.
  Actions NotExchanged(const std::string& why);

 private:
  Actions Put(uint32_t rank, const std::string& key, const std::string& value);
  Actions Get(uint32_t rank, const std::string& key) const;
  Actions Barrier(uint32_t rank);
  Actions Release();
  bool Store(const std::string& key, const std::string& value);

  const std::string name_;
  const uint32_t world_size_;
  const bool alone_;  // no other node
  const std::vector<MpiPlace> places_;
  const std::set<uint32_t> ranks_;  // of this node
  std::map<std::string, std::string> values_;
  size_t bytes_ = 0;
  std::map<std::string, std::string> fresh_;  // put here since the last barrier
  std::set<uint32_t> waiting_;                // in the barrier
  bool exchanging_ = false;
  uint64_t barriers_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_PMI_TABLE_H_

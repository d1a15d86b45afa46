// The MPI backend over an MPI library in memory: once as it comes, once in small pieces.
#include "absl/strings/str_cat.h"
#include "tests/conformance/conformance.h"
#include "tests/support/fake_mpi.h"

namespace muster::test {

std::vector<World> ConformanceWorlds() {
  std::vector<World> worlds;
  for (const int ranks : {1, 3}) {
    worlds.push_back({absl::StrCat("FakeMpi", ranks), ranks, [ranks](const std::function<void(Communicator&)>& body) {
                        FakeMpi mpi({.ranks = ranks});
                        RunRanks(mpi, ranks, body);
                      }});
  }
  worlds.push_back({"SmallPieces", 3, [](const std::function<void(Communicator&)>& body) {
                      FakeMpi mpi({.ranks = 3});
                      RunRanks(mpi, 3, body, [](int, MpiOptions& options) {
                        options.piece_bytes = 64 * 1024;
                        options.scratch_bytes = 12 * 1024;
                      });
                    }});
  return worlds;
}

}  // namespace muster::test

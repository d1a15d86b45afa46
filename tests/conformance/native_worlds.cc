// The native backend: ranks as threads, on one node and on several with a network in memory.
#include "absl/strings/str_cat.h"
#include "tests/conformance/conformance.h"
#include "tests/support/fake_node.h"

namespace muster::test {

std::vector<World> ConformanceWorlds() {
  std::vector<World> worlds;
  for (const int ranks : {1, 2, 3, 5}) {
    worlds.push_back({absl::StrCat("OneNode", ranks), ranks,
                      [ranks](const std::function<void(Communicator&)>& body) { RunRanks(ranks, body); }});
  }
  worlds.push_back({"Nodes2and1", 3, [](const std::function<void(Communicator&)>& body) {
                      FakeClusterOptions options;
                      options.ranks = {2, 1};
                      options.wire_buffer_bytes = 64 * 1024;
                      FakeCluster cluster(options);
                      RunRanks(cluster, body);
                    }});
  return worlds;
}

}  // namespace muster::test

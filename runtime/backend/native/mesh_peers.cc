#include <vector>

#include "runtime/backend/native/native.h"
#include "runtime/collectives/nodes.h"

namespace muster {

std::vector<int> MeshPeers(const std::vector<int>& node_of_rank, int rank) {
  std::vector<int> peers;
  if (node_of_rank.empty()) return peers;
  const Nodes nodes = Nodes::Of(node_of_rank, rank);
  const int lane = rank - nodes.first_rank(nodes.node);
  if (lane >= nodes.lanes) return peers;
  for (int n = 0; n < nodes.count(); ++n) {
    if (n != nodes.node) peers.push_back(nodes.first_rank(n) + lane);
  }
  return peers;
}

}  // namespace muster

#include "runtime/transport/dial_plan.h"

#include <algorithm>

namespace muster {

std::vector<size_t> DialOrder(int rank, const std::vector<int>& peers) {
  std::vector<size_t> order;
  for (size_t i = 0; i < peers.size(); ++i) {
    if (peers[i] < rank) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&peers](size_t a, size_t b) { return peers[a] > peers[b]; });
  return order;
}

}  // namespace muster

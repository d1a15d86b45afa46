#include "launcher/topology/bus_distance.h"

#include <algorithm>

namespace muster {

PciDistance BusDistance(const std::vector<std::string>& one, const std::vector<std::string>& other) {
  size_t common = 0;
  while (common < std::min(one.size(), other.size()) && one[common] == other[common]) ++common;
  if (common == 0) return PciDistance::kUnknown;
  if (common == 1) return PciDistance::kPhb;  // the first bridge is the host's
  // One port of the switch stands between each of them and what they share; more are switches behind switches.
  const size_t below = std::max(one.size(), other.size()) - common;
  return below <= 1 ? PciDistance::kPix : PciDistance::kPxb;
}

}  // namespace muster

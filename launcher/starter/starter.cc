#include "launcher/starter/starter.h"

namespace muster {

std::vector<uint32_t> SpreadSlots(uint32_t workers, uint32_t nodes) {
  std::vector<uint32_t> slots(nodes, workers / nodes);
  for (uint32_t node = 0; node < workers % nodes; ++node) ++slots[node];
  return slots;
}

}  // namespace muster

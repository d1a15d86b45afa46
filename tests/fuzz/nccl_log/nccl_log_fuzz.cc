// NCCL's lines: whatever they say, a ring that is told holds every rank once.
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "launcher/planner/nccl_log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::NcclLog log;
  log.Read(absl::string_view(reinterpret_cast<const char*>(data), size));
  const auto rings = log.Take();
  if (!rings.ok()) {
    if (rings.status().message().empty()) __builtin_trap();
    return 0;
  }
  bool any = false;
  if (rings->hosts.size() != static_cast<size_t>(rings->ranks)) __builtin_trap();
  for (const std::vector<int>& ring : rings->rings) {
    if (ring.empty()) continue;
    any = true;
    std::vector<bool> met(static_cast<size_t>(rings->ranks), false);
    if (ring.size() != met.size()) __builtin_trap();
    for (const int rank : ring) {
      if (rank < 0 || rank >= rings->ranks || met[static_cast<size_t>(rank)]) __builtin_trap();
      met[static_cast<size_t>(rank)] = true;
    }
  }
  if (!any) __builtin_trap();
  return 0;
}

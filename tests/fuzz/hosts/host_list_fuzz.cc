// -H: whatever is given, its hosts are ones that may be given to other programs, or there is an error.
#include <cstdint>

#include "launcher/hosts/host_list.h"
#include "tests/fuzz/hosts/host_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::CheckHosts(muster::ParseHostList("-H", absl::string_view(reinterpret_cast<const char*>(data), size)));
  return 0;
}

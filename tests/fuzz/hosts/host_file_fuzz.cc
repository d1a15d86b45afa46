// --hostfile: whatever the file holds, its hosts are ones that may be given to other programs, or there is an error that names a line.
#include <cstdint>

#include "launcher/hosts/host_file.h"
#include "tests/fuzz/hosts/host_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto hosts = muster::ParseHostFile("hosts", absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!hosts.ok() && hosts.status().message().substr(0, 6) != "hosts:") __builtin_trap();
  muster::CheckHosts(hosts);
  return 0;
}

// The file of TORCHELASTIC_ERROR_FILE: whatever a program writes there, what is told of it is one bounded line and a bounded trace.
#include <cstdint>

#include "launcher/agent/program_error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto error = muster::ParseProgramError(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!error) return 0;
  if (error->error.empty() || error->error.size() > 2 * muster::kProgramErrorBytesMax + 16) __builtin_trap();
  for (const char byte : error->error) {
    if (static_cast<unsigned char>(byte) < ' ') __builtin_trap();
  }
  if (error->trace.size() > muster::kProgramTraceBytesMax + 3) __builtin_trap();
  return 0;
}

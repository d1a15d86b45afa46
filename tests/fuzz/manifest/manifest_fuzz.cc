// Manifests: whatever a file holds, lint ends, and each finding has a rule that there is and a place in the file.
#include <cstdint>
#include <string>

#include "launcher/kubernetes/lint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const int version : {0, muster::kubernetes::kVersionMin}) {
    muster::kubernetes::LintOptions options;
    options.version = version;
    for (const auto& finding : muster::kubernetes::Lint({{"manifest", text}, {"again", text}}, options).findings) {
      if (muster::kubernetes::FindRule(finding.rule) == nullptr || finding.line < 1 || finding.column < 1 ||
          finding.object.empty())
        __builtin_trap();
    }
  }
  return 0;
}

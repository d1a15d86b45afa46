#include "launcher/cli/join_key_file.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "launcher/channel/join_key.h"

namespace muster {

absl::StatusOr<std::string> ReadJoinKey(const std::string& path) {
  constexpr size_t kBytesMax = 4096;
  std::ifstream file(path, std::ios::binary);
  std::string text(kBytesMax + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  const std::string flag = absl::StrCat("--join-key-file ", path);
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    return absl::InvalidArgumentError(absl::StrCat(flag, " cannot be read; name the file that holds the job's join key"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kBytesMax) return absl::InvalidArgumentError(absl::StrCat(flag, " has more than ", kBytesMax, " bytes"));
  auto key = JoinKeyFromText(text);
  if (!key.ok()) return absl::InvalidArgumentError(absl::StrCat(flag, ": ", key.status().message()));
  return key;
}

}  // namespace muster

#include "launcher/agent/nccl_files.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launcher/nccl/user_choice.h"

namespace muster {
namespace {

constexpr size_t kConfigurationBytesMax = 1 << 16;

std::set<std::string> VariablesIn(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kConfigurationBytesMax, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  return VariablesOfConfiguration(text);
}

// NCCL looks into the user database, whatever HOME says.
std::string FileOfUser() {
  passwd entry = {};
  passwd* found = nullptr;
  char text[4096];
  if (::getpwuid_r(::getuid(), &entry, text, sizeof text, &found) != 0 || found == nullptr) return "";
  return absl::StrCat(found->pw_dir, "/.nccl.conf");
}

}  // namespace

std::set<std::string> ConfiguredNcclVariables(const std::vector<std::string>& environment, const std::string& system_file) {
  std::optional<std::string> named;
  for (const std::string& setting : environment) {
    absl::string_view value = setting;
    if (absl::ConsumePrefix(&value, "NCCL_CONF_FILE=")) named = std::string(value);
  }
  std::set<std::string> variables = VariablesIn(named ? *named : FileOfUser());
  variables.merge(VariablesIn(system_file));
  return variables;
}

absl::StatusOr<std::string> WriteNcclTopology(const std::string& folder, const std::string& xml) {
  if (folder.empty()) return absl::UnavailableError("this agent has no folder for it");
  const std::string path = absl::StrCat(folder, "/nccl-topology.xml"), unfinished = path + ".new";
  std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
  file << xml;
  file.close();
  if (file.fail() || ::rename(unfinished.c_str(), path.c_str()) != 0) {
    return absl::UnavailableError(absl::StrCat(path, ": ", ::strerror(errno)));
  }
  return path;
}

}  // namespace muster

#include "launcher/cli/own_environment.h"

#include <unistd.h>

#include <cstdlib>

namespace muster {

std::optional<std::string> Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

std::vector<std::string> OwnEnvironment() {
  std::vector<std::string> environment;
  for (char** setting = environ; *setting != nullptr; ++setting) environment.emplace_back(*setting);
  return environment;
}

std::string TemporaryFolder() {
  const std::string folder = Variable("TMPDIR").value_or("");
  return folder.empty() || folder[0] != '/' ? "/tmp" : folder;
}

std::string Python() {
  const std::string chosen = Variable("PYTHON_EXEC").value_or("");
  return chosen.empty() ? "python3" : chosen;
}

}  // namespace muster

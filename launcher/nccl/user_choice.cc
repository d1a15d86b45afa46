#include "launcher/nccl/user_choice.h"

#include <map>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

// A network that is not the verbs one has no use for a list of verbs devices, and NICs that are merged by name must all be there.
const std::map<std::string, std::vector<std::string>>& Kin() {
  static const auto& kKin = *new std::map<std::string, std::vector<std::string>>{
      {"NCCL_IB_HCA", {"NCCL_IB_DISABLE", "NCCL_NET", "NCCL_NET_PLUGIN", "NCCL_NET_FORCE_MERGE"}},
      {"NCCL_CROSS_NIC", {"NCCL_GRAPH_FILE"}},
      {"NCCL_IB_MERGE_NICS", {"NCCL_NET_MERGE_LEVEL", "NCCL_NET_MERGE_POLICY", "NCCL_NET_FORCE_MERGE"}},
      {"NCCL_SOCKET_FAMILY", {"NCCL_SOCKET_IFNAME"}},
  };
  return kKin;
}

}  // namespace

std::string UserVariableAgainst(const std::string& variable, const std::set<std::string>& set) {
  if (set.contains(variable)) return variable;
  const auto kin = Kin().find(variable);
  if (kin == Kin().end()) return "";
  for (const std::string& other : kin->second) {
    if (set.contains(other)) return other;
  }
  return "";
}

std::set<std::string> VariablesOfConfiguration(absl::string_view text) {
  std::set<std::string> names;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const size_t equals = line.find('=');
    if (equals == absl::string_view::npos) continue;
    const absl::string_view name = absl::StripAsciiWhitespace(line.substr(0, equals));
    if (!name.empty() && name[0] != '#') names.emplace(name);
  }
  return names;
}

}  // namespace muster

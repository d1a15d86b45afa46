#include "launcher/mpi/pmi_line.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace muster {

const std::string& PmiLine::value(const std::string& name) const {
  static const auto& kNone = *new std::string;
  const auto found = values.find(name);
  return found == values.end() ? kNone : found->second;
}

absl::StatusOr<PmiLine> ParsePmiLine(absl::string_view line) {
  if (line.size() >= kPmiLineBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("a line of ", line.size(), " bytes; at most ", kPmiLineBytesMax - 1));
  }
  if (!std::all_of(line.begin(), line.end(), [](unsigned char c) { return absl::ascii_isprint(c); })) {
    return absl::InvalidArgumentError("a line that is not of printable characters");
  }
  PmiLine parsed;
  for (const absl::string_view word : absl::StrSplit(line, ' ', absl::SkipEmpty())) {
    const size_t equals = word.find('=');
    if (equals == absl::string_view::npos || equals == 0) return absl::InvalidArgumentError("a word that is not NAME=VALUE");
    const std::string name(word.substr(0, equals)), value(word.substr(equals + 1));
    if (parsed.command.empty()) {
      // Several commands in one, a spawn that is, begin with mcmd.
      if ((name != "cmd" && name != "mcmd") || value.empty())
        return absl::InvalidArgumentError("a line that begins with no command");
      parsed.command = value;
    } else if (!parsed.values.emplace(name, value).second) {
      return absl::InvalidArgumentError(absl::StrCat("the word ", name.substr(0, 32), " twice"));
    }
  }
  if (parsed.command.empty()) return absl::InvalidArgumentError("an empty line");
  return parsed;
}

}  // namespace muster

#include "launcher/labels/json_text.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "launcher/hosts/host_name.h"
#include "launcher/labels/labels.h"

namespace muster {
namespace {

// What the library says behind its "[json.exception.parse_error.101] parse error at line 1, column 2: ".
std::string Reason(const std::string& what) {
  const size_t at = what.find(": ");
  return Shown(at == std::string::npos ? what : what.substr(at + 2));
}

absl::Status Wrong(const std::string& file, absl::string_view text, size_t byte, const std::string& what) {
  const absl::string_view before = text.substr(0, std::min(text.size(), byte > 0 ? byte - 1 : 0));
  const size_t line_begin = before.rfind('\n') == absl::string_view::npos ? 0 : before.rfind('\n') + 1;
  return absl::InvalidArgumentError(absl::StrCat(file, ":", 1 + std::count(before.begin(), before.end(), '\n'), ":",
                                                 before.size() - line_begin + 1, ": not JSON: ", Reason(what)));
}

absl::Status CheckSize(const std::string& file, absl::string_view text) {
  if (text.size() <= kLabelFileBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(file, ": has more than ", kLabelFileBytesMax >> 20, " MiB"));
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(const std::string& file, absl::string_view text) {
  if (const absl::Status size = CheckSize(file, text); !size.ok()) return size;
  try {
    return nlohmann::json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::parse_error& error) {
    return Wrong(file, text, error.byte, error.what());
  } catch (const nlohmann::json::exception& error) {
    return Wrong(file, text, 0, error.what());
  }
}

absl::StatusOr<std::vector<nlohmann::json>> ParseJsonStream(const std::string& file, absl::string_view text) {
  if (const absl::Status size = CheckSize(file, text); !size.ok()) return size;
  std::vector<nlohmann::json> values;
  std::istringstream stream{std::string(text)};
  size_t begin = 0;
  try {
    while (stream >> std::ws && !stream.eof()) {
      begin = static_cast<size_t>(stream.tellg());
      nlohmann::json value;
      stream >> value;
      values.push_back(std::move(value));
    }
  } catch (const nlohmann::json::parse_error& error) {
    return Wrong(file, text, begin + error.byte, error.what());
  } catch (const nlohmann::json::exception& error) {
    return Wrong(file, text, begin, error.what());
  }
  return values;
}

}  // namespace muster

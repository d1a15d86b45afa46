// JSON with places in its errors.
#ifndef MUSTER_LAUNCHER_LABELS_JSON_TEXT_H_
#define MUSTER_LAUNCHER_LABELS_JSON_TEXT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// Errors of both: InvalidArgument, "FILE:LINE:COLUMN: not JSON: what"; files above kLabelFileBytesMax.
absl::StatusOr<nlohmann::json> ParseJson(const std::string& file, absl::string_view text);
// Values one after the other, with blanks between them; none in an empty text.
absl::StatusOr<std::vector<nlohmann::json>> ParseJsonStream(const std::string& file, absl::string_view text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_LABELS_JSON_TEXT_H_

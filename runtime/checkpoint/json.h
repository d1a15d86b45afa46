// JSON of strangers, read without exceptions and in bounded memory.
#ifndef MUSTER_RUNTIME_CHECKPOINT_JSON_H_
#define MUSTER_RUNTIME_CHECKPOINT_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

bool IsUtf8(absl::string_view text);

// `text` in quotes, escaped.
std::string JsonString(absl::string_view text);

// Errors: InvalidArgument, where and why: not JSON, a number out of range, a key twice in one object, deeper than `depth_max`.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, int depth_max);

// Members and values by type. Errors: InvalidArgument with the name.
absl::StatusOr<const nlohmann::json*> JsonMember(const nlohmann::json& object, const char* name, nlohmann::json::value_t type);
absl::StatusOr<const nlohmann::json*> JsonObject(const nlohmann::json& object, const char* name);
absl::StatusOr<const nlohmann::json*> JsonArray(const nlohmann::json& object, const char* name);
absl::StatusOr<std::string> JsonText(const nlohmann::json& object, const char* name);
// Whole numbers from 0 up.
absl::StatusOr<uint64_t> JsonUnsigned(const nlohmann::json& object, const char* name);
absl::StatusOr<int64_t> JsonCount(const nlohmann::json& object, const char* name);
absl::StatusOr<int64_t> JsonCount(const nlohmann::json& value);

}  // namespace muster

#endif  // MUSTER_RUNTIME_CHECKPOINT_JSON_H_

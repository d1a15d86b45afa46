// A manifest as data: JSON in the order in which it is written, with comments.
#ifndef MUSTER_LAUNCHER_KUBERNETES_DOCUMENT_H_
#define MUSTER_LAUNCHER_KUBERNETES_DOCUMENT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace muster::kubernetes {

// A member "#name" holds the comment (lines) that stands above the member "name"; it comes directly before it, and is no part of the
// object that a cluster gets.
using Json = nlohmann::ordered_json;

// Sets `(*object)[name]` with `comment` above it.
template <typename T>
void Put(Json* object, const std::string& name, T value, const std::string& comment = "") {
  if (!comment.empty()) (*object)["#" + name] = comment;
  (*object)[name] = std::move(value);
}

// The same without comments, at every depth.
Json WithoutComments(const Json& value);

// Block-style YAML, the same bytes for the same value: members in their order, two spaces a level. A text stands in quotes unless
// every reader of YAML 1.1 and 1.2 takes it for a text without them. Ends with '\n'; does not begin with "---".
std::string ToYaml(const Json& value);

// Several documents as one stream. `header`: lines above all, shown as comments.
std::string ToYamlStream(const std::vector<Json>& documents, absl::string_view header);

}  // namespace muster::kubernetes

#endif  // MUSTER_LAUNCHER_KUBERNETES_DOCUMENT_H_

// YAML as a plain tree, each value with its place in the file.
#ifndef MUSTER_LAUNCHER_YAML_YAML_READER_H_
#define MUSTER_LAUNCHER_YAML_YAML_READER_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 1;  // from 1, as the column
  int column = 1;
  std::string text;                                  // of a scalar
  bool quoted = false;                               // it is, or is a block of text: surely no number
  std::vector<YamlNode> items;                       // of a list
  std::vector<std::pair<YamlNode, YamlNode>> pairs;  // of a map, in the file's order; keys may come twice
};

// The one document in `text`; an empty one is kNull. Anchors, aliases, tags and more than kYamlDepthMax levels are refused.
// Errors: InvalidArgument, "file:line:column: what".
inline constexpr int kYamlDepthMax = 16;
absl::StatusOr<YamlNode> ReadYaml(const std::string& file, absl::string_view text);

// An error as one line of bounded length, whatever of the file it quotes.
std::string OneLine(std::string text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_YAML_YAML_READER_H_

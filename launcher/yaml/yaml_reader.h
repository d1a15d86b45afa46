// YAML as a plain tree, each value with its place in the file.
#ifndef MUSTER_LAUNCHER_YAML_YAML_READER_H_
#define MUSTER_LAUNCHER_YAML_YAML_READER_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

struct YamlPair;

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 1;  // from 1, as the column
  int column = 1;
  std::string text;             // of a scalar
  bool quoted = false;          // it is, or is a block of text: surely no number
  std::vector<YamlNode> items;  // of a list
  std::vector<YamlPair> pairs;  // of a map, in the file's order; keys may come twice

  // Defined where YamlPair is complete.
  YamlNode();
  YamlNode(const YamlNode&);
  YamlNode(YamlNode&&) noexcept;
  YamlNode& operator=(const YamlNode&);
  YamlNode& operator=(YamlNode&&) noexcept;
  ~YamlNode();
};

struct YamlPair {
  YamlNode key;
  YamlNode value;
};

inline YamlNode::YamlNode() = default;
inline YamlNode::YamlNode(const YamlNode&) = default;
inline YamlNode::YamlNode(YamlNode&&) noexcept = default;
inline YamlNode& YamlNode::operator=(const YamlNode&) = default;
inline YamlNode& YamlNode::operator=(YamlNode&&) noexcept = default;
inline YamlNode::~YamlNode() = default;

// Documents of others, such as manifests: several to a file, anchors with aliases (which become copies) and tags are taken.
struct YamlStreamLimits {
  int depth = 64;
  size_t nodes = 500'000;  // copies counted: an alias of an alias of ... grows fast
};
// All documents in `text`, empty ones left out. Errors: InvalidArgument, "file:line:column: what".
absl::StatusOr<std::vector<YamlNode>> ReadYamlStream(const std::string& file, absl::string_view text,
                                                     const YamlStreamLimits& limits = {});

// The one document in `text`; an empty one is kNull. Anchors, aliases, tags and more than kYamlDepthMax levels are refused.
// Errors: InvalidArgument, "file:line:column: what".
inline constexpr int kYamlDepthMax = 16;
absl::StatusOr<YamlNode> ReadYaml(const std::string& file, absl::string_view text);

// An error as one line of bounded length, whatever of the file it quotes.
std::string OneLine(std::string text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_YAML_YAML_READER_H_

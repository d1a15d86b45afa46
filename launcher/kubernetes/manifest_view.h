// Walking a manifest without asking at each step whether it is there.
#ifndef MUSTER_LAUNCHER_KUBERNETES_MANIFEST_VIEW_H_
#define MUSTER_LAUNCHER_KUBERNETES_MANIFEST_VIEW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "launcher/yaml/yaml_reader.h"

namespace muster::kubernetes {

// A value of a manifest, or its absence. Borrows the tree.
class View {
 public:
  View() = default;
  View(const YamlNode* node, std::string path) : node_(node), nearest_(node), path_(std::move(path)) {}

  explicit operator bool() const { return node_ != nullptr && node_->kind != YamlNode::Kind::kNull; }
  bool is_map() const { return node_ != nullptr && node_->kind == YamlNode::Kind::kMap; }
  bool is_list() const { return node_ != nullptr && node_->kind == YamlNode::Kind::kList; }
  bool is_scalar() const { return node_ != nullptr && node_->kind == YamlNode::Kind::kScalar; }

  // A member; absent where this is no map or has none of that name.
  View operator[](absl::string_view name) const;
  // Items of a list; none where it is none.
  std::vector<View> items() const;
  // Members of a map with their names' nodes.
  std::vector<std::pair<const YamlNode*, View>> members() const;

  std::string text() const { return is_scalar() ? node_->text : ""; }
  bool is(absl::string_view text) const { return is_scalar() && node_->text == text; }
  bool is_true() const { return is("true"); }
  bool is_false() const { return is("false"); }
  std::optional<int64_t> number() const;

  const YamlNode* node() const { return node_; }
  // Where it stands, or the nearest thing around it that is there.
  const YamlNode* nearest() const { return nearest_; }
  // "spec.template.spec.containers[0].image"
  const std::string& path() const { return path_; }

 private:
  const YamlNode* node_ = nullptr;
  const YamlNode* nearest_ = nullptr;
  std::string path_;
};

// The value of a quantity ("500m", "4Gi", "1e3") in units; none: it is no quantity.
std::optional<double> QuantityOf(absl::string_view text);

// "spec.a.b" from "spec" and "a.b", which may be empty; a name with dots or slashes in brackets.
std::string JoinPath(const std::string& path, absl::string_view name);

}  // namespace muster::kubernetes

#endif  // MUSTER_LAUNCHER_KUBERNETES_MANIFEST_VIEW_H_

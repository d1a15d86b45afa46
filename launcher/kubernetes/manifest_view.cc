#include "launcher/kubernetes/manifest_view.h"

#include <array>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace muster::kubernetes {

std::string JoinPath(const std::string& path, absl::string_view name) {
  const bool plain = name.find_first_of("./[]") == absl::string_view::npos;
  if (!plain) return absl::StrCat(path, "[", name, "]");
  return path.empty() ? std::string(name) : absl::StrCat(path, ".", name);
}

View View::operator[](absl::string_view name) const {
  View member;
  member.nearest_ = nearest_;
  member.path_ = JoinPath(path_, name);
  if (!is_map()) return member;
  for (const YamlPair& pair : node_->pairs) {
    if (pair.key.text == name) {
      member.node_ = &pair.value;
      member.nearest_ = pair.value.kind == YamlNode::Kind::kNull ? &pair.key : &pair.value;
    }
  }
  return member;
}

std::vector<View> View::items() const {
  std::vector<View> views;
  if (!is_list()) return views;
  for (size_t i = 0; i < node_->items.size(); ++i) views.emplace_back(&node_->items[i], absl::StrCat(path_, "[", i, "]"));
  return views;
}

std::vector<std::pair<const YamlNode*, View>> View::members() const {
  std::vector<std::pair<const YamlNode*, View>> views;
  if (!is_map()) return views;
  for (const YamlPair& pair : node_->pairs) views.emplace_back(&pair.key, View(&pair.value, JoinPath(path_, pair.key.text)));
  return views;
}

std::optional<int64_t> View::number() const {
  int64_t number = 0;
  if (!is_scalar() || !absl::SimpleAtoi(node_->text, &number)) return std::nullopt;
  return number;
}

// Source: k8s.io/apimachinery, resource.Quantity.
std::optional<double> QuantityOf(absl::string_view text) {
  static constexpr std::array<std::pair<absl::string_view, double>, 16> kSuffixes = {{{"Ki", 0x1p10},
                                                                                      {"Mi", 0x1p20},
                                                                                      {"Gi", 0x1p30},
                                                                                      {"Ti", 0x1p40},
                                                                                      {"Pi", 0x1p50},
                                                                                      {"Ei", 0x1p60},
                                                                                      {"n", 1e-9},
                                                                                      {"u", 1e-6},
                                                                                      {"m", 1e-3},
                                                                                      {"k", 1e3},
                                                                                      {"M", 1e6},
                                                                                      {"G", 1e9},
                                                                                      {"T", 1e12},
                                                                                      {"P", 1e15},
                                                                                      {"E", 1e18},
                                                                                      {"", 1}}};
  const auto part_of_number = [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '.' || c == '+' || c == '-';
  };
  // No blank, no "0x10", no "inf".
  if (text.empty() || !part_of_number(text[0]) || text.find_first_of(" xXN") != absl::string_view::npos ||
      absl::StrContains(text, "in")) {
    return std::nullopt;
  }
  double number = 0;
  if (absl::SimpleAtod(text, &number)) return number;  // exponents too
  for (const auto& [suffix, factor] : kSuffixes) {
    absl::string_view digits = text;
    if (suffix.empty() || !absl::ConsumeSuffix(&digits, suffix)) continue;
    if (digits.find_first_of("eE") != absl::string_view::npos || !absl::SimpleAtod(digits, &number)) return std::nullopt;
    return number * factor;
  }
  return std::nullopt;
}

}  // namespace muster::kubernetes

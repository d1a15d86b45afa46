#include "launcher/kubernetes/structure.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster::kubernetes {
namespace {

struct Structure {
  std::map<std::pair<std::string, std::string>, std::string> kinds;  // API version, kind
  std::map<std::string, ObjectType, std::less<>> types;
};

FieldType ParseField(absl::string_view code) {
  FieldType field;
  field.required = absl::ConsumeSuffix(&code, "!");
  if (absl::ConsumePrefix(&code, "[")) field.shape = FieldType::Shape::kList;
  if (absl::ConsumePrefix(&code, "{")) field.shape = FieldType::Shape::kMap;
  field.scalar = code[0];
  code.remove_prefix(1);
  if (field.scalar == '@') field.type = std::string(code);
  if (absl::ConsumePrefix(&code, "(") && absl::ConsumeSuffix(&code, ")")) field.words = absl::StrSplit(code, '|');
  return field;
}

const Structure& TheStructure() {
  static const Structure& structure = *[] {
    auto* made = new Structure;
    ObjectType* type = nullptr;
    for (const absl::string_view line : absl::StrSplit(kStructureText, '\n', absl::SkipEmpty())) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (absl::StartsWith(line, "  ")) {
        (*type)[words[0]] = ParseField(words[1]);
      } else if (words[0] == "kind") {
        made->kinds[{words[1], words[2]}] = words[3];
      } else {
        type = &made->types[words[1]];
      }
    }
    return made;
  }();
  return structure;
}

}  // namespace

const std::string* FindKind(absl::string_view api_version, absl::string_view kind) {
  const auto& kinds = TheStructure().kinds;
  const auto found = kinds.find({std::string(api_version), std::string(kind)});
  return found == kinds.end() ? nullptr : &found->second;
}

const ObjectType* FindType(absl::string_view name) {
  const auto found = TheStructure().types.find(name);
  return found == TheStructure().types.end() ? nullptr : &found->second;
}

}  // namespace muster::kubernetes

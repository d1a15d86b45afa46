// Fields that do not exist, or not yet; values of another type.
#include <algorithm>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/kubernetes/fields.h"
#include "launcher/kubernetes/lint_context.h"
#include "launcher/kubernetes/structure.h"
#include "runtime/base/nearest_name.h"

namespace muster::kubernetes {
namespace {

const char* KindOf(const View& value) { return value.is_map() ? "a section" : value.is_list() ? "a list" : "a single value"; }

// YAML 1.1 readers, kubectl's among them, take these for true and false.
bool IsBoolean(const std::string& text) {
  return text == "true" || text == "false" || text == "True" || text == "False" || text == "TRUE" || text == "FALSE";
}

bool IsNumber(const std::string& text) {
  double number = 0;
  return !text.empty() && text.find_first_of("0123456789") != std::string::npos && absl::SimpleAtod(text, &number);
}

class StructureCheck {
 public:
  StructureCheck(Context* context, const Object& object) : context_(context), object_(object) {}

  void Walk(const View& value, const std::string& type) {
    const ObjectType* const fields = FindType(type);
    if (fields == nullptr) return;
    if (!value.is_map()) return Wrong(value, absl::StrCat("a section of fields is wanted here, not ", KindOf(value)));
    std::map<std::string, int> lines;
    for (const auto& [key, member] : value.members()) {
      if (const auto [first, is_new] = lines.emplace(key->text, key->line); !is_new) {
        context_->ReportAt(object_, key, member.path(), "duplicate-key",
                           absl::StrCat(key->text, " was said in line ", first->second));
        continue;
      }
      const auto found = fields->find(key->text);
      if (found == fields->end()) {
        Unknown(*key, member.path(), type, *fields);
        continue;
      }
      CheckVersion(*key, member, type);
      WalkField(member, found->second);
    }
    for (const auto& [name, field] : *fields) {
      if (field.required && !value[name])
        context_->Report(object_, value, "missing-field", absl::StrCat(type, " has no ", name));
    }
  }

 private:
  void Wrong(const View& value, std::string what) { context_->Report(object_, value, "wrong-type", std::move(what)); }

  void Unknown(const YamlNode& key, const std::string& path, const std::string& type, const ObjectType& fields) {
    std::vector<std::string> names;
    for (const auto& [name, field] : fields) names.push_back(name);
    const std::string nearest = NearestName(key.text, names);
    context_->ReportAt(
        object_, &key, path, "unknown-field",
        absl::StrCat(type, " has no field ", key.text, nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
  }

  void CheckVersion(const YamlNode& key, const View& member, const std::string& type) {
    if (context_->options.version == 0) return;
    const bool init = type == "Container" && member.path().find("initContainers") != std::string::npos;
    std::string as = init ? "InitContainer" : type;
    if (type == "Volume") as = "VolumeSource";
    const VersionedField* known = FindVersionedField(as, key.text);
    if (known == nullptr && init) known = FindVersionedField(type, key.text);
    if (known == nullptr || (known->usable > 0 && context_->options.version >= known->usable)) return;
    context_->ReportAt(
        object_, &key, member.path(), "field-too-new",
        absl::StrCat(key.text,
                     known->usable > 0 ? absl::StrCat(" is there from Kubernetes ", VersionText(known->usable), " on")
                                       : std::string(" is not on by default yet"),
                     ", not in ", VersionText(context_->options.version), " (", known->source, "); without it ",
                     known->without));
  }

  void WalkField(const View& value, const FieldType& field) {
    if (!value) return;  // null: as if it were not said
    if (field.shape == FieldType::Shape::kList) {
      if (!value.is_list()) return Wrong(value, absl::StrCat("a list is wanted here, not ", KindOf(value)));
      for (const View& item : value.items()) WalkOne(item, field);
    } else if (field.shape == FieldType::Shape::kMap) {
      if (!value.is_map())
        return Wrong(value, absl::StrCat("a section of names and values is wanted here, not ", KindOf(value)));
      std::map<std::string, int> lines;
      for (const auto& [key, member] : value.members()) {
        if (const auto [first, is_new] = lines.emplace(key->text, key->line); !is_new) {
          context_->ReportAt(object_, key, member.path(), "duplicate-key",
                             absl::StrCat(key->text, " was said in line ", first->second));
        }
        WalkOne(member, field);
      }
    } else {
      WalkOne(value, field);
    }
  }

  void WalkOne(const View& value, const FieldType& field) {
    if (field.scalar == 'a') return;
    if (field.scalar == '@') return Walk(value, field.type);
    if (!value.is_scalar()) {
      if (value) Wrong(value, absl::StrCat("a single value is wanted here, not ", KindOf(value)));
      return;
    }
    const std::string text = value.text();
    const bool quoted = value.node()->quoted;
    int64_t number = 0;
    switch (field.scalar) {
      case 's':
        if (!quoted && (IsBoolean(text) || IsNumber(text))) {
          return Wrong(value, absl::StrCat("a text is wanted here, and ", text, " is read as a ",
                                           IsBoolean(text) ? "boolean" : "number", "; write \"", text, "\""));
        }
        if (!field.words.empty() && std::find(field.words.begin(), field.words.end(), text) == field.words.end()) {
          const std::string nearest = NearestName(text, field.words);
          context_->Report(object_, value, "wrong-word",
                           absl::StrCat("\"", text, "\" is none of ", absl::StrJoin(field.words, ", "),
                                        nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
        }
        return;
      case 'i':
        if (quoted || !absl::SimpleAtoi(text, &number))
          Wrong(value, absl::StrCat("a whole number is wanted here, not \"", text, "\""));
        return;
      case 'n':
        if (quoted || !IsNumber(text)) Wrong(value, absl::StrCat("a number is wanted here, not \"", text, "\""));
        return;
      case 'b':
        if (quoted || !IsBoolean(text)) Wrong(value, absl::StrCat("true or false is wanted here, not \"", text, "\""));
        return;
      case 'q':
        if (!QuantityOf(text)) context_->Report(object_, value, "bad-quantity", absl::StrCat("\"", text, "\" is no amount"));
        return;
      case 'x':
        if (!quoted && IsBoolean(text)) Wrong(value, absl::StrCat("a number or a text is wanted here, not ", text));
        return;
      default:
        return;
    }
  }

  Context* const context_;
  const Object& object_;
};

}  // namespace

void CheckStructure(Context* context, const Object& object, const std::string& type) {
  StructureCheck(context, object).Walk(object.root, type);
}

}  // namespace muster::kubernetes

#include "runtime/checkpoint/json.h"

#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using nlohmann::json;

// Looks for what the parser itself lets pass.
class Checker : public nlohmann::json_sax<json> {
 public:
  explicit Checker(int depth_max) : depth_max_(depth_max) {}
  const std::string& fault() const { return fault_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& name) override {
    return keys_.back().insert(name).second || Refuse(absl::StrCat("\"", name, "\" stands there twice"));
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Refuse(absl::StrCat("no valid JSON at byte ", position));
  }

 private:
  bool Enter() {
    keys_.emplace_back();
    return static_cast<int>(keys_.size()) <= depth_max_ || Refuse(absl::StrCat("nested deeper than ", depth_max_));
  }
  bool Leave() {
    keys_.pop_back();
    return true;
  }
  bool Refuse(std::string fault) {
    fault_ = std::move(fault);
    return false;
  }

  const int depth_max_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
  std::string fault_;
};

}  // namespace

// RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF.
bool IsUtf8(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
    const unsigned first = byte(i);
    const int length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (length == 0) return false;
    unsigned code = length == 1 ? first : first & (0x7fu >> length);
    for (int k = 1; k < length; ++k) {
      if ((byte(i + static_cast<size_t>(k)) & 0xc0) != 0x80) return false;
      code = code << 6 | (byte(i + static_cast<size_t>(k)) & 0x3f);
    }
    if (length == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) return false;
    if (length == 4 && (code < 0x10000 || code > 0x10ffff)) return false;
    i += static_cast<size_t>(length);
  }
  return true;
}

std::string JsonString(absl::string_view text) {
  return json(std::string(text)).dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<json> ParseJson(absl::string_view text, int depth_max) {
  Checker checker(depth_max);
  if (!json::sax_parse(text.begin(), text.end(), &checker)) return absl::InvalidArgumentError(checker.fault());
  json parsed = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return absl::InvalidArgumentError("no valid JSON");
  return parsed;
}

absl::StatusOr<const json*> JsonMember(const json& object, const char* name, json::value_t type) {
  if (!object.is_object()) return absl::InvalidArgumentError(absl::StrCat("no object where \"", name, "\" is looked for"));
  const auto found = object.find(name);
  if (found == object.end()) return absl::InvalidArgumentError(absl::StrCat("there is no \"", name, "\""));
  if (found->type() != type) return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is a ", found->type_name()));
  return &*found;
}

absl::StatusOr<const json*> JsonObject(const json& object, const char* name) {
  return JsonMember(object, name, json::value_t::object);
}

absl::StatusOr<const json*> JsonArray(const json& object, const char* name) {
  return JsonMember(object, name, json::value_t::array);
}

absl::StatusOr<std::string> JsonText(const json& object, const char* name) {
  MUSTER_ASSIGN_OR_RETURN(const json* const member, JsonMember(object, name, json::value_t::string));
  return *member->get_ptr<const std::string*>();
}

absl::StatusOr<uint64_t> JsonUnsigned(const json& object, const char* name) {
  MUSTER_ASSIGN_OR_RETURN(const json* const member, JsonMember(object, name, json::value_t::number_unsigned));
  return *member->get_ptr<const uint64_t*>();
}

absl::StatusOr<int64_t> JsonCount(const json& value) {
  const uint64_t* const number = value.is_number_unsigned() ? value.get_ptr<const uint64_t*>() : nullptr;
  if (number == nullptr || *number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return absl::InvalidArgumentError("no whole number from 0 to 2^63 - 1");
  }
  return static_cast<int64_t>(*number);
}

absl::StatusOr<int64_t> JsonCount(const json& object, const char* name) {
  MUSTER_ASSIGN_OR_RETURN(const json* const member, JsonMember(object, name, json::value_t::number_unsigned));
  auto count = JsonCount(*member);
  if (!count.ok()) return Annotate(count.status(), absl::StrCat("\"", name, "\""));
  return count;
}

}  // namespace muster

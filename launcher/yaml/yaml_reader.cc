#include "launcher/yaml/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <exception>
#include <functional>
#include <map>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

// How many values a tree holds, keys too.
size_t CountOf(const YamlNode& node) {
  size_t count = 1;
  for (const YamlNode& item : node.items) count += CountOf(item);
  for (const YamlPair& pair : node.pairs) count += CountOf(pair.key) + CountOf(pair.value);
  return count;
}

// Builds the tree. After the first thing that is refused it takes nothing in any more.
class Builder final : public YAML::EventHandler {
 public:
  // Of a job file.
  Builder() = default;
  // Of somebody else's document.
  explicit Builder(const YamlStreamLimits& limits) : lenient_(true), depth_max_(limits.depth), nodes_left_(limits.nodes) {}

  void OnDocumentStart(const YAML::Mark& mark) override { start_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Allow(mark, "", anchor);
    Add(At(mark, YamlNode::Kind::kNull), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (!lenient_) return Refuse(mark, "aliases (*name) are not used here; write the value here");
    if (!refused_.empty()) return;
    const auto found = anchored_.find(anchor);
    if (found == anchored_.end()) return Refuse(mark, "an alias (*name) inside of what it names");
    YamlNode copy = found->second;
    const size_t count = CountOf(copy);
    if (count > nodes_left_) return Refuse(mark, "the document is too large once its aliases (*name) are put in");
    nodes_left_ -= count;
    copy.line = mark.line + 1;
    copy.column = mark.column + 1;
    Add(std::move(copy));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    Allow(mark, tag, anchor);
    YamlNode node = At(mark, YamlNode::Kind::kScalar);
    node.text = value;
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    Add(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Begin(mark, tag, anchor, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { End(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    Begin(mark, tag, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { End(); }

  const std::string& refused() const { return refused_; }
  // Where the document begins; before it has begun, 0:0.
  const YAML::Mark& start() const { return start_; }
  YamlNode Take() { return std::move(root_); }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    bool has_key = false;  // of a map: the next value belongs to the last pair
  };

  static YamlNode At(const YAML::Mark& mark, YamlNode::Kind kind) {
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    return node;
  }

  void Refuse(const YAML::Mark& mark, absl::string_view what) {
    if (refused_.empty()) refused_ = absl::StrCat(mark.line + 1, ":", mark.column + 1, ": ", what);
  }

  void Allow(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (lenient_) {
      if (nodes_left_ == 0) return Refuse(mark, "the document is too large");
      --nodes_left_;
      return;
    }
    if (anchor != 0) Refuse(mark, "anchors (&name) are not used here; write the value where it is meant");
    if (!tag.empty() && tag != "?" && tag != "!") Refuse(mark, "tags (!name) are not used here; leave it out");
  }

  void Begin(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    Allow(mark, tag, anchor);
    if (depth_++ >= depth_max_) return Refuse(mark, "lists and sections are nested too deeply here");
    if (refused_.empty()) open_.push_back({At(mark, kind), anchor});
  }

  void End() {
    --depth_;
    if (!refused_.empty()) return;
    YamlNode node = std::move(open_.back().node);
    const YAML::anchor_t anchor = open_.back().anchor;
    open_.pop_back();
    Add(std::move(node), anchor);
  }

  void Add(YamlNode node, YAML::anchor_t anchor = 0) {
    if (!refused_.empty()) return;
    if (anchor != 0) anchored_[anchor] = node;
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      parent.node.pairs.push_back({std::move(node), YamlNode()});
      parent.has_key = true;
    } else {
      parent.node.pairs.back().value = std::move(node);
      parent.has_key = false;
    }
  }

  const bool lenient_ = false;
  const int depth_max_ = kYamlDepthMax;
  size_t nodes_left_ = 0;
  std::map<YAML::anchor_t, YamlNode> anchored_;
  YAML::Mark start_;
  YamlNode root_;
  std::vector<Open> open_;
  int depth_ = 0;
  std::string refused_;
};

absl::Status Wrong(const std::string& file, absl::string_view what) {
  return absl::InvalidArgumentError(OneLine(absl::StrCat(file, ":", what)));
}

// yaml-cpp gives empty documents forever, all at one place, where no value begins: at a comma outside of a list.
absl::Status NoValue(const std::string& file, const YAML::Mark& mark) {
  return Wrong(file, absl::StrCat(mark.line + 1, ":", mark.column + 1, ": not YAML: no value begins here"));
}

// The library's exceptions end here.
absl::Status Parse(const std::string& file, absl::string_view text, const std::function<absl::Status(YAML::Parser* parser)>& take) {
  // yaml-cpp takes a NUL for the end of the text.
  if (const size_t nul = text.find('\0'); nul != absl::string_view::npos) {
    return Wrong(file, absl::StrCat("1:1: byte ", nul, " of the file is NUL: this is no text"));
  }
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    return take(&parser);
  } catch (const YAML::Exception& error) {
    const bool placed = error.mark.line >= 0;
    return Wrong(file, absl::StrCat(placed ? error.mark.line + 1 : 1, ":", placed ? error.mark.column + 1 : 1,
                                    ": not YAML: ", error.msg));
  } catch (const std::exception& error) {
    return Wrong(file, absl::StrCat("1:1: not YAML: ", error.what()));
  }
}

}  // namespace

std::string OneLine(std::string text) {
  constexpr size_t kBytesMax = 1000;
  if (text.size() > kBytesMax) text = absl::StrCat(text.substr(0, kBytesMax), "...");
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return text;
}

absl::StatusOr<YamlNode> ReadYaml(const std::string& file, absl::string_view text) {
  Builder builder;
  const absl::Status read = Parse(file, text, [&](YAML::Parser* parser) {
    parser->HandleNextDocument(builder);
    if (!builder.refused().empty()) return Wrong(file, builder.refused());
    Builder second;
    const bool more = parser->HandleNextDocument(second);
    if (more && second.start().pos == builder.start().pos) return NoValue(file, second.start());
    if (more) return Wrong(file, "1:1: the file holds several documents (---); write one");
    return absl::OkStatus();
  });
  if (!read.ok()) return read;
  return builder.Take();
}

absl::StatusOr<std::vector<YamlNode>> ReadYamlStream(const std::string& file, absl::string_view text, const YamlStreamLimits& limits) {
  std::vector<YamlNode> documents;
  const absl::Status read = Parse(file, text, [&](YAML::Parser* parser) {
    int last_start = -1;
    while (true) {
      Builder builder(limits);
      if (!parser->HandleNextDocument(builder)) return absl::OkStatus();
      if (!builder.refused().empty()) return Wrong(file, builder.refused());
      if (builder.start().pos == last_start) return NoValue(file, builder.start());
      last_start = builder.start().pos;
      YamlNode document = builder.Take();
      if (document.kind != YamlNode::Kind::kNull) documents.push_back(std::move(document));
    }
  });
  if (!read.ok()) return read;
  return documents;
}

}  // namespace muster

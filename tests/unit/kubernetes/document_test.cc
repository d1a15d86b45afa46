// What is written as YAML is read back as it was, comments and all.
#include "launcher/kubernetes/document.h"

#include <cctype>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/yaml/yaml_reader.h"

namespace muster::kubernetes {
namespace {

TEST(Document, IsBlockStyleWithCommentsAboveTheirFields) {
  Json inner;
  Put(&inner, "name", "muster", "first\nsecond");
  Put(&inner, "args", Json::array({"-n", "3"}));
  Json document;
  Put(&document, "kind", "Pod", "above");
  document["list"] = Json::array({inner, Json::object(), 7});
  Put(&document, "empty", Json::array(), "none");
  EXPECT_EQ(ToYaml(document), R"(# above
kind: Pod
list:
# first
# second
- name: muster
  args:
  - "-n"
  - "3"
- {}
- 7
# none
empty: []
)");
}

// Whatever a text is, a reader takes it for that text and no number, boolean, null or comment.
TEST(Document, EveryTextIsReadBackAsATextOfTheSameBytes) {
  const std::vector<std::string> texts = {
      "",     "a",   "yes", "No",  "null",  "~",    "1",     "1e3",   "0x1f",  "12:30:45", "a: b", "a #b",
      "# a",  "- a", "-a",  "a:b", "a:",    "$(X)", "\"q\"", "'q'",   "a\nb",  "\ttab",    "ü",    "{a}",
      "[a]",  "*a",  "&a",  "!a",  "%a",    "@a",   "`a",    "a\\b",  "|",     ">",        "?",    "2026-11-28",
      ".inf", "on",  "y",   "a@b", "a/b.c", "a_b",  " a ",   "a\x01", "100Gi", "true",     "TRUE", "tls-coordinator"};
  Json document;
  for (size_t i = 0; i < texts.size(); ++i) document["list"].push_back(texts[i]);
  const std::string yaml = ToYaml(document);
  const auto read = ReadYaml("test", yaml);
  ASSERT_TRUE(read.ok()) << read.status() << yaml;
  const YamlNode& list = read->pairs.at(0).value;
  ASSERT_EQ(list.items.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(list.items[i].text, texts[i]);
    const bool letters = !texts[i].empty() && (std::isalpha(static_cast<unsigned char>(texts[i][0])) != 0);
    EXPECT_TRUE(list.items[i].quoted || letters) << texts[i];
  }
  for (const char* word : {"yes", "No", "null", "on", "y", "true", "TRUE"}) {
    EXPECT_NE(yaml.find("\"" + std::string(word) + "\""), std::string::npos) << word;
  }
}

TEST(Document, ACommentIsNoPartOfTheObject) {
  Json inner;
  Put(&inner, "b", 1, "said");
  Json document;
  Put(&document, "a", Json::array({inner}), "said");
  EXPECT_EQ(WithoutComments(document).dump(), R"({"a":[{"b":1}]})");
}

}  // namespace
}  // namespace muster::kubernetes

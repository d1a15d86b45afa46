#include "launcher/labels/label_file.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

TEST(LabelFile, TheKindMayBeSaid) {
  EXPECT_EQ(ParseLabelFile("a.conf")->kind, LabelFileKind::kGuess);
  EXPECT_EQ(ParseLabelFile("slurm:a:b")->kind, LabelFileKind::kSlurmConf);
  EXPECT_EQ(ParseLabelFile("slurm:a:b")->path, "a:b");
  EXPECT_EQ(ParseLabelFile("slurm-yaml/fast:t.yaml")->topology, "fast");
  EXPECT_EQ(ParseLabelFile("slurm-yaml/fast:t.yaml")->kind, LabelFileKind::kSlurmYaml);
  EXPECT_EQ(ParseLabelFile("kubernetes:-")->path, "-");
  EXPECT_EQ(ParseLabelFile("host:/path/a:b")->path, "host:/path/a:b") << "no kind";
  EXPECT_EQ(ParseLabelFile("kubernete:x").status().message(), "there is no kind kubernete; did you mean kubernetes:?");
  EXPECT_THAT(ParseLabelFile("slurm:").status().message(), HasSubstr("names no file; write FILE or KIND:FILE"));
  EXPECT_THAT(ParseLabelFile("").status().message(), HasSubstr("names no file"));
}

TEST(LabelFile, TheKindIsGuessedFromTheText) {
  EXPECT_EQ(GuessKind("# x\n\nSwitchName=s0 Nodes=a\n"), LabelFileKind::kSlurmConf);
  EXPECT_EQ(GuessKind("BlockName=s0 Nodes=a\n"), LabelFileKind::kSlurmConf);
  EXPECT_EQ(GuessKind("---\n- topology: t\n  tree:\n"), LabelFileKind::kSlurmYaml);
  EXPECT_EQ(GuessKind("\n {\"items\": []}"), LabelFileKind::kKubernetes);
  EXPECT_EQ(GuessKind("topology.kubernetes.io/zone=\"a\"\n"), LabelFileKind::kPodLabels);
  EXPECT_EQ(GuessKind("levels: [spine, leaf]\n"), LabelFileKind::kCluster);
  EXPECT_EQ(GuessKind(""), LabelFileKind::kSlurmConf);
}

TEST(LabelFile, IsReadByItsKind) {
  const auto source = [](const std::string& word, absl::string_view text) -> std::string {
    const auto file = ParseLabelFile(word);
    const auto sets =
        ReadLabelFile(*file, file->kind == LabelFileKind::kGuess ? GuessKind(text) : file->kind, text, nullptr, "me");
    if (!sets.ok()) return std::string(sets.status().message());
    return sets->empty() ? "none" : (*sets)[0].source + "=" + PathText((*sets)[0].nodes[0].path);
  };
  EXPECT_EQ(source("t", "SwitchName=s Nodes=a"), "t=leaf s");
  EXPECT_EQ(source("t", "- topology: x\n  tree: {switches: [{switch: s, nodes: a}]}"), "t (x)=leaf s");
  EXPECT_EQ(source("t", R"({"a": {"nvidia.com/gpu.clique": "c"}})"), "t (NVIDIA)=nvlink c");
  EXPECT_EQ(source("t", "topology.kubernetes.io/zone=\"z\""), "t (Kubernetes)=zone z");
  EXPECT_THAT(source("kubernetes:t", "SwitchName=s Nodes=a"), HasSubstr("t:1:1: not JSON"));
  EXPECT_THAT(source("t", "no idea what this is"), HasSubstr("t:1: \"no\" is no KEY=VALUE; a line is SwitchName=NAME"));
}

}  // namespace
}  // namespace muster

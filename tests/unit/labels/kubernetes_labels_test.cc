#include "launcher/labels/kubernetes_labels.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::string Text(const absl::StatusOr<std::vector<LabelSet>>& sets) {
  if (!sets.ok()) return std::string(sets.status().message());
  return absl::StrJoin(*sets, "\n", [](std::string* out, const LabelSet& set) {
    absl::StrAppend(out, set.source, "\n", absl::StrJoin(set.nodes, "\n", [](std::string* line, const NodeLabels& node) {
                      absl::StrAppend(line, node.node, ": ", PathText(node.path));
                    }));
  });
}
std::string Nodes(absl::string_view text, const LabelDialect* own = nullptr) {
  return Text(ReadKubernetesNodes("nodes.json", text, own));
}
// {"a": {...}} of each node's labels as "key=value key=value".
std::string Json(const std::vector<std::pair<std::string, std::vector<std::pair<std::string, std::string>>>>& nodes) {
  std::string text = "{";
  for (const auto& [node, labels] : nodes) {
    absl::StrAppend(&text, text.size() > 1 ? "," : "", "\"", node, "\": {");
    for (size_t i = 0; i < labels.size(); ++i) {
      absl::StrAppend(&text, i > 0 ? "," : "", "\"", labels[i].first, "\": \"", labels[i].second, "\"");
    }
    text += "}";
  }
  return text + "}";
}

TEST(KubernetesNodes, ReadsWhatKubectlWrites) {
  EXPECT_EQ(Nodes(R"({"apiVersion": "v1", "kind": "List", "items": [
      {"kind": "Node", "metadata": {"name": "a", "labels": {
        "topology.kubernetes.io/region": "us", "topology.kubernetes.io/zone": "us-1", "kubernetes.io/hostname": "a",
        "topology.k8s.aws/network-node-layer-1": "nn-1", "topology.k8s.aws/network-node-layer-2": "nn-2",
        "topology.k8s.aws/network-node-layer-3": "nn-3"}}},
      {"kind": "Node", "metadata": {"name": "b"}}]})"),
            "nodes.json (AWS)\na: region us, zone us-1, layer-1 nn-1, layer-2 nn-2, layer-3 nn-3\nb: nowhere");
}

TEST(KubernetesNodes, KnowsTheDialects) {
  const auto one = [](std::vector<std::pair<std::string, std::string>> labels) { return Nodes(Json({{"a", labels}})); };
  EXPECT_EQ(one({{"cloud.google.com/gce-topology-block", "b"},
                 {"cloud.google.com/gce-topology-subblock", "s"},
                 {"cloud.google.com/gce-topology-host", "h"}}),
            "nodes.json (Google)\na: block b, subblock s, host h");
  EXPECT_EQ(one({{"network.topology.nvidia.com/leaf", "l"},
                 {"network.topology.nvidia.com/spine", "s"},
                 {"network.topology.nvidia.com/core", "c"},
                 {"network.topology.nvidia.com/accelerator", "n"}}),
            "nodes.json (topograph 0.2)\na: core c, spine s, leaf l, nvlink n");
  EXPECT_EQ(one({{"network.topology.nvidia.com/block", "l"}, {"network.topology.nvidia.com/datacenter", "c"}}),
            "nodes.json (topograph 0.2)\na: datacenter c, block l");
  EXPECT_EQ(one({{"network.topology.kubernetes.io/block", "l"}, {"network.topology.kubernetes.io/spine", "s"}}),
            "nodes.json (topograph 0.1)\na: spine s, block l");
  EXPECT_EQ(one({{"fabric.topograph.run/tier-0", "l"},
                 {"fabric.topograph.run/tier-1", "s"},
                 {"fabric.topograph.run/tier-2", "c"},
                 {"accelerator.topograph.run/domain", "n"}}),
            "nodes.json (topograph)\na: tier-2 c, spine s, leaf l, nvlink n");
  EXPECT_EQ(one({{"oci.oraclecloud.com/rdma.local_block_id", "l"},
                 {"oci.oraclecloud.com/rdma.network_block_id", "n"},
                 {"oci.oraclecloud.com/rdma.hpc_island_id", "i"}}),
            "nodes.json (Oracle)\na: island i, network-block n, local-block l");
  EXPECT_EQ(one({{"oci.oraclecloud.com/host.rack_id", "r"}, {"oci.oraclecloud.com/host.network_block_id", "n"}}),
            "nodes.json (Oracle hosts)\na: network-block n, rack r");
  EXPECT_EQ(one({{"cloud.provider.com/topology-rack", "r"}, {"cloud.provider.com/topology-block", "b"}}),
            "nodes.json (Kueue)\na: block b, rack r");
  EXPECT_EQ(one({{"nvidia.com/gpu.clique", "u.1"}}), "nodes.json (NVIDIA)\na: nvlink u.1");
  EXPECT_EQ(one({{"topology.kubernetes.io/zone", "z"}}), "nodes.json (Kubernetes)\na: zone z");
  EXPECT_EQ(one({{"other", "x"}}), "") << "no key that says where the node stands";
}

TEST(KubernetesNodes, SeveralDialectsAreSeveralSetsTheClosestFirst) {
  EXPECT_EQ(Nodes(Json({{"a", {{"fabric.topograph.run/tier-0", "l"}, {"cloud.google.com/gce-topology-block", "b"}}}})),
            "nodes.json (topograph)\na: leaf l\nnodes.json (Google)\na: block b");
}

TEST(KubernetesNodes, AContradictionOfDialectsNamesBoth) {
  const auto sets = ReadKubernetesNodes(
      "n", Json({{"a", {{"fabric.topograph.run/tier-0", "1"}, {"cloud.google.com/gce-topology-block", "x"}}},
                 {"b", {{"fabric.topograph.run/tier-0", "1"}, {"cloud.google.com/gce-topology-block", "y"}}},
                 {"c", {{"fabric.topograph.run/tier-0", "2"}, {"cloud.google.com/gce-topology-block", "x"}}}}));
  ASSERT_TRUE(sets.ok());
  EXPECT_THAT(
      ChooseLabels(*sets, {"a", "b", "c"}).notes,
      ElementsAre("n (topograph) puts a and b together in leaf 1 without c, n (Google) puts a and c together in block x "
                  "without b; n (topograph) is taken"));
}

TEST(KubernetesNodes, AnNvlinkDomainOfSeveralLeavesIsTheWiderOne) {
  const std::string narrow =
      Nodes(Json({{"a", {{"network.topology.nvidia.com/leaf", "1"}, {"network.topology.nvidia.com/accelerator", "x"}}},
                  {"b", {{"network.topology.nvidia.com/leaf", "1"}, {"network.topology.nvidia.com/accelerator", "y"}}}}));
  EXPECT_THAT(narrow, HasSubstr("a: leaf 1, nvlink x"));
  const std::string wide =
      Nodes(Json({{"a", {{"network.topology.nvidia.com/leaf", "1"}, {"network.topology.nvidia.com/accelerator", "x"}}},
                  {"b", {{"network.topology.nvidia.com/leaf", "2"}, {"network.topology.nvidia.com/accelerator", "x"}}}}));
  EXPECT_THAT(wide, HasSubstr("a: nvlink x, leaf 1"));
}

TEST(KubernetesNodes, OnesOwnKeysReplaceAllOthers) {
  const auto keys = ParseLabelKeys("example.com/row, example.com/rack=shelf");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(
      Nodes(Json({{"a", {{"example.com/rack", "r"}, {"example.com/row", "w"}, {"topology.kubernetes.io/zone", "z"}}}}), &*keys),
      "nodes.json (own keys)\na: row w, shelf r");
  EXPECT_EQ(ParseLabelKeys("a/x,b/x").status().message(), "two keys make a level x; name one of them: b/x=LEVEL");
  EXPECT_THAT(ParseLabelKeys("a,,b").status().message(), HasSubstr("\"\" is no key of a label; write keys with commas"));
  EXPECT_THAT(ParseLabelKeys("a,b,c,d,e,f,g,h,i").status().message(), HasSubstr("more than 8 keys"));
}

TEST(KubernetesNodes, NamesThePlaceInErrors) {
  EXPECT_THAT(Nodes("{\"a\":\n  }x"), StartsWith("nodes.json:2:3: not JSON: "));
  EXPECT_THAT(Nodes(""), StartsWith("nodes.json:1:1: not JSON"));
  EXPECT_THAT(Nodes("[]"), StartsWith("nodes.json:1:1: the file is no object; make it with: kubectl get nodes -o json"));
  EXPECT_THAT(Nodes(R"({"items": [{"spec": {}}]})"), HasSubstr("entry 1 of items has no metadata"));
  EXPECT_THAT(Nodes(R"({"items": [{"kind": "Pod", "metadata": {"name": "p"}}]})"), HasSubstr("entry 1 is a Pod, not a Node"));
  EXPECT_THAT(Nodes(R"({"items": [{"metadata": {}}]})"), HasSubstr("has no metadata.name"));
  EXPECT_THAT(Nodes(R"({"items": [{"metadata": {"name": "a", "labels": {"k": 1}}}]})"),
              HasSubstr("node a: the label k is no word"));
  EXPECT_THAT(Nodes(R"({"items": [{"metadata": {"name": "a", "labels": []}}]})"), HasSubstr("are no object of words"));
  EXPECT_THAT(Nodes(R"({"items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "a"}}]})"),
              HasSubstr("node a comes twice"));
  EXPECT_THAT(ReadKubernetesNodes("n", "{}").value(), IsEmpty());
}

TEST(DownwardLabels, ReadsTheFileOfThePod) {
  const auto read = [](absl::string_view text, const std::string& node) {
    return Text(ReadDownwardLabels("labels", text, node));
  };
  EXPECT_EQ(read("topology.kubernetes.io/zone=\"z\\\"1\"\ncloud.google.com/gce-topology-block=\"b\"\n", "n"),
            "labels (Google)\nn: zone z\"1, block b");
  EXPECT_EQ(read("kubernetes.io/hostname=\"h\"\ntopology.kubernetes.io/zone=\"z\"", ""), "labels (Kubernetes)\nh: zone z");
  EXPECT_THAT(read("a=b", "n"), HasSubstr("labels:1: \"a=b\" is no label as the downward API writes it: KEY=\"VALUE\""));
  EXPECT_THAT(read("a=\"b\"", ""), HasSubstr("whose labels these are is not said"));
}

}  // namespace
}  // namespace muster

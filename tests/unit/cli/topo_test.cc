#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cli/cluster_json.h"
#include "launcher/cli/topo_measure.h"
#include "launcher/labels/labels.h"
#include "launcher/yaml/cluster_file.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ClusterJson, IsAClusterFileAgain) {
  constexpr char kText[] = R"(levels: [{name: spine, uplink: 1GB/s, latency: 2us}, {name: leaf, per_rail: true}]
nodes:
  - {name: a, labels: {spine: s, leaf: l}, gpus: [{name: g, numa: 1}], nics: [{name: n, rail: 0, speed: 2GB/s}], distances: [[PIX]], nvlinks: [[0]]}
  - {name: b, labels: {spine: s, leaf: m}}
uplinks: [{group: {spine: s, leaf: l}, speed: 3GB/s}]
links: [{from: {spine: s, leaf: l}, to: {spine: s, leaf: m}, speed: 4GB/s, latency: 5ns}]
measurements: [{from: a, to: b, latency: 6us, speed: 7GB/s}]
)";
  const auto cluster = ParseClusterFile("c", kText);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  const std::string json = ClusterJson(*cluster);
  const auto again = ParseClusterFile("json", json);
  ASSERT_TRUE(again.ok()) << again.status() << json;
  EXPECT_EQ(ClusterJson(*again), json);
  EXPECT_EQ(again->levels[0].latency_ns, 2000);
  EXPECT_TRUE(again->levels[1].per_rail);
  EXPECT_EQ(again->nodes[0].nics[0].rail, 0);
  EXPECT_EQ(again->nodes[0].distances, cluster->nodes[0].distances);
  EXPECT_EQ(again->measurements[0].bytes_per_second, 7e9);
}

TEST(Measure, TellsTheProgramItsRounds) { EXPECT_EQ(RoundsText({{{0, 1}, {2, 3}}, {{0, 2}}}), "round 0-1 2-3\nround 0-2\n"); }

TEST(Measure, ReadsWhatTheProgramHasMeasured) {
  const auto links = ParseMeasured("name 0 node-a\nname 1 node-b\nlink 0 1 21000 1250000000\nend\n", 2);
  ASSERT_TRUE(links.ok()) << links.status();
  EXPECT_THAT(links->names, ElementsAre("node-a", "node-b"));
  ASSERT_EQ(links->measurements.size(), 2u) << "both directions";
  EXPECT_EQ(links->measurements[1].from, 1);
  EXPECT_EQ(MeasuredText(*links),
            "1 pair measured: latency 21 us to 21 us, bandwidth 10 Gbit/s to 10 Gbit/s; slowest node-a and node-b");
  EXPECT_THAT(ParseMeasured("link 0 1 5 5\n", 2).status().message(), HasSubstr("has ended before all was measured"));
  for (const char* line : {"link 0 2 5 5", "link 0 0 5 5", "link 0 1 -5 5", "link 0 1 5", "noise", "name 7 x"}) {
    EXPECT_THAT(ParseMeasured(absl::StrCat(line, "\nend\n"), 2).status().message(), HasSubstr("is no measurement")) << line;
  }
}

TEST(Measure, GroupsAreLabels) {
  MeasuredLinks links;
  links.names = {"a", "b", "c", "d"};
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      if (i != j) links.measurements.push_back({i, j, i / 2 == j / 2 ? 10'000 : 50'000, 0});
    }
  }
  const LabelSet set = LabelsOfMeasured(links);
  EXPECT_EQ(set.source, "measured");
  EXPECT_EQ(set.nodes[0].path, set.nodes[1].path);
  EXPECT_NE(set.nodes[0].path, set.nodes[2].path);
}

}  // namespace
}  // namespace muster

#include "launcher/planner/plan_svg.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/fabric/generate.h"
#include "launcher/planner/plan.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

std::string Draw(const Cluster& cluster, int rings = 1) {
  const GroupTree tree(cluster);
  const Plan plan = MakePlan(cluster, tree, {.rings = rings});
  return PlanSvg(cluster, tree, "a plan", {{"planned", {"caption"}, plan.rings}, {"by name", {}, {HostNameOrder(cluster)}}});
}

TEST(PlanSvg, DrawsEachNodeAndEachStepInTheColourOfWhatItLeaves) {
  const std::string svg = Draw(FatTree({2, 2, 3}, 1, {.gpus = 1, .nics = 1}, NodeNames::kByPlace, 1));
  EXPECT_EQ(Count(svg, "<circle"), 2 * 12);
  // By place and by name are the same here: of each panel's 12 steps 2 leave a block and 2 more a leaf.
  EXPECT_EQ(Count(svg, "stroke=\"#d55e00\" stroke-width=\"2.4\"/>\n"), 2 * 2);
  EXPECT_EQ(Count(svg, "stroke=\"#0072b2\" stroke-width=\"2.4\"/>\n"), 2 * 2);
  EXPECT_THAT(svg, HasSubstr("step that leaves a block"));
  EXPECT_EQ(svg, Draw(FatTree({2, 2, 3}, 1, {.gpus = 1, .nics = 1}, NodeNames::kByPlace, 1)));
}

TEST(PlanSvg, DrawsGroupsWhereThereAreTooManyNodes) {
  const std::string svg = Draw(FatTree({40, 32}, 1, {.gpus = 1, .nics = 1}, NodeNames::kShuffled, 1));
  EXPECT_EQ(Count(svg, "<circle"), 2 * 40);
  EXPECT_LT(svg.size(), 1u << 20);
}

TEST(PlanSvg, EscapesNames) {
  Cluster cluster;
  cluster.levels = {{.name = "a<b"}};
  cluster.nodes = {{.name = "<n&\"", .labels = {"\x01<l>"}}, {.name = "m", .labels = {"two"}}};
  const std::string svg = Draw(cluster, 3);
  EXPECT_THAT(svg, HasSubstr("&lt;n&amp;&quot;"));
  EXPECT_THAT(svg, Not(HasSubstr("\x01")));
  EXPECT_THAT(svg, Not(HasSubstr("a<b")));
}

}  // namespace
}  // namespace muster

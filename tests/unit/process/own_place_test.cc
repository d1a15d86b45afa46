#include "launcher/process/own_place.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

std::string Text(const v1::NetworkPlace& place) {
  return absl::StrCat(place.source(), ": ",
                      absl::StrJoin(place.path(), ", ", [](std::string* out, const v1::NetworkLabel& label) {
                        absl::StrAppend(out, std::string(label.level()), " ", std::string(label.value()));
                      }));
}

TEST(OwnPlace, IsThatOfSlurmsVariables) {
  EXPECT_EQ(
      Text(FindOwnPlace({"A=b", "SLURM_TOPOLOGY_ADDR=s0.l1.node7", "SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node"}, "node7")),
      "Slurm: spine s0, leaf l1");
  EXPECT_EQ(FindOwnPlace({"SLURM_TOPOLOGY_ADDR=node7", "SLURM_TOPOLOGY_ADDR_PATTERN=node"}, "node7").source(), "")
      << "Slurm knows no network";
  EXPECT_EQ(FindOwnPlace({}, "x").source(), "");
  EXPECT_EQ(FindOwnPlace({"SLURM_TOPOLOGY_ADDR=s", "SLURM_TOPOLOGY_ADDR_PATTERN=switch.node"}, "b").note().substr(0, 28),
            "host b: SLURM_TOPOLOGY_ADDR=");
}

TEST(OwnPlace, OrOfThePodsLabels) {
  std::string pattern = std::filesystem::temp_directory_path() / "muster-place-XXXXXX";
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const std::string path = pattern + "/labels";
  std::ofstream(path) << "topology.kubernetes.io/zone=\"z\"\ncloud.google.com/gce-topology-block=\"b\"\n";
  EXPECT_EQ(Text(FindOwnPlace({"MUSTER_POD_LABELS=" + path}, "n")), "the labels of the pod: zone z, block b");
  std::ofstream(path) << "example.com/rack=\"r\"\ntopology.kubernetes.io/zone=\"z\"\n";
  EXPECT_EQ(Text(FindOwnPlace({"MUSTER_LABEL_KEYS=example.com/rack", "MUSTER_POD_LABELS=" + path}, "n")),
            "the labels of the pod: rack r");
  EXPECT_THAT(std::string(FindOwnPlace({"MUSTER_LABEL_KEYS=a,a", "MUSTER_POD_LABELS=" + path}, "n").note()),
              HasSubstr("host n: MUSTER_LABEL_KEYS: two keys make a level a"));
  std::ofstream(path) << "nonsense\n";
  EXPECT_THAT(std::string(FindOwnPlace({"MUSTER_POD_LABELS=" + path}, "n").note()),
              HasSubstr("labels:1: \"nonsense\" is no label"));
  EXPECT_THAT(std::string(FindOwnPlace({"MUSTER_POD_LABELS=/no/such"}, "n").note()),
              HasSubstr("host n: MUSTER_POD_LABELS=/no/such cannot be read"));
  std::filesystem::remove_all(pattern);
}

}  // namespace
}  // namespace muster

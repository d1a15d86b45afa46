#include "launcher/process/nccl_decision.h"

#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two GPUs and three NICs, of which a list may name two.
NodeDevices Devices() {
  NodeDevices devices;
  devices.gpus = {{"0000:01:00.0", {"pci0000:00"}, 0, "32.0 GT/s PCIe", 16}, {"0000:02:00.0", {"pci0000:00"}, 1, "", 0}};
  for (int i = 0; i < 3; ++i) {
    devices.nics.push_back({"0000:1" + std::to_string(i) + ":00.0", {"pci0000:00", "x"}, -1, "", 0});
    devices.ports.push_back({"mlx5_" + std::to_string(i), 1, i, true, i == 2, 25e9, "ib" + std::to_string(i), ""});
  }
  return devices;
}

constexpr char kCluster[] = R"(
levels: [{name: pod, per_rail: true}]
nodes:
  - {name: "n[0-1]", labels: {pod: p}, gpus: 2, nics: [{name: mlx5_0, rail: 0}, {name: mlx5_1, rail: 1}], distances: [[PIX, SYS], [SYS, PIX]]}
)";

std::vector<membership::NodeOffer> Offers(size_t count) {
  std::vector<membership::NodeOffer> offers;
  for (uint32_t i = 0; i < count; ++i) {
    offers.push_back({i, "n" + std::to_string(i), 2, {}, {}, "10.0.0." + std::to_string(i), ToMessage(Devices())});
  }
  return offers;
}

TEST(NcclDecision, DevicesTravelWhole) {
  NodeDevices devices = Devices();
  devices.ports[1].unusable = "/dev/infiniband/uverbs1 is not there";
  const v1::NodeDevices message = ToMessage(devices);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(message, ToMessage(FromMessage(message))));
  const NodeDevices back = FromMessage(message);
  EXPECT_EQ(back.ports[2].device, "mlx5_2");
  EXPECT_TRUE(back.ports[2].ethernet);
  EXPECT_EQ(back.ports[1].unusable, devices.ports[1].unusable);
  EXPECT_EQ(back.ports[2].bytes_per_second, 25e9);
  EXPECT_EQ(back.gpus[1].numa, 1);
  v1::NodeDevices wrong = message;
  wrong.mutable_ports(1)->set_nic(7);
  EXPECT_EQ(FromMessage(wrong).ports.size(), 2u);
}

TEST(NcclDecision, TakesTheListsOfAClusterFileAndWhatAgentsTell) {
  v1::NetworkKnowledge knowledge;
  knowledge.set_order_is_chosen(true);  // of no matter to NCCL
  v1::NetworkFile* file = knowledge.add_files();
  file->set_name("cluster:c.yaml");
  file->set_text(kCluster);
  const auto decide = MakeNcclFunction(knowledge);
  ASSERT_TRUE(decide.ok()) << decide.status();
  const membership::NcclDecision decision = (*decide)(Offers(2));
  ASSERT_EQ(decision.environments.size(), 2u);
  ASSERT_EQ(decision.environments[1].variables_size(), 2);
  EXPECT_EQ(decision.environments[1].variables(0).name(), "NCCL_IB_HCA");
  EXPECT_EQ(decision.environments[1].variables(0).value(), "=mlx5_0:1,mlx5_1:1");
  EXPECT_EQ(decision.environments[1].variables(1).name(), "NCCL_CROSS_NIC");
  EXPECT_THAT(decision.environments[0].topology_xml(), HasSubstr("<pci busid=\"0000:10:00.0\" class=\"0x020000\"/>"));
  EXPECT_THAT(decision.reasons,
              ElementsAre(HasSubstr("n0, n1 is told NCCL_IB_HCA==mlx5_0:1,mlx5_1:1: without mlx5_2:1 (not among "
                                    "the NICs of c.yaml)"),
                          HasSubstr("NCCL_CROSS_NIC=0"), HasSubstr("NCCL_TOPO_FILE")));
  EXPECT_THAT(decision.notes, IsEmpty());
  EXPECT_THAT((*decide)(Offers(1)).reasons, IsEmpty());
}

TEST(NcclDecision, FilesThatCannotBeReadAreErrors) {
  v1::NetworkKnowledge knowledge;
  v1::NetworkFile* file = knowledge.add_files();
  file->set_name("cluster:c.yaml");
  file->set_text("nodes: 7");
  EXPECT_EQ(MakeNcclFunction(knowledge).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace muster

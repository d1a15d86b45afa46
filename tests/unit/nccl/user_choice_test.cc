#include "launcher/nccl/user_choice.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(UserChoice, GoesBeforeOursWithItsKin) {
  EXPECT_EQ(UserVariableAgainst("NCCL_IB_HCA", {}), "");
  EXPECT_EQ(UserVariableAgainst("NCCL_IB_HCA", {"NCCL_DEBUG", "NCCL_CROSS_NIC"}), "");
  EXPECT_EQ(UserVariableAgainst("NCCL_IB_HCA", {"NCCL_IB_HCA"}), "NCCL_IB_HCA");
  for (const char* kin : {"NCCL_IB_DISABLE", "NCCL_NET", "NCCL_NET_PLUGIN", "NCCL_NET_FORCE_MERGE"}) {
    EXPECT_EQ(UserVariableAgainst("NCCL_IB_HCA", {kin}), kin);
  }
  EXPECT_EQ(UserVariableAgainst("NCCL_CROSS_NIC", {"NCCL_GRAPH_FILE"}), "NCCL_GRAPH_FILE");
  EXPECT_EQ(UserVariableAgainst("NCCL_IB_MERGE_NICS", {"NCCL_NET_MERGE_LEVEL"}), "NCCL_NET_MERGE_LEVEL");
  EXPECT_EQ(UserVariableAgainst("NCCL_SOCKET_FAMILY", {"NCCL_SOCKET_IFNAME"}), "NCCL_SOCKET_IFNAME");
  EXPECT_EQ(UserVariableAgainst("NCCL_SOCKET_IFNAME", {"NCCL_SOCKET_FAMILY"}), "");
  EXPECT_EQ(UserVariableAgainst("NCCL_TOPO_FILE", {"NCCL_TOPO_FILE"}), "NCCL_TOPO_FILE");
}

TEST(UserChoice, ReadsNcclsOwnFiles) {
  EXPECT_THAT(VariablesOfConfiguration("# of the site\nNCCL_IB_HCA==mlx5_0\n NCCL_DEBUG=WARN\r\nnonsense\n#NCCL_NET=IB\n=x\n"),
              ElementsAre("NCCL_DEBUG", "NCCL_IB_HCA"));
  EXPECT_THAT(VariablesOfConfiguration(""), IsEmpty());
}

}  // namespace
}  // namespace muster

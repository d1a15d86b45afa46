#include "launcher/nccl/nccl_settings.h"

#include <set>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeds.h"
#include "tests/unit/nccl/made_nodes.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kEight[] = "=mlx5_0:1,mlx5_1:1,mlx5_2:1,mlx5_3:1,mlx5_4:1,mlx5_5:1,mlx5_6:1,mlx5_7:1";

NcclKnowledge Two(NcclNode one, NcclNode other) {
  NcclKnowledge known;
  known.source = "cluster.yaml";
  known.nodes = {std::move(one), std::move(other)};
  return known;
}

TEST(NcclSettings, StorageNicsAreLeftOut) {
  const NcclKnowledge known = Two(RailNode("a", 8, 2), RailNode("b", 8, 2));
  const NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_IB_HCA"), kEight);
  EXPECT_EQ(ValueOf(settings, 1, "NCCL_IB_HCA"), kEight);
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_CROSS_NIC"), "") << "nobody has said that the fabric has rails";
  EXPECT_THAT(settings.notes, IsEmpty());
  EXPECT_THAT(NcclReasons(known, settings),
              ElementsAre(absl::StrCat("NCCL on a, b is told NCCL_IB_HCA=", kEight,
                                       ": without mlx5_s0:1, mlx5_s1:1 (behind no switch with a GPU)")));
}

TEST(NcclSettings, NothingIsSaidThatNcclDoesByItself) {
  NcclKnowledge known = Two(RailNode("a", 8, 0), RailNode("b", 8, 0));
  EXPECT_THAT(NcclReasons(known, DecideNccl(known)), IsEmpty());
  known.nodes[1].devices.ports[3].active = false;  // NCCL takes what is up
  EXPECT_THAT(NcclReasons(known, DecideNccl(known)), IsEmpty());
}

TEST(NcclSettings, OneNodeIsToldNothing) {
  NcclKnowledge known;
  known.rail_optimised = true;
  known.nodes = {RailNode("a", 8, 2)};
  EXPECT_THAT(NcclReasons(known, DecideNccl(known)), IsEmpty());
}

TEST(NcclSettings, WithoutRdmaOrGpusNothingIsSaid) {
  NcclKnowledge known = Two(RailNode("a", 8, 2), RailNode("b", 8, 2));
  known.rail_optimised = true;
  for (NcclNode& node : known.nodes) node.devices.gpus.clear();
  EXPECT_THAT(NcclReasons(known, DecideNccl(known)), IsEmpty());
  known = Two({.host = "a", .address = "10.0.0.1", .devices = {}, .listed = {}},
              {.host = "b", .address = "10.0.0.2", .devices = {}, .listed = {}});
  EXPECT_THAT(NcclReasons(known, DecideNccl(known)), IsEmpty());
}

TEST(NcclSettings, ListedRailsKeepRingsOnTheirRail) {
  NcclKnowledge known = Two(RailNode("a", 8, 2), RailNode("b", 8, 2, "rdma"));  // names differ from node to node
  for (NcclNode& node : known.nodes) ListRails(&node, 8);
  const NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_IB_HCA"), kEight);
  EXPECT_EQ(ValueOf(settings, 1, "NCCL_IB_HCA"), "=rdma0:1,rdma1:1,rdma2:1,rdma3:1,rdma4:1,rdma5:1,rdma6:1,rdma7:1");
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_CROSS_NIC"), "0");
  EXPECT_EQ(ValueOf(settings, 1, "NCCL_CROSS_NIC"), "0");
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_IB_MERGE_NICS"), "");
  EXPECT_THAT(settings.notes, IsEmpty());
}

TEST(NcclSettings, ARailThatOneNodeLacksIsLeftOutOnAll) {
  NcclKnowledge known = Two(RailNode("a", 8, 0), RailNode("b", 8, 0));
  for (NcclNode& node : known.nodes) ListRails(&node, 8);
  known.nodes[1].devices.ports[3].active = false;
  const NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_IB_HCA"), "=mlx5_0:1,mlx5_1:1,mlx5_2:1,mlx5_4:1,mlx5_5:1,mlx5_6:1,mlx5_7:1");
  EXPECT_EQ(ValueOf(settings, 1, "NCCL_IB_HCA"), "") << "the others are all that is up";
  EXPECT_EQ(ValueOf(settings, 1, "NCCL_CROSS_NIC"), "0");
  EXPECT_THAT(settings.notes, ElementsAre("node b: NIC mlx5_3, which cluster.yaml lists, is down",
                                          "rails are missing, and left out on all nodes: rail 3 on node b"));
}

constexpr char kRemedy[] =
    "; give workers these devices to read and write: in a container with docker run --device /dev/infiniband, in Kubernetes by "
    "the resource of the RDMA device plugin";

TEST(NcclSettings, APortThatCannotBeOpenedIsAsIfItWereNotThere) {
  NcclKnowledge known = Two(RailNode("a", 4, 1), RailNode("b", 4, 1));
  for (NcclNode& node : known.nodes) ListRails(&node, 4);
  known.nodes[1].devices.ports[3].unusable = "/dev/infiniband/uverbs3 is not there";
  const NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_IB_HCA"), "=mlx5_0:1,mlx5_1:1,mlx5_2:1") << "rail 3 is of no use to a either";
  EXPECT_EQ(ValueOf(settings, 1, "NCCL_IB_HCA"), "=mlx5_0:1,mlx5_1:1,mlx5_2:1");
  EXPECT_THAT(settings.notes, ElementsAre(absl::StrCat("RDMA ports on b are up, and NCCL cannot use them: mlx5_3:1 "
                                                       "(/dev/infiniband/uverbs3 is not there)",
                                                       kRemedy),
                                          "rails are missing, and left out on all nodes: rail 3 on node b"));
}

TEST(NcclSettings, WhereNoPortCanBeOpenedNothingIsToldOfThem) {
  NcclKnowledge known = Two(RailNode("a", 2, 1), RailNode("b", 2, 1));
  for (NcclNode& node : known.nodes) {
    for (NodeDevices::Port& port : node.devices.ports) port.unusable = "why";
  }
  NcclSettings settings = DecideNccl(known);
  EXPECT_THAT(NcclReasons(known, settings), IsEmpty());
  EXPECT_THAT(settings.notes, ElementsAre(absl::StrCat("RDMA ports on a, b are up, and NCCL cannot use them: mlx5_0:1 (why), "
                                                       "mlx5_1:1 (why), mlx5_s0:1 (why)",
                                                       kRemedy)))
      << "once for nodes that are alike";
  for (NcclNode& node : known.nodes) ListRails(&node, 2);
  settings = DecideNccl(known);
  EXPECT_THAT(NcclReasons(known, settings), IsEmpty());
  EXPECT_EQ(settings.notes.size(), 1u) << "listed NICs that cannot be opened are not down";
  for (NcclNode& node : known.nodes) node.devices.gpus.clear();
  EXPECT_THAT(DecideNccl(known).notes, IsEmpty());
}

TEST(NcclSettings, TcpOnSomeNodesAndRdmaOnOthersIsSaid) {
  NcclKnowledge known = Two(RailNode("a", 2, 1), RailNode("b", 2, 1));
  for (NodeDevices::Port& port : known.nodes[0].devices.ports) port.unusable = "why";
  for (NodeDevices::Port& port : known.nodes[1].devices.ports) port.ethernet = true;
  const NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_IB_HCA"), "");
  EXPECT_EQ(ValueOf(settings, 1, "NCCL_IB_HCA"), "=mlx5_0:1,mlx5_1:1") << "the link layer is that of nodes that have one";
  EXPECT_THAT(settings.notes,
              ElementsAre(HasSubstr("RDMA ports on a are up"),
                          "NCCL finds no RDMA port that it can use on a, and finds some on b: nodes that take TCP do "
                          "not reach nodes that take RDMA; until it is mended, -x NCCL_IB_DISABLE=1 has all of them "
                          "take TCP"));
}

TEST(NcclSettings, NodesThatHaveNoRailInCommonAreLeftToNccl) {
  NcclKnowledge known = Two(RailNode("a", 2, 0), RailNode("b", 2, 0));
  for (NcclNode& node : known.nodes) ListRails(&node, 2);
  known.nodes[0].devices.ports[0].active = known.nodes[1].devices.ports[1].active = false;
  const NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_IB_HCA"), "");
  EXPECT_THAT(settings.notes, Contains(HasSubstr("no rail is up on every node")));
}

TEST(NcclSettings, ListsNameInterfacesAndPortsToo) {
  NcclKnowledge known = Two(RailNode("a", 2, 0), RailNode("b", 2, 0));
  known.nodes[0].devices.ports.push_back({.device = "mlx5_1",
                                          .number = 2,
                                          .nic = 1,
                                          .active = true,
                                          .ethernet = false,
                                          .bytes_per_second = 50e9,
                                          .interface = "",
                                          .unusable = ""});
  known.nodes[0].listed.nics = {{"ib_mlx5_0"}, {"mlx5_1:2"}};
  known.nodes[1].listed.nics = {{"mlx5_0"}, {"mlx5_7"}};
  const NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_IB_HCA"), "=mlx5_0:1,mlx5_1:2");
  EXPECT_EQ(ValueOf(settings, 1, "NCCL_IB_HCA"), "=mlx5_0:1");
  EXPECT_THAT(settings.notes, ElementsAre("node b has no RDMA NIC mlx5_7, which cluster.yaml lists"));
}

TEST(NcclSettings, APerRailLevelSufficesForRings) {
  NcclKnowledge known = Two(RailNode("a", 8, 0), RailNode("b", 8, 0));
  known.rail_optimised = true;
  NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_CROSS_NIC"), "0");
  EXPECT_EQ(ValueOf(settings, 0, "NCCL_IB_HCA"), "");
  EXPECT_THAT(settings.notes, IsEmpty());
  known.nodes[1].devices.ports[5].active = false;
  settings = DecideNccl(known);
  EXPECT_THAT(settings.notes, ElementsAre(HasSubstr("nodes have 7 to 8 NICs, and nobody says on which rail each is")));
}

TEST(NcclSettings, PortsOfOneCardOnTwoRailsAreNotMerged) {
  NcclKnowledge known = Two(RailNode("a", 2, 0), RailNode("b", 2, 0));
  for (NcclNode& node : known.nodes) {
    node.devices.nics[0].bus = "0000:3b:00.0";
    node.devices.nics[1].bus = "0000:3b:00.1";
    ListRails(&node, 2);
  }
  EXPECT_EQ(ValueOf(DecideNccl(known), 1, "NCCL_IB_MERGE_NICS"), "0");
  for (NcclNode& node : known.nodes) node.listed.nics[1].rail = 0;  // two ports of one rail are one NIC to NCCL, and well so
  EXPECT_EQ(ValueOf(DecideNccl(known), 1, "NCCL_IB_MERGE_NICS"), "");
}

TEST(NcclSettings, OneLinkLayerIsTakenByAll) {
  NcclKnowledge known = Two(RailNode("a", 1, 1), RailNode("b", 1, 1));
  for (NcclNode& node : known.nodes) {
    node.devices.ports[1].ethernet = true;
    node.devices.ports[1].bytes_per_second *= 4;
  }
  known.nodes[0].devices.ports[1].active = false;  // a has no fast RoCE, so b must not take it
  const NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(ValueOf(settings, 1, "NCCL_IB_HCA"), "=mlx5_0:1");
  EXPECT_THAT(NcclReasons(known, settings), ElementsAre(HasSubstr("mlx5_s0:1 (RoCE beside InfiniBand)")));
}

TEST(NcclSettings, AFarNicIsKeptWhereAGpuHasNoNearOne) {
  NcclKnowledge known = Two(RailNode("a", 2, 1), RailNode("b", 2, 1));
  for (NcclNode& node : known.nodes) node.devices.ports[1].active = false;
  EXPECT_THAT(NcclReasons(known, DecideNccl(known)), IsEmpty());
  for (NcclNode& node : known.nodes) node.devices.ports[2].bytes_per_second = 25e9 / 8;  // but not for its own sake
  EXPECT_EQ(ValueOf(DecideNccl(known), 0, "NCCL_IB_HCA"), "=mlx5_0:1");
}

TEST(NcclSettings, NodesWithoutGpusDoNotCountAndAreToldTheSame) {
  NcclKnowledge known = Two(RailNode("a", 8, 0), RailNode("cpu", 8, 0));
  known.nodes[1].devices.gpus.clear();
  known.nodes.push_back(RailNode("c", 8, 0));
  for (NcclNode& node : known.nodes) ListRails(&node, 8);
  for (NodeDevices::Port& port : known.nodes[1].devices.ports) port.active = false;
  const NcclSettings settings = DecideNccl(known);
  EXPECT_THAT(settings.notes, IsEmpty());
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(ValueOf(settings, i, "NCCL_CROSS_NIC"), "0");
}

TEST(NcclSettings, Ipv6AloneIsSaid) {
  NcclKnowledge known = Two({.host = "a", .address = "fd00::1", .devices = {}, .listed = {}},
                            {.host = "b", .address = "fe80::2%eth0", .devices = {}, .listed = {}});
  EXPECT_EQ(ValueOf(DecideNccl(known), 1, "NCCL_SOCKET_FAMILY"), "AF_INET6");
  known.nodes[1].address = "10.0.0.2";
  EXPECT_EQ(ValueOf(DecideNccl(known), 0, "NCCL_SOCKET_FAMILY"), "");
}

TEST(NcclSettings, AHiddenBusIsDescribedWhereItIsListed) {
  NcclKnowledge known = Two(RailNode("a", 2, 0), RailNode("b", 2, 0));
  for (NcclNode& node : known.nodes) {
    ListRails(&node, 2);
    node.listed.distances = {PciDistance::kPix, PciDistance::kSys, PciDistance::kSys, PciDistance::kPix};
  }
  for (NodeDevices::Device* one : {&known.nodes[1].devices.gpus[0], &known.nodes[1].devices.gpus[1]})
    one->bridges = {"pci" + one->bus};
  NcclSettings settings = DecideNccl(known);
  EXPECT_EQ(settings.nodes[0].topology_xml, "");
  EXPECT_THAT(settings.nodes[1].topology_xml, HasSubstr("0x060400"));
  EXPECT_THAT(NcclReasons(known, settings),
              Contains(HasSubstr("NCCL on b is told its PCI bus by NCCL_TOPO_FILE: the node hides")));
  known.nodes[1].devices.has_topology_file = true;  // the platform has told it already
  EXPECT_EQ(DecideNccl(known).nodes[1].topology_xml, "");
  known.nodes[1].devices.has_topology_file = false;
  known.nodes[1].listed.gpus.pop_back();
  known.nodes[1].listed.distances.resize(2);
  settings = DecideNccl(known);
  EXPECT_EQ(settings.nodes[1].topology_xml, "");
  EXPECT_THAT(settings.notes,
              Contains(AllOf(HasSubstr("node b hides its PCI bus"), HasSubstr("it has 2 GPUs, and 1 are listed"))));
}

TEST(NcclSettings, ReasonsAreFewHoweverManyNodesThereAre) {
  NcclKnowledge known;
  for (int i = 0; i < 40; ++i) known.nodes.push_back(RailNode(absl::StrCat("n", i), 2, 1, absl::StrCat("nic", i, "_")));
  const std::vector<std::string> reasons = NcclReasons(known, DecideNccl(known));
  for (NcclNode& node : known.nodes) node.listed.nics = {{"none"}};
  const std::vector<std::string> notes = DecideNccl(known).notes;
  ASSERT_EQ(notes.size(), 17u);
  EXPECT_EQ(notes.back(), "and 24 more like these about what NCCL is told");
  ASSERT_EQ(reasons.size(), 16u);
  EXPECT_EQ(reasons.back(), "and 25 more");
  for (NcclNode& node : known.nodes) {
    node.devices = RailNode("", 2, 1).devices;
    node.listed = {};
  }
  EXPECT_THAT(NcclReasons(known, DecideNccl(known)),
              ElementsAre(HasSubstr("n7 and 32 more is told NCCL_IB_HCA==mlx5_0:1,mlx5_1:1")));
}

TEST(NcclSettings, IsForeseenFromTheListsAlone) {
  Cluster cluster;
  for (const char* name : {"a", "b"}) {
    NcclNode node = RailNode(name, 2, 0);
    ListRails(&node, 2);
    node.listed.name = name;
    cluster.nodes.push_back(node.listed);
  }
  EXPECT_THAT(ForeseeNccl(cluster, 1, "cluster.yaml"),
              ElementsAre("NCCL is told NCCL_CROSS_NIC=0: the fabric has a switch for each rail, and a ring stays on its own",
                          "NCCL is kept to mlx5_0, mlx5_1 (NCCL_IB_HCA) where the node has other RDMA NICs that are up"));
  cluster.nodes.pop_back();
  EXPECT_THAT(ForeseeNccl(cluster, 0, "cluster.yaml"), IsEmpty());
}

// --- Properties ---

NcclKnowledge RandomKnowledge(std::mt19937_64& random) {
  NcclKnowledge known;
  known.source = "list";
  known.rail_optimised = Below(random, 4) == 0;
  const int nodes = 1 + Below(random, 5), kind = Below(random, 3);
  for (int i = 0; i < nodes; ++i) {
    NcclNode node =
        RailNode(absl::StrCat("n", i), Below(random, 9), Below(random, 3), absl::StrCat("nic", Below(random, 2), "_"));
    node.address = absl::StrCat(Below(random, 2) == 0 ? "fd00::" : "10.0.0.", i + 1);
    for (NodeDevices::Port& port : node.devices.ports) {
      port.active = Below(random, 6) > 0;
      port.ethernet = Below(random, 6) == 0;
      port.bytes_per_second = 12.5e9 * (1 << Below(random, 3));
    }
    if (Below(random, 5) == 0) node.devices.gpus.clear();
    if (kind > 0) ListRails(&node, static_cast<int>(node.devices.gpus.size()));
    if (kind == 2) {
      for (Cluster::Nic& nic : node.listed.nics) nic.rail = Below(random, 3) - 1;
    }
    known.nodes.push_back(std::move(node));
  }
  return known;
}

TEST(NcclSettings, HoldsItsPromisesOnAnyNodes) {
  ForEachSeed(2000, "nccl_test", [](std::mt19937_64& random) {
    const NcclKnowledge known = RandomKnowledge(random);
    const NcclSettings settings = DecideNccl(known);
    ASSERT_EQ(settings.nodes.size(), known.nodes.size());
    for (const char* name : {"NCCL_CROSS_NIC", "NCCL_IB_MERGE_NICS", "NCCL_SOCKET_FAMILY"}) {
      for (size_t i = 0; i < known.nodes.size(); ++i) EXPECT_EQ(ValueOf(settings, i, name), ValueOf(settings, 0, name));
    }
    for (size_t i = 0; i < known.nodes.size(); ++i) {
      const NcclNode& node = known.nodes[i];
      std::set<std::string> set;
      for (const NcclVariable& one : settings.nodes[i].variables) {
        EXPECT_TRUE(set.insert(one.name).second) << one.name << " twice";
        EXPECT_FALSE(one.value.empty() || one.why.empty()) << one.name;
      }
      std::string hca = ValueOf(settings, i, "NCCL_IB_HCA");
      if (hca.empty()) continue;
      EXPECT_GT(known.nodes.size(), 1u);
      EXPECT_FALSE(node.devices.gpus.empty());
      ASSERT_EQ(hca[0], '=');
      std::set<std::string> up;
      for (const NodeDevices::Port& port : node.devices.ports) {
        if (port.active) up.insert(absl::StrCat(port.device, ":", port.number));
      }
      const std::vector<std::string> taken = absl::StrSplit(hca.substr(1), ',');
      for (const std::string& one : taken) EXPECT_EQ(up.count(one), 1u) << one << " is not up";
      EXPECT_EQ(std::set<std::string>(taken.begin(), taken.end()).size(), taken.size()) << hca;
      EXPECT_LT(taken.size(), up.size()) << "NCCL would take just these";
    }
    EXPECT_LE(NcclReasons(known, settings).size(), 16u);
  });
}

}  // namespace
}  // namespace muster

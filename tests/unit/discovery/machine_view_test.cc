#include "launcher/discovery/machine_view.h"

#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/discovery/machine_text.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Topology Machine(const char* file) {
  std::ifstream stream(std::string(MUSTER_DISCOVERY_TEST_FOLDER "/") + file);
  auto machine = Topology::FromXml(std::string(std::istreambuf_iterator<char>(stream), {}));
  if (!machine.ok()) ADD_FAILURE() << machine.status();
  return machine.ok() ? *machine : *Topology::FromSynthetic("core:1");
}

double Speed(const std::string& nic) { return nic == "mlx5_0" || nic == "mlx5_1" ? 50e9 : 0; }

std::string Distances(const MachineView& view) {
  return absl::StrJoin(view.node.distances, " ",
                       [](std::string* out, PciDistance distance) { absl::StrAppend(out, PciDistanceName(distance)); });
}

NvmlView TwoGpus() {
  NvmlView nvml;
  nvml.gpus = {{"GPU-b", "H200", "0000:84:00.0", "", {}}, {"GPU-a", "H200", "0000:04:00.0", "dom.1", {"hot"}}};
  nvml.links = {0, 6, 6, 0};
  return nvml;
}

TEST(MachineView, DescribesGpusNicsAndHowFarTheyAre) {
  const MachineView view = DescribeMachine("n", Machine("dgx.xml"), TwoGpus(), {}, Speed);
  EXPECT_EQ(view.node.name, "n");
  EXPECT_EQ(view.packages, 2u);
  EXPECT_EQ(view.numa_nodes, 2u);
  EXPECT_EQ(view.cores, 4u);
  ASSERT_THAT(view.node.gpus, SizeIs(3)) << "one is not known to NVML";
  EXPECT_EQ(view.node.gpus[0].name, "GPU-a");
  EXPECT_EQ(view.node.gpus[0].numa, 0);
  EXPECT_EQ(view.node.gpus[1].name, "0000:0a:00.0") << "no more is known of it";
  EXPECT_EQ(view.node.gpus[2].name, "GPU-b");
  EXPECT_EQ(view.node.gpus[2].numa, 1);
  EXPECT_THAT(view.gpu_faults[0], ElementsAre("hot"));
  EXPECT_EQ(view.fabric, "dom.1");
  EXPECT_THAT(view.node.nvlinks, ElementsAre(0, 0, 6, 0, 0, 0, 6, 0, 0));
  ASSERT_THAT(view.node.nics, SizeIs(2));
  EXPECT_EQ(view.node.nics[0].name, "mlx5_0") << "one card, whose other name is ib0";
  EXPECT_EQ(view.nic_siblings[0], "ib0");
  EXPECT_EQ(view.node.nics[0].bytes_per_second, 50e9);
  EXPECT_EQ(view.node.nics[1].name, "mlx5_1");
  // GPU-a shares mlx5_0's switch, the second hangs on the same host bridge only.
  EXPECT_EQ(Distances(view), "PIX SYS PHB SYS SYS PIX");
  EXPECT_THAT(view.notes, IsEmpty());
}

TEST(MachineView, ReadsAsText) {
  EXPECT_EQ(MachineText(DescribeMachine("n", Machine("dgx.xml"), TwoGpus(), {}, Speed)),
            "node n: 2 packages, 2 memory nodes, 4 cores, 4 processors (0-3)\n"
            "  NVLink domain of several machines: dom.1\n"
            "  memory node 0\n"
            "    GPU 0       GPU-a         0000:04:00.0  H200: hot\n"
            "    GPU 1       0000:0a:00.0  0000:0a:00.0  0000:0a:00.0\n"
            "    NIC mlx5_0  ib0           0000:05:00.0  400 Gbit/s\n"
            "  memory node 1\n"
            "    GPU 2       GPU-b         0000:84:00.0  H200\n"
            "    NIC mlx5_1  ib1           0000:85:00.0  400 Gbit/s\n"
            "  GPU to NIC  mlx5_0  mlx5_1\n"
            "    GPU 0     PIX     SYS\n"
            "    GPU 1     PHB     SYS\n"
            "    GPU 2     SYS     PIX\n"
            "  NVLinks  GPU 0  GPU 1  GPU 2\n"
            "    GPU 0  -      0      6\n"
            "    GPU 1  0      -      0\n"
            "    GPU 2  6      0      -\n");
}

TEST(MachineView, DistancesAreThoseOfTheLegend) {
  const auto device = [](std::vector<std::string> bridges, CpuSet memory) {
    Topology::Device one;
    one.bus = "0000:01:00.0";
    one.bridges = std::move(bridges);
    one.memory_nodes = std::move(memory);
    return one;
  };
  const Topology::Device gpu = device({"host", "root", "up", "down1"}, {0});
  EXPECT_EQ(DistanceOf(gpu, device({"host", "root", "up", "down2"}, {0})), PciDistance::kPix);
  EXPECT_EQ(DistanceOf(gpu, device({"host", "root", "up", "down2", "up2", "down3"}, {0})), PciDistance::kPxb);
  EXPECT_EQ(DistanceOf(gpu, device({"host", "root2"}, {0})), PciDistance::kPhb);
  EXPECT_EQ(DistanceOf(gpu, device({"host2", "root2"}, {0})), PciDistance::kNode);
  EXPECT_EQ(DistanceOf(gpu, device({"host2", "root2"}, {1})), PciDistance::kSys);
  EXPECT_EQ(DistanceOf(gpu, device({"host2"}, {})), PciDistance::kUnknown);
  EXPECT_EQ(DistanceOf(gpu, Topology::Device()), PciDistance::kUnknown);
}

TEST(MachineView, WhatKubernetesSaysStandsAboveTheBus) {
  GivenDevice gpu;
  gpu.place = "gpu-metadata.json";
  gpu.pci_bus_id = "0000:04:00.0";
  gpu.numa_node = 1;
  GivenDevice stranger;
  stranger.place = "x-metadata.json";
  stranger.pci_bus_id = "0000:ff:00.0";
  const MachineView view = DescribeMachine("n", Machine("dgx.xml"), NvmlView(), {gpu, stranger}, Speed);
  EXPECT_EQ(view.node.gpus[0].numa, 1);
  EXPECT_THAT(view.notes,
              ElementsAre("GPU 0000:04:00.0 is at memory node 1 by gpu-metadata.json and at 0 by the bus; 1 is taken",
                          "x-metadata.json names the device 0000:ff:00.0, which this machine does not show; it is left out"));
}

TEST(MachineView, InAVirtualMachineKubernetesMayKnowTheRootsAlone) {
  GivenDevice gpu, nic;
  gpu.pci_bus_id = "0000:04:00.0";
  nic.pci_bus_id = "0000:85:00.0";
  gpu.pcie_root = nic.pcie_root = "pci0000:16";
  const MachineView view = DescribeMachine("n", Machine("dgx.xml"), NvmlView(), {gpu, nic}, Speed);
  EXPECT_EQ(Distances(view), "PIX PHB PHB SYS SYS PIX") << "GPU 0 and mlx5_1 have the same root";
}

TEST(MachineView, AGpuThatTheBusDoesNotShowIsKeptAndSaid) {
  NvmlView nvml;
  nvml.gpus = {{"GPU-x", "H200", "0000:f0:00.0", "", {}}};
  nvml.links = {0};
  const MachineView view = DescribeMachine("n", *Topology::FromSynthetic("numa:1 core:2 pu:1"), nvml, {}, Speed);
  ASSERT_THAT(view.node.gpus, SizeIs(1));
  EXPECT_EQ(view.node.gpus[0].numa, -1);
  EXPECT_THAT(view.notes, ElementsAre(HasSubstr("GPU 0000:f0:00.0 is known to NVML and not to be seen on the bus")));
}

TEST(MachineView, WithoutGpusOneLineSaysWhy) {
  NvmlView nvml;
  nvml.absence = "no NVIDIA GPUs: there is no library";
  EXPECT_THAT(DescribeMachine("n", *Topology::FromSynthetic("core:2"), nvml, {}, Speed).notes,
              ElementsAre("no NVIDIA GPUs: there is no library"));
}

}  // namespace
}  // namespace muster

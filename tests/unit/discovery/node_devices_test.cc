#include "launcher/discovery/node_devices.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A sysfs in a folder of the test's own.
class NodeDevicesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "muster-sysfs-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    sysfs_ = pattern;
  }
  void TearDown() override { fs::remove_all(sysfs_); }

  void Write(const fs::path& path, const std::string& text) {
    fs::create_directories((sysfs_ / path).parent_path());
    std::ofstream(sysfs_ / path) << text << "\n";
  }
  void AddPciDevice(const std::string& below, const std::string& bus, const std::string& kind, const std::string& vendor) {
    const fs::path folder = fs::path("devices") / below / bus;
    Write(folder / "class", kind);
    Write(folder / "vendor", vendor);
    Write(folder / "numa_node", "1");
    Write(folder / "max_link_speed", "32.0 GT/s PCIe");
    Write(folder / "max_link_width", "16");
    fs::create_directories(sysfs_ / "bus/pci/devices");
    fs::create_directory_symlink(sysfs_ / folder, sysfs_ / "bus/pci/devices" / bus);
  }
  void AddCard(const std::string& name, const std::string& bus) {
    fs::create_directories(sysfs_ / "class/infiniband" / name);
    fs::create_directory_symlink(fs::canonical(sysfs_ / "bus/pci/devices" / bus),
                                 sysfs_ / "class/infiniband" / name / "device");
  }
  void AddPort(const std::string& card, int number, const std::string& state, const std::string& layer,
               const std::string& rate) {
    const fs::path folder = fs::path("class/infiniband") / card / "ports" / std::to_string(number);
    Write(folder / "state", state);
    Write(folder / "link_layer", layer);
    Write(folder / "rate", rate);
  }
  // `folder`: where sysfs shows it, which the class and the device do.
  void AddVerbs(const std::string& card, const std::string& verbs, const fs::path& folder = "class/infiniband_verbs") {
    Write(folder / verbs / "ibdev", card);
    Write(fs::path("dev/infiniband") / verbs, "");
  }
  NodeDevices Read() { return ReadNodeDevices(sysfs_, sysfs_ / "topology.xml", sysfs_ / "dev"); }

  fs::path sysfs_;
};

TEST_F(NodeDevicesTest, WithoutRdmaNothingIsLookedFor) {
  AddPciDevice("pci0000:00", "0000:00:05.0", "0x030200", "0x10de");
  EXPECT_THAT(Read().gpus, IsEmpty());
  EXPECT_THAT(ReadNodeDevices(sysfs_ / "nowhere").ports, IsEmpty());
}

TEST_F(NodeDevicesTest, ReadsTheBusThePortsAndTheirInterfaces) {
  const std::string up = "pci0000:16/0000:16:01.0/0000:17:00.0/";
  AddPciDevice(up + "0000:18:00.0", "0000:1a:00.0", "0x020700", "0x15b3");
  AddPciDevice(up + "0000:18:01.0", "0000:19:00.0", "0x030200", "0x10de");
  AddPciDevice("pci0000:00", "0000:00:02.0", "0x030000", "0x1a03");  // the screen of a management controller
  AddPciDevice("pci0000:97/0000:97:01.0", "0000:98:00.0", "0x020000", "0x15b3");
  AddCard("mlx5_9", "0000:1a:00.0");
  AddCard("mlx5_0", "0000:98:00.0");
  AddPort("mlx5_9", 1, "4: ACTIVE", "InfiniBand", "400 Gb/sec (4X NDR)");
  AddPort("mlx5_0", 2, "1: DOWN", "Ethernet", "25 Gb/sec (1X EDR)");
  AddPort("mlx5_0", 1, "4: ACTIVE", "Ethernet", "25 Gb/sec (1X EDR)");
  AddPort("mlx5_0", 3, "4: ACTIVE", "Unspecified", "25 Gb/sec (1X EDR)");
  AddVerbs("mlx5_9", "uverbs0");
  AddVerbs("mlx5_0", "uverbs1");
  Write("class/infiniband/mlx5_9/device/net/ib0/dev_port", "0");
  Write("class/infiniband/mlx5_0/device/net/eth0/dev_port", "0");
  Write("class/infiniband/mlx5_0/device/net/eth1/dev_port", "1");
  const NodeDevices devices = Read();
  ASSERT_EQ(devices.gpus.size(), 1u);
  EXPECT_EQ(devices.gpus[0].bus, "0000:19:00.0");
  EXPECT_THAT(devices.gpus[0].bridges, ElementsAre("pci0000:16", "0000:16:01.0", "0000:17:00.0", "0000:18:01.0"));
  EXPECT_EQ(devices.gpus[0].numa, 1);
  EXPECT_EQ(devices.gpus[0].link_speed, "32.0 GT/s PCIe");
  EXPECT_EQ(devices.gpus[0].link_width, 16);
  ASSERT_EQ(devices.nics.size(), 2u);
  EXPECT_EQ(devices.nics[0].bus, "0000:1a:00.0");
  ASSERT_EQ(devices.ports.size(), 3u);
  EXPECT_EQ(devices.ports[0].device, "mlx5_9");
  EXPECT_EQ(devices.ports[0].interface, "ib0");
  EXPECT_TRUE(devices.ports[0].active);
  EXPECT_EQ(devices.ports[0].unusable, "");
  EXPECT_TRUE(devices.ports[0].is_up());
  EXPECT_FALSE(devices.ports[0].ethernet);
  EXPECT_EQ(devices.ports[0].bytes_per_second, 50e9);
  EXPECT_EQ(devices.ports[1].number, 1);
  EXPECT_EQ(devices.ports[1].interface, "eth0");
  EXPECT_TRUE(devices.ports[1].ethernet);
  EXPECT_EQ(devices.ports[2].number, 2);
  EXPECT_EQ(devices.ports[2].interface, "eth1");
  EXPECT_FALSE(devices.ports[2].active);
  EXPECT_EQ(devices.ports[2].nic, 1);
  EXPECT_FALSE(devices.has_topology_file);
  Write("topology.xml", "<system version=\"1\"/>");
  EXPECT_TRUE(Read().has_topology_file);
}

TEST_F(NodeDevicesTest, APortIsOfUseWhereItsVerbsDeviceCanBeOpened) {
  for (int i = 0; i < 5; ++i) {
    const std::string bus = "0000:1" + std::to_string(i) + ":00.0", name = "mlx5_" + std::to_string(i);
    AddPciDevice("pci0000:00", bus, "0x020700", "0x15b3");
    AddCard(name, bus);
    AddPort(name, 1, "4: ACTIVE", "InfiniBand", "400 Gb/sec (4X NDR)");
  }
  AddVerbs("mlx5_0", "uverbs3");  // their numbers are not the NICs'
  AddVerbs("mlx5_1", "uverbs0");
  fs::remove(sysfs_ / "dev/infiniband/uverbs0");
  AddVerbs("mlx5_2", "uverbs1", "class/infiniband/mlx5_2/device/infiniband_verbs");
  AddVerbs("mlx5_3", "uverbs2");
  fs::remove(sysfs_ / "dev/infiniband/uverbs2");
  fs::create_symlink("uverbs2", sysfs_ / "dev/infiniband/uverbs2");  // root may open all that can be
  const NodeDevices devices = Read();
  ASSERT_EQ(devices.ports.size(), 5u);
  const std::string dev = sysfs_ / "dev/infiniband/uverbs";
  std::vector<std::string> unusable;
  for (const NodeDevices::Port& port : devices.ports) {
    unusable.push_back(port.unusable);
    EXPECT_EQ(port.is_up(), port.unusable.empty());
  }
  EXPECT_THAT(unusable,
              ElementsAre("", dev + "0 is not there", "", dev + "2 cannot be opened: Too many levels of symbolic links",
                          "it has no uverbs device; is ib_uverbs loaded?"));
}

TEST_F(NodeDevicesTest, WhatIsNoPciDeviceOrNotSaidIsLeftOpen) {
  fs::create_directories(sysfs_ / "devices/virtual/net/eth0");
  fs::create_directories(sysfs_ / "class/infiniband/rxe0");
  fs::create_directory_symlink(sysfs_ / "devices/virtual/net/eth0", sysfs_ / "class/infiniband/rxe0/device");
  AddPort("rxe0", 1, "4: ACTIVE", "Ethernet", "unknown");
  AddPciDevice("pci0000:00", "0000:00:05.0", "0x030200", "0x10de");
  Write("devices/pci0000:00/0000:00:05.0/max_link_speed", "Unknown");
  Write("devices/pci0000:00/0000:00:05.0/max_link_width", "255");
  Write("devices/pci0000:00/0000:00:05.0/numa_node", "-1");
  const NodeDevices devices = Read();
  ASSERT_EQ(devices.ports.size(), 1u);
  EXPECT_EQ(devices.ports[0].bytes_per_second, 0);
  EXPECT_EQ(devices.ports[0].interface, "");
  EXPECT_EQ(devices.nics[0].bus, "");
  ASSERT_EQ(devices.gpus.size(), 1u);
  EXPECT_THAT(devices.gpus[0].bridges, ElementsAre("pci0000:00"));
  EXPECT_EQ(devices.gpus[0].link_speed, "");
  EXPECT_EQ(devices.gpus[0].link_width, 0);
  EXPECT_EQ(devices.gpus[0].numa, -1);
}

}  // namespace
}  // namespace muster

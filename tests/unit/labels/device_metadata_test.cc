#include "launcher/labels/device_metadata.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kGpu[] = R"({
  "kind": "DeviceMetadata", "apiVersion": "metadata.resource.k8s.io/v1alpha1",
  "metadata": {"name": "pod0-gpu", "generation": 1}, "podClaimName": "gpu",
  "requests": [{"name": "gpu", "devices": [
    {"driver": "gpu.example.com", "pool": "worker-0", "name": "gpu-0", "attributes": {
      "driverVersion": {"version": "1.0.0"}, "index": {"int": 0},
      "resource.kubernetes.io/pciBusID": {"string": "0000:3B:00.0"},
      "resource.kubernetes.io/pcieRoot": {"string": "pci0000:3a"},
      "resource.kubernetes.io/numaNode": {"int": 1},
      "uuid": {"string": "gpu-18db0e85"}}}]}]})";

TEST(DeviceMetadata, ReadsTheDevicesOfAClaim) {
  const auto given = ReadDeviceMetadata("f", kGpu);
  ASSERT_TRUE(given.ok()) << given.status();
  ASSERT_THAT(given->devices, SizeIs(1));
  const GivenDevice& device = given->devices[0];
  EXPECT_EQ(device.driver, "gpu.example.com");
  EXPECT_EQ(device.name, "gpu-0");
  EXPECT_EQ(device.request, "gpu");
  EXPECT_EQ(device.pci_bus_id, "0000:3b:00.0") << "as the kernel writes it";
  EXPECT_EQ(device.pcie_root, "pci0000:3a");
  EXPECT_EQ(device.numa_node, 1);
  EXPECT_EQ(device.uuid, "gpu-18db0e85");
  EXPECT_THAT(given->notes, IsEmpty());
}

TEST(DeviceMetadata, TakesTheFirstVersionThatItKnows) {
  const std::string newer =
      R"({"kind": "DeviceMetadata", "apiVersion": "metadata.resource.k8s.io/v7", "requests": [{"devices": [{}]}]})";
  const auto given = ReadDeviceMetadata("f", newer + "\n" + kGpu + "\n" + kGpu);
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_THAT(given->devices, SizeIs(1));
  EXPECT_EQ(ReadDeviceMetadata("f", newer).status().message(),
            "f:1:1: holds no DeviceMetadata of a version that is known (it is metadata.resource.k8s.io/v7); its devices are as "
            "the node "
            "itself shows them");
}

TEST(DeviceMetadata, AnEmptyFileIsStillToBeFilled) {
  const auto given = ReadDeviceMetadata("f", " \n");
  ASSERT_TRUE(given.ok());
  EXPECT_THAT(given->devices, IsEmpty());
  EXPECT_THAT(given->notes, ElementsAre(HasSubstr("f is still empty: its driver fills it later")));
}

TEST(DeviceMetadata, WrongAttributesCountAsNotSaid) {
  const auto given = ReadDeviceMetadata("f", R"({"kind": "DeviceMetadata", "apiVersion": "metadata.resource.k8s.io/v1",
    "requests": [{"name": "r", "devices": [{"name": "d", "attributes": {
      "resource.kubernetes.io/pciBusID": {"string": "here"}, "numaNode": {"string": "0"}}},
      {"name": "e", "attributes": {"numaNode": {"int": -1}, "resource.kubernetes.io/pciBusID": {"int": 3}}}, 7]}, 8]})");
  ASSERT_TRUE(given.ok()) << given.status();
  ASSERT_THAT(given->devices, SizeIs(3));
  EXPECT_EQ(given->devices[0].pci_bus_id, "");
  EXPECT_FALSE(given->devices[0].numa_node.has_value());
  EXPECT_FALSE(given->devices[1].numa_node.has_value());
  EXPECT_THAT(
      given->notes,
      ElementsAre("f: device d: its bus address \"here\" is none such as 0000:3b:00.0; it counts as not said",
                  "f: device d: the attribute resource.kubernetes.io/numaNode is no {\"int\": NUMBER}; it counts as not said",
                  "f: device e: the attribute resource.kubernetes.io/pciBusID is no {\"string\": WORD}; it counts as not said",
                  "f: device e: its memory node is -1; it counts as not said"));
}

TEST(DeviceMetadata, WhatIsNoJsonIsAnErrorWithItsPlace) {
  EXPECT_THAT(ReadDeviceMetadata("f", "{\"kind\":\n oops}").status().message(), HasSubstr("f:2:2: not JSON"));
  EXPECT_THAT(ReadDeviceMetadata("f", "[1]").status().message(), HasSubstr("it names none"));
}

}  // namespace
}  // namespace muster

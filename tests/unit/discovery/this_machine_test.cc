#include "launcher/discovery/this_machine.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;

class ThisMachine : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "muster-discovery-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  void Write(const fs::path& path, const std::string& text) {
    fs::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path) << text;
  }
  fs::path folder_;
};

TEST_F(ThisMachine, IsSeenWithoutGpusDriversOrDra) {
  MachineSources sources;
  sources.nvml_library = "libmuster-has-no-such-library.so.1";
  sources.device_metadata = folder_ / "no/such/folder";
  const auto view = DiscoverThisMachine("here", sources);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->node.name, "here");
  EXPECT_GE(view->processors, 1u);
  EXPECT_GE(view->cores, 1u);
  for (const std::string& note : view->notes) EXPECT_THAT(note, ::testing::Not(HasSubstr("no/such/folder")));
}

TEST_F(ThisMachine, ReadsAllMetadataFilesAndNamesTheBrokenOnes) {
  Write("resourceclaims/c/gpu/gpu.example.com-metadata.json", R"({"kind": "DeviceMetadata",
    "apiVersion": "metadata.resource.k8s.io/v1alpha1", "requests": [{"name": "gpu", "devices": [{"name": "gpu-0",
    "attributes": {"resource.kubernetes.io/pciBusID": {"string": "0000:ee:00.0"}}}]}]})");
  Write("resourceclaimtemplates/t/nic/nic.example.com-metadata.json", "{");
  Write("resourceclaims/c/gpu/other.json", "not looked at");
  MachineSources sources;
  sources.nvml_library = "libmuster-has-no-such-library.so.1";
  sources.device_metadata = folder_;
  const auto view = DiscoverThisMachine("here", sources);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_THAT(
      view->notes,
      Contains(HasSubstr("gpu.example.com-metadata.json names the device 0000:ee:00.0, which this machine does not show")));
  EXPECT_THAT(view->notes, Contains(HasSubstr("nic.example.com-metadata.json:1:2: not JSON")));
}

}  // namespace
}  // namespace muster

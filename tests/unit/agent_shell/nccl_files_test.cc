#include "launcher/agent/nccl_files.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NcclFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "muster-nccl-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string File(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
  fs::path folder_;
};

TEST_F(NcclFiles, BothTheMachinesAndTheUsersAreRead) {
  const std::string site = File("site.conf", "NCCL_IB_HCA==mlx5_0\n"), first = File("first.conf", "NCCL_NET=IB\n"),
                    mine = File("mine.conf", "NCCL_CROSS_NIC=1\n");
  EXPECT_THAT(ConfiguredNcclVariables({"A=b", "NCCL_CONF_FILE=" + first, "NCCL_CONF_FILE=" + mine}, site),
              ElementsAre("NCCL_CROSS_NIC", "NCCL_IB_HCA"));
  EXPECT_THAT(ConfiguredNcclVariables({"NCCL_CONF_FILE=" + (folder_ / "none").string()}, folder_ / "none"), IsEmpty());
}

TEST_F(NcclFiles, TheDescriptionOfTheBusIsReplaced) {
  for (const std::string text : {"<system version=\"1\">\n</system>\n", "shorter"}) {
    const auto path = WriteNcclTopology(folder_, text);
    ASSERT_TRUE(path.ok()) << path.status();
    EXPECT_EQ(*path, folder_ / "nccl-topology.xml");
    std::ifstream file(*path);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), text);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
  EXPECT_THAT(std::string(WriteNcclTopology(folder_ / "no", "x").status().message()),
              HasSubstr("no/nccl-topology.xml: No such file"));
  EXPECT_FALSE(WriteNcclTopology("", "x").ok());
}

}  // namespace
}  // namespace muster

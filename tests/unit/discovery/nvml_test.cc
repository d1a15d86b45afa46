#include "launcher/discovery/nvml.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

NvmlView Read(const char* machine) {
  ::setenv("MUSTER_FAKE_NVML_MACHINE", machine, 1);
  return ReadNvml(MUSTER_FAKE_NVML);
}

TEST(Nvml, ReadsIdentityLinksAndHealth) {
  const NvmlView view = Read("pairs");
  EXPECT_EQ(view.driver, "550.1");
  EXPECT_EQ(view.absence, "");
  ASSERT_THAT(view.gpus, SizeIs(4));
  EXPECT_EQ(view.gpus[0].uuid, "GPU-0");
  EXPECT_EQ(view.gpus[0].model, "Fake H200");
  EXPECT_EQ(view.gpus[0].bus, "0000:1a:00.0") << "as the kernel writes it";
  EXPECT_EQ(view.gpus[0].fabric, "");
  EXPECT_THAT(view.links, ElementsAre(0, 4, 0, 0,  //
                                      4, 0, 0, 0,  //
                                      0, 0, 0, 4,  //
                                      0, 0, 3, 0));
  EXPECT_THAT(view.gpus[0].faults, ElementsAre("3 uncorrected memory errors since the driver was loaded"));
  EXPECT_THAT(view.gpus[1].faults, IsEmpty());
  EXPECT_THAT(view.gpus[2].faults, ElementsAre("a row of its memory could not be replaced: it should be exchanged",
                                               "rows of its memory are to be replaced when it is reset next"));
  EXPECT_THAT(view.gpus[3].faults, ElementsAre("1 of its NVLinks are down"));
}

TEST(Nvml, ThroughSwitchesAllReachAll) {
  const NvmlView view = Read("switched");
  ASSERT_THAT(view.gpus, SizeIs(8));
  ASSERT_THAT(view.links, SizeIs(64));
  EXPECT_EQ(view.links[0 * 8 + 7], 18);
  EXPECT_EQ(view.links[3 * 8 + 3], 0);
  EXPECT_EQ(view.gpus[5].fabric, "10111213-1415-1617-1819-1a1b1c1d1e1f.7");
}

TEST(Nvml, AGpuThatIsLostIsNamed) {
  const NvmlView view = Read("lost");
  ASSERT_THAT(view.gpus, SizeIs(3));
  EXPECT_THAT(view.notes, ElementsAre("GPU 1 cannot be asked: GPU is lost, and is left out"));
  EXPECT_THAT(view.gpus[1].faults, ElementsAre("it has fallen off the bus; the machine must be restarted"));
  EXPECT_EQ(view.gpus[1].bus, "0000:1c:00.0");
}

TEST(Nvml, NoDriverAndNoLibraryAreASentence) {
  EXPECT_EQ(Read("no-driver").absence, "no GPUs: NVIDIA's driver is not loaded");
  const NvmlView view = ReadNvml("libmuster-has-no-such-library.so.1");
  EXPECT_EQ(view.absence, "no NVIDIA GPUs: there is no libmuster-has-no-such-library.so.1 here, which comes with their driver");
  EXPECT_THAT(view.gpus, IsEmpty());
}

TEST(Nvml, ALibraryOfAnotherKindIsNotAsked) { EXPECT_THAT(ReadNvml("libm.so.6").absence, HasSubstr("lacks functions")); }

}  // namespace
}  // namespace muster

// The real libnccl where it is, with and without a GPU.
#include "runtime/backend/nccl/nccl_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/device/cuda_library.h"
#include "tests/support/fake_node.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

TEST(NcclLibrary, AFileThatIsNotThere) {
  const absl::Status status = OpenNcclLibrary("/nowhere/libnccl.so.2").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("MUSTER_NCCL_LIBRARY: /nowhere/libnccl.so.2"));
}

TEST(NcclLibrary, AnotherLibrary) {
  const absl::Status status = OpenNcclLibrary("libc.so.6").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("has no ncclGetVersion; install NCCL 2.14 or later"));
}

TEST(NcclLibrary, TheRealOneWithoutAGpu) {
  auto nccl = OpenNcclLibrary("");
  if (!nccl.ok()) GTEST_SKIP() << nccl.status();
  EXPECT_THAT((*nccl)->library(), testing::StartsWith("NCCL 2."));
  EXPECT_TRUE((*nccl)->powers().splits) << "the library is of 2023 or later";
  auto cuda = OpenCudaLibrary("");
  if (cuda.ok() && UsableGpus(**cuda).ok()) GTEST_SKIP() << "there is a GPU: tests/e2e/backends uses it";
  NcclId id = {};
  EXPECT_EQ((*nccl)->GetId(&id), kNcclOk);
  NcclComm comm = nullptr;
  const int code = (*nccl)->Init(&comm, 1, 0, {&id, 1});
  EXPECT_EQ(code, kNcclUnhandledCudaError) << code;
  EXPECT_THAT((*nccl)->ErrorText(code), HasSubstr("CUDA driver version is insufficient"));
}

}  // namespace
}  // namespace muster::test

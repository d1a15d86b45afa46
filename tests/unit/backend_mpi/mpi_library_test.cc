#include "runtime/backend/mpi/mpi_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace muster {
namespace {

using testing::HasSubstr;

TEST(MpiLibrary, AFileThatIsNotThere) {
  const absl::Status status = OpenMpiLibrary("/nowhere/libmuster_mpi.so").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nowhere/libmuster_mpi.so"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("MUSTER_MPI_LIBRARY"));
}

TEST(MpiLibrary, AFileThatIsNoLibrary) {
  const absl::Status status = OpenMpiLibrary("/etc/passwd").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot be loaded"));
}

TEST(MpiLibrary, AnotherLibrary) {
  const absl::Status status = OpenMpiLibrary("libc.so.6").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("not of this muster's version"));
}

}  // namespace
}  // namespace muster

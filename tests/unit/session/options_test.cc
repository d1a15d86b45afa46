#include "runtime/session/options.h"

#include <map>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

absl::StatusOr<SessionOptions> From(const std::map<std::string, std::string>& environment) {
  return SessionOptionsFrom([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

constexpr char kJob[] = "00112233445566778899aabbccddeeff";

TEST(SessionOptions, WithoutAnAgentAWorldOfOne) {
  const auto options = From({{"WORLD_SIZE", "1"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->socket, "");
}

TEST(SessionOptions, OtherLaunchersWorldsAreNotOurs) {
  for (const char* name : {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const absl::Status status = From({{name, "4"}, {"MUSTER_BACKEND", "native"}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(absl::StrContains(status.message(), std::string(name) + "=4")) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "muster run -np 4")) << status;
  }
}

TEST(SessionOptions, WorldsOfMpirunAreMpis) {
  const auto options =
      From({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->backend, "mpi");
  EXPECT_EQ(options->local_rank, 1);
  EXPECT_EQ(options->local_world_size, 2);
  EXPECT_EQ(From({{"OMPI_COMM_WORLD_SIZE", "1"}})->backend, "");
}

TEST(SessionOptions, TheBackendIsChosen) {
  EXPECT_EQ(From({{"MUSTER_BACKEND", "mpi"}, {"MUSTER_MPI_LIBRARY", "/a/b.so"}})->backend, "mpi");
  EXPECT_EQ(From({{"MUSTER_MPI_LIBRARY", "/a/b.so"}})->mpi_library, "/a/b.so");
  EXPECT_EQ(From({{"MUSTER_BACKEND", "auto"}})->backend, "");
  EXPECT_EQ(From({{"MUSTER_BACKEND", "native"}})->backend, "native");
  const auto nccl = From({{"MUSTER_BACKEND", "nccl"}, {"MUSTER_NCCL_LIBRARY", "/n.so"}, {"MUSTER_CUDA_LIBRARY", "/c.so"}});
  EXPECT_EQ(nccl->backend, "nccl");
  EXPECT_EQ(nccl->nccl_library, "/n.so");
  EXPECT_EQ(nccl->cuda_library, "/c.so");
  const absl::Status status = From({{"MUSTER_BACKEND", "gloo"}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "MUSTER_BACKEND=gloo")) << status;
  // Under an agent mpirun's variables are muster's own.
  EXPECT_EQ(
      From({{"MUSTER_SOCKET", "s"}, {"MUSTER_JOB_ID", kJob}, {"MUSTER_SLOT", "0"}, {"OMPI_COMM_WORLD_SIZE", "4"}})->backend,
      "");
}

TEST(SessionOptions, UnderAnAgent) {
  const auto options =
      From({{"MUSTER_SOCKET", "muster-x"}, {"MUSTER_JOB_ID", kJob}, {"MUSTER_SLOT", "5"}, {"WORLD_SIZE", "8"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->socket, "muster-x");
  EXPECT_EQ(options->job_id, kJob);
  EXPECT_EQ(options->slot, 5);
  EXPECT_EQ(*JobIdBytes(kJob), std::string("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16));
}

TEST(SessionOptions, ErrorsNameTheVariable) {
  for (const char* job : {"", "123", "zz112233445566778899aabbccddeeff"}) {
    const absl::Status status = From({{"MUSTER_SOCKET", "s"}, {"MUSTER_JOB_ID", job}, {"MUSTER_SLOT", "0"}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(status.message(), "MUSTER_JOB_ID")) << status;
  }
  for (const char* slot : {"", "x", "-1", "3.5"}) {
    const absl::Status status = From({{"MUSTER_SOCKET", "s"}, {"MUSTER_JOB_ID", kJob}, {"MUSTER_SLOT", slot}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(status.message(), "MUSTER_SLOT")) << status;
  }
}

}  // namespace
}  // namespace muster

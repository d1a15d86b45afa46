// What is taken for left over in /dev/shm, and what is not.
#include "launcher/guard/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "runtime/base/fd.h"

namespace muster::guard {
namespace {

class SharedMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "/dev/shm cannot be written";
  }
  void TearDown() override {
    for (const std::string& path : made_) unlink(path.c_str());
  }
  UniqueFd Make(const std::string& name) {
    made_.push_back("/dev/shm/" + name + "-" + std::to_string(getpid()));
    UniqueFd file(open(made_.back().c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    EXPECT_TRUE(file.valid()) << made_.back();
    EXPECT_EQ(ftruncate(file.get(), 4096), 0);
    return file;
  }
  bool IsThere(size_t i) const { return access(made_[i].c_str(), F_OK) == 0; }

  std::vector<std::string> made_;
};

TEST_F(SharedMemoryTest, WhatNoProcessHasAnyMoreIsRemoved) {
  const int64_t since = FileTimeNow();
  const UniqueFd open_one = Make("mpich_shar_tmpopen");
  UniqueFd mapped = Make("vader_segment.mapped");
  void* const memory = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, mapped.get(), 0);
  ASSERT_NE(memory, MAP_FAILED);
  mapped.Reset();
  Make("ucx_shm_posix_left").Reset();
  Make("somebody-elses").Reset();
  RemoveSharedMemory("", since);
  EXPECT_TRUE(IsThere(0)) << "open";
  EXPECT_TRUE(IsThere(1)) << "mapped";
  EXPECT_FALSE(IsThere(2)) << "left";
  EXPECT_TRUE(IsThere(3)) << "a name of no MPI library";
  munmap(memory, 4096);
  RemoveSharedMemory("", since);
  EXPECT_FALSE(IsThere(1)) << "mapped no more";
}

TEST_F(SharedMemoryTest, WhatIsOlderThanTheJobStays) {
  UniqueFd file = Make("mpich_shar_tmpold");
  struct stat status;
  ASSERT_EQ(fstat(file.get(), &status), 0);
  const int64_t later = int64_t{status.st_ctim.tv_sec + 1} * 1'000'000'000;
  file.Reset();
  RemoveSharedMemory("", later);
  EXPECT_TRUE(IsThere(0));
}

TEST_F(SharedMemoryTest, TheJobsOwnFolderGoesWithWhatIsInIt) {
  const std::string session = "/tmp/muster-test-" + std::to_string(getpid());
  const std::string folder = SharedMemoryFolder(session);
  EXPECT_EQ(folder, "/dev/shm/muster-test-" + std::to_string(getpid()));
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  close(open((folder + "/vader_segment.x").c_str(), O_RDWR | O_CREAT, 0600));
  RemoveSharedMemory(session, FileTimeNow());
  EXPECT_NE(access(folder.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace muster::guard

#include "launcher/agent/machine.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/agent/reserved_port.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kMountsV2[] =
    "24 1 0:22 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr char kMountsV1[] =
    "41 24 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
    "42 24 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:12 - cgroup cgroup rw,memory\n"
    "43 24 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

TEST(Machine, FindsTheFoldersOfCgroupVersion2) {
  const CgroupFolders found = FindCgroupFolders("0::/user.slice/job.scope\n", kMountsV2, "memory");
  EXPECT_TRUE(found.version_2);
  EXPECT_THAT(found.folders, ElementsAre("/sys/fs/cgroup/user.slice/job.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"));
}

TEST(Machine, FindsTheFoldersOfCgroupVersion1) {
  const std::string own = "4:memory:/docker/abc/inner\n3:cpu,cpuacct:/a\n0::/a\n";
  const CgroupFolders cpu = FindCgroupFolders(own, kMountsV1, "cpu");
  EXPECT_FALSE(cpu.version_2);
  EXPECT_THAT(cpu.folders, ElementsAre("/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/cpu,cpuacct"));
  EXPECT_THAT(FindCgroupFolders(own, kMountsV1, "memory").folders,
              ElementsAre("/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"));
  // "acct" is part of a name, not a controller.
  EXPECT_TRUE(FindCgroupFolders(own, kMountsV1, "acct").version_2);
}

TEST(Machine, AContainerThatShowsTheHostsPathHasTheMountItself) {
  const CgroupFolders found = FindCgroupFolders("4:memory:/kubepods/pod1/x\n", kMountsV1, "memory");
  EXPECT_THAT(found.folders, ElementsAre("/sys/fs/cgroup/memory"));
}

TEST(Machine, NoCgroupIsNoLimit) { EXPECT_THAT(FindCgroupFolders("", "", "cpu").folders, IsEmpty()); }

TEST(Machine, TheQuotaLowersTheCores) {
  EXPECT_EQ((UsableCores{8, std::nullopt}.count()), 8);
  EXPECT_EQ((UsableCores{8, 2.0}.count()), 2);
  EXPECT_EQ((UsableCores{8, 1.5}.count()), 2);
  EXPECT_EQ((UsableCores{8, 0.2}.count()), 1);
  EXPECT_EQ((UsableCores{2, 16.0}.count()), 2);
  EXPECT_GE(FindUsableCores().count(), 1);
  EXPECT_GT(FindMemoryLimit().bytes(), 0);
}

TEST(Machine, BytesForPeople) {
  EXPECT_EQ(HumanBytes(512), "512 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(int64_t{4} << 30), "4.0 GiB");
}

UniqueFd BindAndListen(uint16_t port, bool reuse) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = reuse ? 1 : 0;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(socket.get(), 1) != 0)
    socket.Reset();
  return socket;
}

TEST(ReservedPort, IsForWhoeverAsksForItByNumberWithReuse) {
  const auto port = ReservedPort::Reserve();
  ASSERT_TRUE(port.ok()) << port.status();
  EXPECT_GT(port->port(), 0);
  EXPECT_TRUE(BindAndListen(port->port(), true).valid());
  EXPECT_FALSE(BindAndListen(port->port(), false).valid());
  const auto other = ReservedPort::Reserve();
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_NE(other->port(), port->port());
}

}  // namespace
}  // namespace muster

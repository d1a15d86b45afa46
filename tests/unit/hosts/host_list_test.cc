#include "launcher/hosts/host_list.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/hosts/host_name.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// "a=2 root@b=cores": names with their slots.
std::string Text(const absl::StatusOr<std::vector<Host>>& hosts) {
  if (!hosts.ok()) return std::string(hosts.status().message());
  return absl::StrJoin(*hosts, " ", [](std::string* out, const Host& host) {
    absl::StrAppend(out, HostText(host), "=", host.slots > 0 ? absl::StrCat(host.slots) : "cores");
  });
}

std::string Parsed(absl::string_view text) { return Text(ParseHostList("-H", text)); }

TEST(HostList, CountsSlotsAsMpirunDoes) {
  EXPECT_EQ(Parsed("a:2,b:3"), "a=2 b=3");
  EXPECT_EQ(Parsed("a,b"), "a=1 b=1");
  EXPECT_EQ(Parsed("a,b,a"), "a=2 b=1");
  EXPECT_EQ(Parsed("a:2,a"), "a=3");
  EXPECT_EQ(Parsed("a:auto,b:*"), "a=cores b=cores");
  EXPECT_EQ(Parsed("a:2,a:auto"), "a=cores");
  EXPECT_EQ(Parsed("a:auto,a"), "a=cores");
  EXPECT_EQ(Parsed("root@a:2,b"), "root@a=2 b=1");
}

TEST(HostList, ExpandsRangesAsSlurmWritesThem) {
  EXPECT_EQ(Parsed("node[01-03]:4"), "node01=4 node02=4 node03=4");
  EXPECT_EQ(Parsed("node[1,3,5-7],b:2"), "node1=1 node3=1 node5=1 node6=1 node7=1 b=2");
  EXPECT_EQ(Parsed("r[1-2]-n[08-10].x"), "r1-n08.x=1 r1-n09.x=1 r1-n10.x=1 r2-n08.x=1 r2-n09.x=1 r2-n10.x=1");
  EXPECT_EQ(Parsed("node[1-10000]").size(), Parsed("node[1-9999]").size() + std::string(" node10000=1").size());
}

TEST(HostList, TakesIpv6Addresses) {
  EXPECT_EQ(Parsed("[::1]:2"), "::1=2");
  EXPECT_EQ(Parsed("fe80::1%eth0,[2001:db8::7],10.0.0.5:2"), "fe80::1%eth0=1 2001:db8::7=1 10.0.0.5=2");
  EXPECT_EQ(Parsed("root@[fd00::2]:3"), "root@fd00::2=3");
}

TEST(HostList, NamesWordAndRemedyInErrors) {
  EXPECT_THAT(Parsed("a:2,b:x"),
              AllOf(HasSubstr("-H: host 2, \"b:x\": \"x\" is no number of slots"), HasSubstr("from 1 to 4096")));
  EXPECT_THAT(Parsed("a,,b"), HasSubstr("host 2, \"\": there is nothing between the commas"));
  EXPECT_THAT(Parsed(""), HasSubstr("nothing between the commas"));
  EXPECT_THAT(Parsed("a:0"), HasSubstr("\"0\" is no number of slots"));
  EXPECT_THAT(Parsed("a:99999999999999999999"), HasSubstr("no number of slots"));
  EXPECT_THAT(Parsed("-oProxyCommand=x"), HasSubstr("begins with a letter or a digit"));
  EXPECT_THAT(Parsed("-l@a"), HasSubstr("before the '@' stands a user's name"));
  EXPECT_THAT(Parsed("a b"), HasSubstr("and no ' '"));
  EXPECT_THAT(Parsed("n[7-3]"), HasSubstr("the range 7-3 runs backwards; write 3-7"));
  EXPECT_THAT(Parsed("n[1-"), HasSubstr("a '[' without its ']'"));
  EXPECT_THAT(Parsed("n]1"), HasSubstr("a ']' without its '['"));
  EXPECT_THAT(Parsed("n[]"), HasSubstr("is no number and no range"));
  EXPECT_THAT(Parsed("n[1-999999999]"), HasSubstr("more than 10000 hosts"));
  EXPECT_THAT(Parsed("n[1-200][1-200]"), HasSubstr("more than 10000 hosts"));
  EXPECT_THAT(Parsed("n[1-9000],m[1-9000]"), HasSubstr("-H names more than 10000 hosts"));
  EXPECT_THAT(Parsed("a:b:c"), HasSubstr("several ':'; an IPv6 address with slots is written [::1]:2"));
  EXPECT_THAT(Parsed("[x:y]"), HasSubstr("\"x:y\" is no IPv6 address"));
  EXPECT_THAT(Parsed("+n0"), HasSubstr("relative hosts (+n0, +e) are not supported; name the host"));
  EXPECT_THAT(Parsed("^a"), HasSubstr("excluded hosts"));
  EXPECT_THAT(Parsed("root@a,joe@a"), HasSubstr("-H names a with several users"));
  EXPECT_THAT(Parsed("a:4000,a:4000"), HasSubstr("gives a 8000 slots; at most 4096"));
  EXPECT_THAT(Parsed(std::string(300, 'x')), HasSubstr("at most 255 letters"));
  EXPECT_THAT(Parsed(absl::string_view("a\0b", 3)), HasSubstr("byte 0x00"));
}

TEST(HostList, FiltersTheHostsOfAFile) {
  const std::vector<Host> file = {{"a", "", 4, true}, {"b", "root", 2, true}, {"c", "", 0, false}};
  EXPECT_EQ(Text(FilterHosts("hosts", file, "-H", "b,a")), "a=4 root@b=2");
  EXPECT_EQ(Text(FilterHosts("hosts", file, "-H", "a:2,b:9")), "a=2 root@b=2");
  EXPECT_EQ(Text(FilterHosts("hosts", file, "-H", "c")), "c=cores");
  EXPECT_EQ(Text(FilterHosts("hosts", file, "-H", "c:3")), "c=3");
  EXPECT_THAT(Text(FilterHosts("hosts", {{"node-a", "", 4, true}}, "-H", "node-b")),
              HasSubstr("-H chooses among the hosts of hosts, which does not name node-b (but node-a)"));
}

TEST(HostName, KnowsThisMachine) {
  for (const char* name : {"localhost", "LOCALHOST", "127.0.0.1", "::1", "alpha", "Alpha", "alpha.example.org"}) {
    EXPECT_TRUE(IsThisMachine(name, "alpha")) << name;
  }
  EXPECT_TRUE(IsThisMachine("alpha", "alpha.example.org"));
  EXPECT_FALSE(IsThisMachine("alpha.other.net", "alpha.example.org"));
  EXPECT_FALSE(IsThisMachine("alph", "alpha"));
  EXPECT_FALSE(IsThisMachine("alphabet", "alpha"));
  EXPECT_FALSE(IsThisMachine("beta", ""));
}

}  // namespace
}  // namespace muster

#include "launcher/hosts/host_file.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Parsed(absl::string_view text) {
  const auto hosts = ParseHostFile("hosts", text);
  if (!hosts.ok()) return std::string(hosts.status().message());
  return absl::StrJoin(*hosts, " ", [](std::string* out, const Host& host) {
    absl::StrAppend(out, HostText(host), "=", host.slots_given ? absl::StrCat(host.slots) : "cores",
                    host.slots_max > 0 ? absl::StrCat("/", host.slots_max) : "");
  });
}

TEST(HostFile, ReadsMpirunsFormat) {
  EXPECT_EQ(Parsed("# a comment\n\nnode-a slots=4 max_slots=8  # another\n  node-b\tslots = 2 // more\r\n"),
            "node-a=4/8 node-b=2");
  EXPECT_EQ(Parsed("a max-slots=3"), "a=3/3");
  EXPECT_EQ(Parsed("a cpus=2\nb count=3\nc cpu=1"), "a=2 b=3 c=1");
  EXPECT_EQ(Parsed("joe@a slots=2\nb user=ann slots=1"), "joe@a=2 ann@b=1");
  EXPECT_EQ(Parsed("node[01-03] slots=2"), "node01=2 node02=2 node03=2");
}

TEST(HostFile, ReadsMpichsFormat) { EXPECT_EQ(Parsed("a:2\n[fd00::1]:3\nfd00::2\n"), "a=2 fd00::1=3 fd00::2=cores"); }

TEST(HostFile, LinesOfOneHostAddUp) {
  EXPECT_EQ(Parsed("a"), "a=cores");
  EXPECT_EQ(Parsed("a\na"), "a=2");
  EXPECT_EQ(Parsed("a\nb\na\na"), "a=3 b=cores");
  EXPECT_EQ(Parsed("a slots=2\na"), "a=3");
  EXPECT_EQ(Parsed("a\na slots=2"), "a=3");
  EXPECT_EQ(Parsed("a slots=2\na slots=3 max_slots=9"), "a=5/9");
  EXPECT_EQ(Parsed("a slots=auto\na"), "a=cores");
}

TEST(HostFile, NamesLineColumnAndRemedyInErrors) {
  EXPECT_EQ(Parsed("a\nb slot=4\n"), "hosts:2:3: \"slot\" is nothing that a host can have; did you mean slots=?");
  EXPECT_THAT(Parsed("a\n\n  b slots=x"),
              AllOf(StartsWith("hosts:3:11: slots=x: \"x\" is no number of slots"), HasSubstr("4096")));
  EXPECT_EQ(Parsed("a b"),
            "hosts:1:3: \"b\" is nothing that a host can have; write slots=4, max_slots=8 or user=NAME; one host a line");
  EXPECT_EQ(Parsed("a slots="), "hosts:1:3: slots needs a value: slots=4");
  EXPECT_EQ(Parsed("a slots 4"), "hosts:1:3: slots needs a value: slots=4");
  EXPECT_EQ(Parsed("a user"), "hosts:1:3: user needs a value: user=NAME");
  EXPECT_EQ(Parsed("a slots=2 slots=3"), "hosts:1:11: the slots are said twice; leave one out");
  EXPECT_EQ(Parsed("a:2 slots=3"), "hosts:1:5: the slots are said twice; leave one out");
  EXPECT_EQ(Parsed("a slots=4 max_slots=2"), "hosts:1:1: slots=4 is more than max_slots=2; raise max_slots");
  EXPECT_THAT(Parsed("a user=-x"), HasSubstr("hosts:1:8: \"-x\" is no user's name"));
  EXPECT_THAT(Parsed("joe@a\nann@a"), HasSubstr("hosts:2:1: a has another user than before (joe)"));
  EXPECT_EQ(Parsed("+n1"), "hosts:1:1: relative hosts (+n1) are not supported; name the host");
  EXPECT_THAT(Parsed("^a"), HasSubstr("hosts:1:1: excluded hosts (^a) are not supported"));
  EXPECT_THAT(Parsed("a\n=4"), StartsWith("hosts:2:1: \"=\": a host's name holds"));
  EXPECT_THAT(Parsed(absl::StrCat("a\n", std::string(1000, 'b'))),
              AllOf(HasSubstr("bbb...\""), HasSubstr("at most 255 letters")));
  EXPECT_EQ(Parsed("# nobody\n"), "hosts: names no host; write one a line, such as: node-a slots=4");
  EXPECT_THAT(Parsed("n[1-9999]\nm[1-9999]"), HasSubstr("hosts:2:1: the file names more than 10000 hosts"));
  EXPECT_THAT(Parsed(std::string(kHostFileBytesMax + 1, '\n')), HasSubstr("at most 4194304"));
}

}  // namespace
}  // namespace muster

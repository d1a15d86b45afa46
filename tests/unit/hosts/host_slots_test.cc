#include "launcher/hosts/host_slots.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/hosts/host_list.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Filled(absl::string_view hosts, const HostWishes& wishes) {
  const auto shares = FillHosts(*ParseHostList("-H", hosts), wishes);
  if (!shares.ok()) return std::string(shares.status().message());
  return absl::StrJoin(*shares, " ", [](std::string* out, const HostShare& share) {
    absl::StrAppend(out, share.host.name, "=", share.workers);
  });
}

TEST(HostSlots, AreFilledHostByHost) {
  EXPECT_EQ(Filled("a:3,b:2", {}), "a=3 b=2");
  EXPECT_EQ(Filled("a:3,b:2", {.workers = 4}), "a=3 b=1");
  EXPECT_EQ(Filled("a:3,b:2", {.workers = 3}), "a=3");
  EXPECT_EQ(Filled("a:3,b:2", {.workers_max = 4}), "a=3 b=1");
  EXPECT_EQ(Filled("a:3,b:2", {.workers_max = 9}), "a=3 b=2");
  EXPECT_EQ(Filled("a:1,b:1,c:1", {.hosts = 2}), "a=1 b=1");
  EXPECT_EQ(Filled("a:2,b:2,c:2", {.workers = 3, .hosts = 2}), "a=2 b=1");
}

TEST(HostSlots, OversubscribedHostsShareWhatIsLeft) {
  EXPECT_EQ(Filled("a:2,b:1", {.workers = 6, .oversubscribe = true}), "a=4 b=2");
  EXPECT_EQ(Filled("a:1,b:1,c:1", {.workers = 7, .oversubscribe = true}), "a=3 b=2 c=2");
  EXPECT_EQ(Filled("a:2,b:2", {.workers = 3, .oversubscribe = true}), "a=2 b=1");
}

TEST(HostSlots, MaxSlotsHoldsAlsoThen) {
  const std::vector<Host> hosts = {{"a", "", 1, true, 2}, {"b", "", 1, true, 0}};
  const auto shares = FillHosts(hosts, {.workers = 7, .oversubscribe = true});
  ASSERT_TRUE(shares.ok());
  EXPECT_EQ((*shares)[0].workers, 2);
  EXPECT_EQ((*shares)[1].workers, 5);
  EXPECT_THAT(FillHosts({hosts[0]}, {.workers = 3, .oversubscribe = true}).status().message(),
              HasSubstr("-np 3 is more than the max_slots of the hosts allow; use -np 2 or less"));
}

TEST(HostSlots, WorkersForEachHostCountInsteadOfSlots) {
  EXPECT_EQ(Filled("a:4,b:2", {.workers_per_host = 2}), "a=2 b=2");
  EXPECT_EQ(Filled("a:4,b:4,c:4", {.workers = 3, .workers_per_host = 2}), "a=2 b=1");
  EXPECT_EQ(Filled("a:1,b:1", {.workers_per_host = 3, .oversubscribe = true}), "a=3 b=3");
  EXPECT_EQ(Filled("a,b", {.workers_per_host = 3}), "a=3 b=3");  // nobody gave them a number of slots
  EXPECT_THAT(Filled("a:4,b:1", {.workers_per_host = 2}),
              HasSubstr("--nproc-per-node 2, but b has 1 slot; use --nproc-per-node 1 or less"));
  EXPECT_THAT(Filled("a:4,b:4", {.workers = 5, .workers_per_host = 2}),
              HasSubstr("-np 5 is more than --nproc-per-node 2 on 2 hosts"));
}

// The same counts as mpirun's for --map-by node: tests/unit/placement/mpirun_test.cc has the order.
TEST(HostSlots, ByNodeAllHostsGetTheirShare) {
  const HostWishes by_node = {.fill = HostFill::kNode};
  const auto filled = [&by_node](absl::string_view hosts, int64_t workers, bool oversubscribe = false) {
    HostWishes wishes = by_node;
    wishes.workers = workers;
    wishes.oversubscribe = oversubscribe;
    return Filled(hosts, wishes);
  };
  EXPECT_EQ(filled("a:4,b:4", 4), "a=2 b=2");
  EXPECT_EQ(filled("a:4,b:4", 5), "a=3 b=2");
  EXPECT_EQ(filled("a:1,b:5,c:5", 7), "a=1 b=3 c=3");
  EXPECT_EQ(filled("a:4,b:4,c:4", 2), "a=1 b=1");
  EXPECT_EQ(filled("a:4,b:2", 0), "a=4 b=2");
  EXPECT_EQ(filled("a:1,b:1", 5, true), "a=3 b=2");
  EXPECT_THAT(filled("a:1,b:1", 5), HasSubstr("add --oversubscribe"));
}

TEST(HostSlots, APatternFillsEachHostToItsNumber) {
  const auto filled = [](absl::string_view hosts, int64_t workers, int64_t per_host) {
    return Filled(hosts, {.workers = workers, .fill = HostFill::kPattern, .per_host = per_host});
  };
  EXPECT_EQ(filled("a:4,b:4", 2, 1), "a=1 b=1");
  EXPECT_EQ(filled("a:4,b:4,c:4", 3, 2), "a=2 b=1");
  EXPECT_THAT(filled("a:4,b:4", 3, 1), HasSubstr("-np 3 is more than 1 on each of 2 hosts; use -np 2 or less"));
  EXPECT_THAT(filled("a:4,b:1", 4, 2), HasSubstr("2 workers are to run on b, which has 1 slot"));
}

TEST(HostSlots, WhatHangsOnTheMachinesNeedsThemAll) {
  EXPECT_EQ(Filled("a:4,b:3", {.workers = 2, .fill = HostFill::kEvery}), "a=4 b=3");
}

TEST(HostSlots, RefusesMoreWorkersThanSlotsWithTheRemedies) {
  EXPECT_THAT(Filled("a:2,b:2", {.workers = 5}),
              AllOf(HasSubstr("-np 5 asks for more workers than the hosts have slots (4 on 2 hosts); use -np 4 or less"),
                    HasSubstr("add --oversubscribe")));
  EXPECT_THAT(Filled("a:1", {.workers = 2}), HasSubstr("than a has slots (1)"));
  EXPECT_THAT(Filled("a:1", {.hosts = 2}), HasSubstr("--nodes 2, but the list holds 1 host; name more"));
}

}  // namespace
}  // namespace muster

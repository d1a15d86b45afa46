#include "launcher/mpi/pmi_table.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "launcher/mpi/pmi_line.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// `nodes[rank]` is where each rank is; this node is `own`.
MpiWorld WorldOf(const std::vector<uint32_t>& nodes, uint32_t own) {
  MpiWorld world;
  world.job_id = "0123456789abcdef";
  world.generation = 3;
  world.node = own;
  std::map<uint32_t, uint32_t> local;
  for (const uint32_t node : nodes) {
    world.places.push_back({node, local[node]++, node % 2});
    while (world.nodes.size() <= node) world.nodes.push_back(static_cast<uint32_t>(world.nodes.size()));
  }
  world.application_workers = {static_cast<uint32_t>(nodes.size())};
  return world;
}

// "RANK LINE" of each reply, "drop RANK: WHY", "joined RANK", ...
std::vector<std::string> TextOf(const PmiTable::Actions& actions) {
  std::vector<std::string> texts;
  for (const PmiTable::Action& action : actions) {
    if (const auto* reply = std::get_if<PmiTable::Reply>(&action)) texts.push_back(absl::StrCat(reply->rank, " ", reply->line));
    if (const auto* drop = std::get_if<PmiTable::Drop>(&action))
      texts.push_back(absl::StrCat("drop ", drop->rank, ": ", drop->why));
    if (const auto* one = std::get_if<PmiTable::Joined>(&action)) texts.push_back(absl::StrCat("joined ", one->rank));
    if (const auto* one = std::get_if<PmiTable::Left>(&action)) texts.push_back(absl::StrCat("left ", one->rank));
    if (const auto* one = std::get_if<PmiTable::Aborted>(&action))
      texts.push_back(absl::StrCat("aborted ", one->rank, " ", one->exit_code));
    if (const auto* one = std::get_if<PmiTable::Unsupported>(&action)) texts.push_back(absl::StrCat("unsupported ", one->what));
    if (const auto* one = std::get_if<PmiTable::Exchange>(&action)) texts.push_back(absl::StrCat("exchange ", one->name));
  }
  return texts;
}

constexpr char kName[] = "muster-30313233343536373839616263646566-3";

TEST(PmiTable, AnswersWhatMpichAsksInItsOrder) {
  PmiTable table(WorldOf({0, 0}, 0));
  EXPECT_THAT(TextOf(table.Line(1, "cmd=init pmi_version=1 pmi_subversion=1")),
              ElementsAre("joined 1", "1 cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0"));
  EXPECT_THAT(TextOf(table.Line(1, "cmd=get_maxes")), ElementsAre("1 cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024"));
  EXPECT_THAT(TextOf(table.Line(1, "cmd=get_appnum")), ElementsAre("1 cmd=appnum appnum=0"));
  EXPECT_THAT(TextOf(table.Line(1, "cmd=get_my_kvsname")), ElementsAre(absl::StrCat("1 cmd=my_kvsname kvsname=", kName)));
  EXPECT_THAT(TextOf(table.Line(1, "cmd=get_universe_size")), ElementsAre("1 cmd=universe_size size=2"));
  EXPECT_THAT(TextOf(table.Line(1, absl::StrCat("cmd=get kvsname=", kName, " key=PMI_process_mapping"))),
              ElementsAre("1 cmd=get_result rc=0 msg=success value=(vector,(0,1,2))"));
  EXPECT_THAT(TextOf(table.Line(1, absl::StrCat("cmd=put kvsname=", kName, " key=a value=b"))),
              ElementsAre("1 cmd=put_result rc=0 msg=success"));
  EXPECT_THAT(TextOf(table.Line(1, "cmd=barrier_in")), IsEmpty());
  EXPECT_THAT(TextOf(table.Line(0, "cmd=barrier_in")), ElementsAre("0 cmd=barrier_out", "1 cmd=barrier_out"));
  EXPECT_THAT(TextOf(table.Line(0, absl::StrCat("cmd=get kvsname=", kName, " key=a"))),
              ElementsAre("0 cmd=get_result rc=0 msg=success value=b"));
  EXPECT_THAT(TextOf(table.Line(0, "cmd=finalize")), ElementsAre("left 0", "0 cmd=finalize_ack"));
  EXPECT_THAT(TextOf(table.Line(1, "cmd=abort exitcode=9")), ElementsAre("aborted 1 9"));
}

TEST(PmiTable, KeysCrossNodesWithTheBarrier) {
  PmiTable first(WorldOf({0, 1, 1}, 0)), second(WorldOf({0, 1, 1}, 1));
  first.Line(0, absl::StrCat("cmd=put kvsname=", kName, " key=a value=of0"));
  second.Line(2, absl::StrCat("cmd=put kvsname=", kName, " key=b value=of2"));
  EXPECT_THAT(TextOf(second.Line(1, absl::StrCat("cmd=get kvsname=", kName, " key=a"))), ElementsAre(HasSubstr("rc=-1")));
  const auto from_first = first.Line(0, "cmd=barrier_in");
  EXPECT_THAT(TextOf(second.Line(1, "cmd=barrier_in")), IsEmpty());
  const auto from_second = second.Line(2, "cmd=barrier_in");
  EXPECT_THAT(TextOf(from_first), ElementsAre("exchange pmi-1"));
  EXPECT_THAT(TextOf(from_second), ElementsAre("exchange pmi-1"));
  const std::vector<std::string> parts = {std::get<PmiTable::Exchange>(from_first[0]).data,
                                          std::get<PmiTable::Exchange>(from_second[0]).data};
  EXPECT_THAT(TextOf(first.Exchanged(parts)), ElementsAre("0 cmd=barrier_out"));
  EXPECT_THAT(TextOf(second.Exchanged(parts)), ElementsAre("1 cmd=barrier_out", "2 cmd=barrier_out"));
  EXPECT_THAT(TextOf(first.Line(0, absl::StrCat("cmd=get kvsname=", kName, " key=b"))), ElementsAre(HasSubstr("value=of2")));
  // What was given once is not given again.
  const auto again = first.Line(0, "cmd=barrier_in");
  EXPECT_THAT(TextOf(again), ElementsAre("exchange pmi-2"));
  EXPECT_THAT(std::get<PmiTable::Exchange>(again[0]).data, IsEmpty());
}

TEST(PmiTable, AnExchangeThatFailsLetsNobodyWait) {
  PmiTable table(WorldOf({0, 0, 1}, 0));
  table.Line(0, "cmd=barrier_in");
  table.Line(1, "cmd=barrier_in");
  EXPECT_THAT(TextOf(table.NotExchanged("no way")), ElementsAre("drop 0: no way", "drop 1: no way"));
  table.Line(0, "cmd=barrier_in");
  table.Line(1, "cmd=barrier_in");
  EXPECT_THAT(TextOf(table.Exchanged({"\xff\xff"})), SizeIs(2));
  EXPECT_THAT(TextOf(table.Exchanged({})), IsEmpty());  // none is open
}

TEST(PmiTable, WhoBreaksTheProtocolIsDropped) {
  PmiTable table(WorldOf({0, 0}, 0));
  EXPECT_THAT(TextOf(table.Line(0, "nonsense")), ElementsAre(HasSubstr("drop 0: ")));
  EXPECT_THAT(TextOf(table.Line(0, "cmd=dance")), ElementsAre("drop 0: the unknown command dance"));
  EXPECT_THAT(TextOf(table.Line(0, "cmd=init pmi_version=2 pmi_subversion=0")),
              ElementsAre(HasSubstr("rc=-1"), HasSubstr("muster speaks version 1")));
  table.Line(0, "cmd=barrier_in");
  EXPECT_THAT(TextOf(table.Line(0, "cmd=barrier_in")), ElementsAre(HasSubstr("from within a barrier")));
}

TEST(PmiTable, WhatIsTooLongOrNotItsOwnIsRefused) {
  PmiTable table(WorldOf({0}, 0));
  const std::string put = absl::StrCat("cmd=put kvsname=", kName, " key=");
  EXPECT_THAT(TextOf(table.Line(0, "cmd=put kvsname=other key=a value=b")),
              ElementsAre(HasSubstr("rc=-1 msg=kvs_other_not_found")));
  EXPECT_THAT(TextOf(table.Line(0, put + std::string(kPmiKeyBytesMax + 1, 'k') + " value=v")),
              ElementsAre(HasSubstr("too_long")));
  EXPECT_THAT(TextOf(table.Line(0, put + "k value=" + std::string(kPmiValueBytesMax + 1, 'v'))),
              ElementsAre(HasSubstr("too_long")));
  EXPECT_THAT(TextOf(table.Line(0, put + "PMI_process_mapping value=v")), ElementsAre(HasSubstr("refused")));
  EXPECT_THAT(TextOf(table.Line(0, "mcmd=spawn")), ElementsAre("unsupported MPI_Comm_spawn", HasSubstr("drop 0")));
}

TEST(PmiTable, ANodeMayHoldSoMuchAndNoMore) {
  PmiTable table(WorldOf({0}, 0));
  const std::string value(kPmiValueBytesMax, 'v');
  bool refused = false;
  for (size_t i = 0; i <= PmiTable::kBytesMax / kPmiValueBytesMax && !refused; ++i) {
    refused = TextOf(table.Line(0, absl::StrCat("cmd=put kvsname=", kName, " key=", i, " value=", value)))[0].find("refused") !=
              std::string::npos;
  }
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace muster

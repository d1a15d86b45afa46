// What nodes of a generation give each other: the coordinator's table alone, and agents' sides through it.
#include <gmock/gmock.h>

#include <map>
#include <memory>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "launcher/exchange/bounds.h"
#include "launcher/exchange/exchange_table.h"
#include "launcher/exchange/node_exchange.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// `ranks[node]` ranks on each node, one after the other.
v1::Members MembersOf(const std::map<uint32_t, int>& ranks) {
  v1::Members members;
  uint32_t rank = 0;
  for (const auto& [node, count] : ranks) {
    for (int i = 0; i < count; ++i) {
      v1::Place& place = *members.add_places();
      place.set_rank(rank++);
      place.set_node(node);
    }
  }
  return members;
}

v1::AgentMessage Contribution(uint64_t generation, const std::string& name, const std::string& data,
                              const std::vector<uint32_t>& nodes = {}) {
  v1::AgentMessage message;
  message.set_generation(generation);
  message.mutable_contribution()->set_name(name);
  message.mutable_contribution()->set_data(data);
  message.mutable_contribution()->mutable_nodes()->Add(nodes.begin(), nodes.end());
  return message;
}

class ExchangeTableTest : public ::testing::Test {
 protected:
  std::vector<ExchangeTable::Send> Take(uint32_t node, const v1::AgentMessage& message, uint64_t generation = 1) {
    return table_.Take(node, generation, members_, message);
  }
  // The refusal that every one of `sends` carries.
  static std::string RefusalIn(const std::vector<ExchangeTable::Send>& sends) {
    std::set<std::string> told;
    for (const auto& send : sends) told.insert(send.message.gathered().refused());
    return told.size() == 1 ? *told.begin() : "";
  }

  // "NODE of GATHER by RANK" of each one told that somebody waits for it; other sends make it fail.
  static std::vector<std::string> AwaitedIn(const std::vector<ExchangeTable::Send>& sends) {
    std::vector<std::string> told;
    for (const auto& send : sends) {
      EXPECT_TRUE(send.message.has_awaited()) << send.message.DebugString();
      const v1::Awaited& awaited = send.message.awaited();
      told.push_back(absl::StrCat(send.node, " of ", awaited.name(), " by ", awaited.rank()));
    }
    return told;
  }

  v1::Members members_ = MembersOf({{2, 2}, {5, 1}, {7, 3}});
  ExchangeTable table_;
};

TEST_F(ExchangeTableTest, TellsOnceWhoIsWaitedFor) {
  v1::AgentMessage first = Contribution(1, "a", "x");
  first.mutable_contribution()->set_rank(2);
  const auto sends = Take(5, first);
  EXPECT_THAT(AwaitedIn(sends), ElementsAre("2 of a by 2", "7 of a by 2"));
  for (const auto& send : sends) EXPECT_EQ(send.message.generation(), 1u);
  EXPECT_THAT(Take(2, Contribution(1, "a", "x")), IsEmpty());
  EXPECT_THAT(AwaitedIn(Take(7, Contribution(1, "some", "x", {2, 7}))), ElementsAre("2 of some by 0"));
  EXPECT_THAT(RefusalIn(Take(5, Contribution(1, "refused", "x", {2, 3, 5}))), HasSubstr("take no part"));
}

TEST_F(ExchangeTableTest, TellsAllPartsByNodeOnceTheLastHasCome) {
  EXPECT_THAT(AwaitedIn(Take(7, Contribution(1, "a", "seven"))), SizeIs(2));
  EXPECT_THAT(Take(2, Contribution(1, "a", "two")), IsEmpty());
  const auto sends = Take(5, Contribution(1, "a", ""));
  ASSERT_THAT(sends, SizeIs(3));
  for (const auto& send : sends) {
    EXPECT_EQ(send.message.generation(), 1u);
    const v1::Gathered& gathered = send.message.gathered();
    EXPECT_EQ(gathered.name(), "a");
    ASSERT_EQ(gathered.parts_size(), 3);
    EXPECT_EQ(gathered.parts(0).node(), 2u);
    EXPECT_EQ(gathered.parts(0).data(), "two");
    EXPECT_EQ(gathered.parts(1).data(), "");
    EXPECT_EQ(gathered.parts(2).data(), "seven");
  }
  EXPECT_EQ(sends[1].node, 5u);
  EXPECT_EQ(table_.gathers_open(), 0u);
}

TEST_F(ExchangeTableTest, GathersOfSomeNodesAndOfOtherNamesGoSideBySide) {
  EXPECT_THAT(AwaitedIn(Take(2, Contribution(1, "some", "x", {2, 7}))), SizeIs(1));
  EXPECT_THAT(AwaitedIn(Take(2, Contribution(1, "all", "y"))), SizeIs(2));
  EXPECT_THAT(Take(7, Contribution(1, "some", "z", {2, 7})), SizeIs(2));
  EXPECT_EQ(table_.gathers_open(), 1u);
}

TEST_F(ExchangeTableTest, AnotherGenerationForgetsWhatIsOpenAndDropsWhatIsOld) {
  EXPECT_THAT(AwaitedIn(Take(2, Contribution(1, "a", "old"))), SizeIs(2));
  EXPECT_THAT(AwaitedIn(Take(2, Contribution(2, "a", "new"), 2)), SizeIs(2));
  EXPECT_THAT(Take(5, Contribution(1, "a", "late"), 2), IsEmpty());
  EXPECT_EQ(table_.dropped(), 1u);
  EXPECT_THAT(Take(5, Contribution(2, "a", "new"), 2), IsEmpty());
  const auto sends = Take(7, Contribution(2, "a", "new"), 2);
  ASSERT_THAT(sends, SizeIs(3));
  EXPECT_EQ(sends[0].message.gathered().parts(0).data(), "new");
}

TEST_F(ExchangeTableTest, ANodeWithoutAPlaceIsNotHeard) {
  EXPECT_THAT(Take(3, Contribution(1, "a", "x")), IsEmpty());
  EXPECT_EQ(table_.dropped(), 1u);
  EXPECT_EQ(table_.gathers_open(), 0u);
}

TEST_F(ExchangeTableTest, WhatCannotBeIsRefusedToAllThatWouldWait) {
  EXPECT_THAT(RefusalIn(Take(2, Contribution(1, "a", "x", {2, 3}))), HasSubstr("take no part"));
  EXPECT_THAT(RefusalIn(Take(2, Contribution(1, "b", "x", {5, 7}))), HasSubstr("take no part"));  // not the sender
  EXPECT_THAT(RefusalIn(Take(2, Contribution(1, std::string(kGatherNameBytesMax + 1, 'n'), "x"))),
              HasSubstr("a name of 257 bytes"));
  const auto too_long = Take(5, Contribution(1, "c", std::string(kContributionBytesMax + 1, 'x')));
  EXPECT_THAT(too_long, SizeIs(3));
  EXPECT_THAT(RefusalIn(too_long), HasSubstr("1048577 bytes of node 5"));
  // Who comes later does not wait for ever.
  EXPECT_THAT(RefusalIn(Take(7, Contribution(1, "c", "x"))), HasSubstr("refused before"));
  Take(2, Contribution(1, "d", "x"));
  EXPECT_THAT(RefusalIn(Take(2, Contribution(1, "d", "x"))), HasSubstr("twice"));
  Take(2, Contribution(1, "e", "x", {2, 5}));
  const auto disagree = Take(7, Contribution(1, "e", "x", {2, 5, 7}));
  EXPECT_THAT(disagree, SizeIs(3));
  EXPECT_THAT(RefusalIn(disagree), HasSubstr("do not agree"));
  EXPECT_EQ(table_.gathers_open(), 0u);
}

TEST_F(ExchangeTableTest, ManyOpenGathersHaveABound) {
  for (size_t i = 0; i < kGathersMax; ++i) {
    EXPECT_THAT(AwaitedIn(Take(2, Contribution(1, absl::StrCat("g", i), "x"))), SizeIs(2));
  }
  EXPECT_THAT(RefusalIn(Take(2, Contribution(1, "one more", "x"))), HasSubstr("256 others"));
  EXPECT_THAT(Take(5, Contribution(1, "g0", "x")), IsEmpty());
  EXPECT_THAT(Take(7, Contribution(1, "g0", "x")), SizeIs(3));
  EXPECT_THAT(AwaitedIn(Take(2, Contribution(1, "now there is room", "x"))), SizeIs(2));
}

TEST_F(ExchangeTableTest, AQuestionGoesToTheRanksNodeAndItsAnswerBack) {
  v1::AgentMessage question;
  question.set_generation(1);
  question.mutable_rank_question()->set_id(9);
  question.mutable_rank_question()->set_rank(2);  // node 5's
  question.mutable_rank_question()->set_data("?");
  const auto asked = Take(7, question);
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(asked[0].node, 5u);
  EXPECT_EQ(asked[0].message.rank_question().node(), 7u);

  v1::AgentMessage answer;
  answer.set_generation(1);
  answer.mutable_rank_answer()->set_id(9);
  answer.mutable_rank_answer()->set_node(7);
  answer.mutable_rank_answer()->set_data("!");
  EXPECT_THAT(Take(2, answer), IsEmpty());  // nobody asked it
  const auto answered = Take(5, answer);
  ASSERT_THAT(answered, SizeIs(1));
  EXPECT_EQ(answered[0].node, 7u);
  EXPECT_EQ(answered[0].message.rank_answer().data(), "!");
  EXPECT_THAT(Take(5, answer), IsEmpty());  // once

  question.mutable_rank_question()->set_rank(6);
  const auto nobody = Take(7, question);
  ASSERT_THAT(nobody, SizeIs(1));
  EXPECT_EQ(nobody[0].node, 7u);
  EXPECT_THAT(nobody[0].message.rank_answer().refused(), HasSubstr("no rank 6"));
}

// Several nodes with a table between them; what is sent arrives in an order that is drawn, but in order for each sender.
class Nodes {
 public:
  explicit Nodes(const std::map<uint32_t, int>& ranks) : members_(MembersOf(ranks)) {
    std::vector<uint32_t> all;
    for (const auto& [node, count] : ranks) all.push_back(node);
    for (const uint32_t node : all) {
      exchanges_[node] = std::make_unique<NodeExchange>([this, node](v1::AgentMessage message) {
        message.set_generation(generation_);
        to_table_[node].push_back(std::move(message));
      });
      exchanges_[node]->Begin(generation_, node, all);
      exchanges_[node]->Listen();
    }
  }
  NodeExchange& operator[](uint32_t node) { return *exchanges_.at(node); }
  void Deliver(std::mt19937* random) {
    while (true) {
      std::vector<uint32_t> senders;
      for (const auto& [node, messages] : to_table_) {
        if (!messages.empty()) senders.push_back(node);
      }
      if (senders.empty()) return;
      const uint32_t node = senders[(*random)() % senders.size()];
      const v1::AgentMessage message = to_table_[node].front();
      to_table_[node].erase(to_table_[node].begin());
      for (ExchangeTable::Send& send : table_.Take(node, generation_, members_, message)) {
        exchanges_.at(send.node)->Take(std::move(send.message));
      }
    }
  }

 private:
  const v1::Members members_;
  uint64_t generation_ = 4;
  ExchangeTable table_;
  std::map<uint32_t, std::unique_ptr<NodeExchange>> exchanges_;
  std::map<uint32_t, std::vector<v1::AgentMessage>> to_table_;
};

TEST(NodeExchange, EveryNodeGetsWhatEveryNodeGave) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  Nodes nodes({{0, 1}, {3, 2}, {4, 1}, {9, 4}});
  int done = 0;
  for (int gather = 0; gather < 20; ++gather) {
    for (const uint32_t node : {0u, 3u, 4u, 9u}) {
      nodes[node].Gather(absl::StrCat("g", gather), {}, 0, absl::StrCat(gather, " of ", node), [&, gather](auto parts) {
        ASSERT_TRUE(parts.ok()) << parts.status();
        NodeExchange::Parts wanted;
        for (const uint32_t from : {0u, 3u, 4u, 9u}) wanted.emplace_back(from, absl::StrCat(gather, " of ", from));
        EXPECT_EQ(*parts, wanted);
        ++done;
      });
    }
  }
  nodes.Deliver(&random);
  EXPECT_EQ(done, 80);
}

TEST(NodeExchange, AloneNothingIsSent) {
  NodeExchange alone([](const v1::AgentMessage&) { FAIL() << "nobody to send to"; });
  alone.Begin(1, 6, {6});
  bool done = false;
  alone.Gather("a", {}, 0, "x", [&](auto parts) {
    ASSERT_TRUE(parts.ok());
    EXPECT_EQ(*parts, (NodeExchange::Parts{{6, "x"}}));
    done = true;
  });
  EXPECT_TRUE(done);
}

TEST(NodeExchange, QuestionsAreAnsweredByTheRanksAgent) {
  std::mt19937 random(1);
  Nodes nodes({{0, 1}, {1, 2}});
  nodes[1].OnQuestion([](uint32_t asker, uint32_t rank, const std::string& data, NodeExchange::Reply reply) {
    EXPECT_EQ(asker, 0u);
    if (rank == 2) return reply(absl::NotFoundError("rank 2 has nothing"));
    reply(absl::StrCat(data, " of ", rank));
  });
  std::string answer, refusal, none;
  nodes[0].Ask(1, "card", [&](auto got) { answer = got.value_or("none"); });
  nodes[0].Ask(2, "card", [&](const auto& got) { refusal = std::string(got.status().message()); });
  nodes[1].Ask(0, "card", [&](const auto& got) { none = std::string(got.status().message()); });
  nodes.Deliver(&random);
  EXPECT_EQ(answer, "card of 1");
  EXPECT_EQ(refusal, "rank 2 has nothing");
  EXPECT_THAT(none, HasSubstr("nothing here knows it"));
}

TEST(NodeExchange, IsToldWhoWaitsForIt) {
  std::mt19937 random(1);
  Nodes nodes({{0, 1}, {1, 2}});
  std::vector<std::string> told;
  for (const uint32_t node : {0u, 1u}) {
    nodes[node].OnAwaited([&told, node](const std::string& name, uint32_t rank) {
      told.push_back(absl::StrCat(node, ": ", name, " by ", rank));
    });
  }
  nodes[1].Gather("g", {}, 2, "x", [](const auto&) { FAIL() << "one has given nothing"; });
  nodes.Deliver(&random);
  EXPECT_THAT(told, ElementsAre("0: g by 2"));
}

v1::CoordinatorMessage QuestionOf(uint64_t generation, uint64_t id, const std::string& data) {
  v1::CoordinatorMessage message;
  message.set_generation(generation);
  message.mutable_rank_question()->set_id(id);
  message.mutable_rank_question()->set_rank(3);
  message.mutable_rank_question()->set_node(5);
  message.mutable_rank_question()->set_data(data);
  return message;
}

// Other nodes may know the members, and begin, before this one.
TEST(NodeExchange, WhatComesBeforeItHasBegunWaitsAndHasABound) {
  std::vector<std::string> sent;
  NodeExchange exchange([&sent](const v1::AgentMessage& message) {
    const v1::RankAnswer& answer = message.rank_answer();
    sent.push_back(absl::StrCat(answer.id(), " to ", answer.node(), ": ", answer.data(), answer.refused()));
  });
  v1::CoordinatorMessage awaited;
  awaited.set_generation(2);
  awaited.mutable_awaited()->set_name("g");
  exchange.Take(awaited);
  exchange.Take(QuestionOf(1, 7, "of a generation that is over"));
  exchange.Take(QuestionOf(2, 8, "early"));
  exchange.Take(QuestionOf(2, 9, std::string(kHeldBytesMax, 'x')));
  EXPECT_THAT(sent, ElementsAre("9 to 5: it has been asked too much before it had begun"));
  exchange.Begin(2, 0, {0, 1});
  exchange.Take(QuestionOf(2, 10, "still early"));
  int times_awaited = 0;
  exchange.OnAwaited([&](const std::string&, uint32_t) { ++times_awaited; });
  exchange.OnQuestion([](uint32_t, uint32_t rank, const std::string& data, const NodeExchange::Reply& reply) {
    reply(absl::StrCat(data, " of ", rank));
  });
  EXPECT_THAT(sent, SizeIs(1));
  exchange.Listen();
  EXPECT_EQ(times_awaited, 1);
  EXPECT_THAT(sent, ElementsAre(HasSubstr("9 to 5"), "8 to 5: early of 3", "10 to 5: still early of 3"));
  // What waited for a generation that never began is forgotten with it.
  exchange.End();
  exchange.Take(QuestionOf(3, 11, "x"));
  exchange.End();
  exchange.Begin(3, 0, {0, 1});
  exchange.Listen();
  EXPECT_THAT(sent, SizeIs(3));
}

TEST(NodeExchange, WhatIsTooLongOrOutOfTimeIsRefusedHere) {
  NodeExchange exchange([](const v1::AgentMessage&) {});
  absl::Status status;
  const auto note = [&](auto parts) { status = parts.status(); };
  exchange.Gather("a", {}, 0, "x", note);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  exchange.Begin(1, 0, {0, 1});
  exchange.Gather("a", {}, 0, std::string(kContributionBytesMax + 1, 'x'), note);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("1048577"));
}

}  // namespace
}  // namespace muster

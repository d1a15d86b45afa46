// Real worker processes under the worker ports of several nodes: on one machine, each with an address of its own.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "launcher/agent/data_listener.h"
#include "tests/support/local_agent.h"

namespace muster {
namespace {

using testing::LocalAgent;
using Event = LocalAgent::Event;

bool ExitedWell(int wait_status) { return WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0; }

// Node n has the address 127.0.0.(1 + n) and an agent of its own.
class Nodes {
 public:
  explicit Nodes(std::vector<uint32_t> ranks_of_node) : ranks_of_node_(std::move(ranks_of_node)) {
    for (size_t node = 0; node < ranks_of_node_.size(); ++node) {
      agents_.push_back(std::make_unique<LocalAgent>());
      for (uint32_t i = 0; i < ranks_of_node_[node]; ++i) places_.push_back({static_cast<uint32_t>(node), i});
    }
  }

  uint32_t world_size() const { return static_cast<uint32_t>(places_.size()); }
  LocalAgent& agent_of(uint32_t rank) { return *agents_[places_[rank].node]; }
  uint32_t slot_of(uint32_t rank) const { return places_[rank].local_rank; }
  const std::vector<v1::PeerEntry>& peers() const { return peers_; }

  // Starts all ranks (`arguments` by rank) and begins `generation` everywhere.
  void Begin(const std::function<std::vector<std::string>(uint32_t rank)>& arguments, uint64_t generation = 1) {
    peers_.clear();
    pids_.clear();
    for (uint32_t rank = 0; rank < world_size(); ++rank) {
      const Place& place = places_[rank];
      const std::string address = absl::StrCat("127.0.0.", 1 + place.node);
      DataListener listener = OpenDataListener(address).value();
      v1::PeerEntry peer = {};
      peer.node = place.node;
      peer.local_rank = place.local_rank;
      peer.slot = place.local_rank;
      peer.spawn = static_cast<uint32_t>(generation);
      peer.port = listener.port;
      peer.family = 4;
      ::inet_pton(AF_INET, address.c_str(), peer.address);
      std::strcpy(peer.host, absl::StrCat("node", place.node).c_str());
      peers_.push_back(peer);
      std::vector<std::string> argv = arguments(rank);
      argv.insert(argv.begin(), SESSION_WORKER);
      pids_.push_back(agent_of(rank).Start(peer.slot, std::move(argv), std::move(listener.socket)));
    }
    for (size_t node = 0; node < agents_.size(); ++node)
      agents_[node]->BeginNode(static_cast<uint32_t>(node), peers_, generation);
  }

  void End(const std::string& reason) {
    for (const auto& agent : agents_) {
      agent->Do([&](WorkerPort& port) { port.EndGeneration(reason); });
    }
  }

  std::string Line(uint32_t rank) { return agent_of(rank).Line(slot_of(rank)); }
  std::string Output(uint32_t rank) { return agent_of(rank).Output(slot_of(rank)); }
  int Join(uint32_t rank) { return agent_of(rank).Join(slot_of(rank)); }
  pid_t pid(uint32_t rank) const { return pids_[rank]; }
  void Kill(uint32_t rank) { ::kill(pid(rank), SIGKILL); }

 private:
  struct Place {
    uint32_t node = 0;
    uint32_t local_rank = 0;
  };
  const std::vector<uint32_t> ranks_of_node_;
  std::vector<Place> places_;  // by rank
  std::vector<v1::PeerEntry> peers_;
  std::vector<pid_t> pids_;
  std::vector<std::unique_ptr<LocalAgent>> agents_;
};

class Shapes : public ::testing::TestWithParam<std::vector<uint32_t>> {};

TEST_P(Shapes, AllReduceAcrossNodesAndLeave) {
  Nodes nodes(GetParam());
  nodes.Begin([](uint32_t) { return std::vector<std::string>{"reduce", "5"}; });
  for (uint32_t rank = 0; rank < nodes.world_size(); ++rank) {
    EXPECT_TRUE(ExitedWell(nodes.Join(rank)));
    EXPECT_EQ(nodes.Output(rank), absl::StrCat("ok rank ", rank, " of ", nodes.world_size(), "\n"));
    nodes.agent_of(rank).Await(Event::kLeft, nodes.slot_of(rank));
    EXPECT_EQ(nodes.agent_of(rank).Count(Event::kLost), 0u);
    EXPECT_EQ(nodes.agent_of(rank).Count(Event::kBlamed), 0u);
    EXPECT_EQ(nodes.agent_of(rank).Count(Event::kRefused), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Session, Shapes,
                         ::testing::Values(std::vector<uint32_t>{1, 1}, std::vector<uint32_t>{2, 2},
                                           std::vector<uint32_t>{1, 2, 1}));

// Rank 2, on the second of two nodes, dies; all hear of it by its number in the world, and the next generation works.
TEST(Nodes, ADeathIsHeardOnEveryNodeAndTheNextGenerationIsWhole) {
  Nodes nodes({2, 2});
  constexpr uint32_t kVictim = 2;
  for (uint64_t generation = 1; generation <= 4; ++generation) {
    const std::string where = generation > 2 ? "_in_split" : "";
    nodes.Begin(
        [&where](uint32_t rank) {
          return rank == kVictim ? std::vector<std::string>{"victim" + where, "1"} : std::vector<std::string>{"block" + where};
        },
        generation);
    for (uint32_t rank = 0; rank < 4; ++rank) ASSERT_EQ(nodes.Line(rank), "ready") << "rank " << rank;
    nodes.Kill(kVictim);
    for (const uint32_t rank : {0u, 1u, 3u}) {
      const std::string heard = nodes.Line(rank);
      EXPECT_TRUE(absl::StrContains(heard, "UNAVAILABLE: rank 2 (")) << "rank " << rank << " heard " << heard;
      EXPECT_TRUE(ExitedWell(nodes.Join(rank)));
      const uint32_t slot = nodes.slot_of(rank);
      const Event blamed = nodes.agent_of(rank).Await(
          [&](const Event& event) { return event.kind == Event::kBlamed && event.slot == slot && event.spawn == generation; });
      EXPECT_EQ(blamed.blamed_rank, kVictim);
      EXPECT_EQ(blamed.reason, v1::AbortReason::kPeerLost);
    }
    EXPECT_EQ(WTERMSIG(nodes.Join(kVictim)), SIGKILL);
    nodes.End("a rank is lost");
  }
  nodes.Begin([](uint32_t) { return std::vector<std::string>{"reduce", "2"}; }, 5);
  for (uint32_t rank = 0; rank < 4; ++rank) {
    EXPECT_TRUE(ExitedWell(nodes.Join(rank)));
    EXPECT_EQ(nodes.Output(rank), absl::StrCat("ok rank ", rank, " of 4\n"));
  }
}

// Rank 1 never joins: the others wait for its connections until they are told that nothing will come of it.
TEST(Nodes, TheEndOfTheGenerationReachesThoseThatAreConnecting) {
  Nodes nodes({1, 1});
  nodes.Begin([](uint32_t rank) {
    return rank == 1 ? std::vector<std::string>{"nothing"} : std::vector<std::string>{"reduce", "1"};
  });
  nodes.agent_of(0).Await(Event::kJoined, 0);
  nodes.Join(1);
  nodes.End("rank 1 never came");
  EXPECT_FALSE(ExitedWell(nodes.Join(0)));
  const std::string heard = nodes.Output(0);
  EXPECT_TRUE(absl::StrContains(heard, "rank 1 never came")) << heard;
  EXPECT_EQ(nodes.agent_of(0).Count(Event::kLost), 0u) << "an error is no death";
}

TEST(Nodes, AStrangerIsTurnedAwayAndCounted) {
  Nodes nodes({1, 1});
  nodes.Begin([](uint32_t) { return std::vector<std::string>{"block"}; });
  for (uint32_t rank = 0; rank < 2; ++rank) ASSERT_EQ(nodes.Line(rank), "ready");
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  std::memcpy(&address.sin_addr, nodes.peers()[0].address, 4);
  address.sin_port = htons(nodes.peers()[0].port);
  UniqueFd stranger(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(stranger.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  constexpr char kRequest[] =
      "GET / HTTP/1.1\r\nHost: nobody\r\nUser-Agent: a browser that has lost its way to the web\r\n\r\n";
  ASSERT_GT(::send(stranger.get(), kRequest, sizeof kRequest - 1, MSG_NOSIGNAL), 0);
  const Event refused = nodes.agent_of(0).Await([](const Event& event) { return event.kind == Event::kRefused; });
  EXPECT_TRUE(absl::StrContains(refused.message, "stranger")) << refused.message;
  EXPECT_EQ(refused.count, 1u);
  char byte;
  EXPECT_LE(::recv(stranger.get(), &byte, 1, 0), 0) << "closed without a word";
  nodes.Kill(1);  // undisturbed until then
  EXPECT_TRUE(absl::StrContains(nodes.Line(0), "UNAVAILABLE: rank 1 ("));
}

// It has not destroyed the communicator: its exit says farewell there too.
TEST(Nodes, ExitInASplitIsNamedAsLeft) {
  Nodes nodes({1, 1});
  nodes.Begin([](uint32_t rank) {
    return rank == 1 ? std::vector<std::string>{"end_in_split", "exit"} : std::vector<std::string>{"block_in_split"};
  });
  ASSERT_EQ(nodes.Line(0), "ready");
  const std::string heard = nodes.Line(0);
  EXPECT_TRUE(absl::StrContains(heard, "UNAVAILABLE: rank 1 (node1) left before the others")) << heard;
}

// A child forked while the mesh is up must hold none of its connections open.
TEST(Nodes, AForkedChildKeepsNoConnection) {
  Nodes nodes({1, 1});
  nodes.Begin([](uint32_t rank) {
    return rank == 1 ? std::vector<std::string>{"victim_with_child"} : std::vector<std::string>{"block"};
  });
  for (uint32_t rank = 0; rank < 2; ++rank) ASSERT_EQ(nodes.Line(rank), "ready");
  nodes.Kill(1);
  EXPECT_TRUE(absl::StrContains(nodes.Line(0), "UNAVAILABLE: rank 1 ("));
  EXPECT_EQ(WTERMSIG(nodes.Join(1)), SIGKILL);
}

TEST(Nodes, ForkedChildrenDisturbNothing) {
  Nodes nodes({1, 2});
  nodes.Begin([](uint32_t) { return std::vector<std::string>{"fork"}; });
  for (uint32_t rank = 0; rank < 3; ++rank) {
    EXPECT_TRUE(ExitedWell(nodes.Join(rank)));
    EXPECT_EQ(nodes.Output(rank), "ok\n");
  }
}

}  // namespace
}  // namespace muster

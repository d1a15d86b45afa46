// Nodes in network namespaces: each has its own address and name, all reach each other, and the process can go on.
#include "launcher/starter/node_network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

sockaddr_in At(const std::string& address, uint16_t port) {
  sockaddr_in place = {};
  place.sin_family = AF_INET;
  place.sin_port = htons(port);
  EXPECT_EQ(::inet_pton(AF_INET, address.c_str(), &place.sin_addr), 1);
  return place;
}

std::string HostName() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

TEST(NodeNetwork, AddressesAreDistinct) {
  EXPECT_EQ(NodeNetwork::NodeAddress(0), "10.77.1.1");
  EXPECT_EQ(NodeNetwork::NodeAddress(249), "10.77.1.250");
  EXPECT_EQ(NodeNetwork::NodeAddress(250), "10.77.2.1");
  EXPECT_EQ(NodeNetwork::NodeAddress(NodeNetwork::kNodesMax - 1), "10.77.250.250");
}

TEST(NodeNetwork, JoinsNodesByTcp) {
  const std::string host_before = HostName();
  auto network = NodeNetwork::Create(2);
  if (!network.ok()) {
    EXPECT_EQ(HostName(), host_before) << "where it was";
    GTEST_SKIP() << network.status().message();
  }
  // Node 1 listens; the coordinator and node 0 connect.
  UniqueFd listener;
  uint16_t port = 0;
  ASSERT_TRUE((*network)
                  ->Inside(1,
                           [&] {
                             EXPECT_EQ(HostName(), "node1");
                             listener.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
                             sockaddr_in place = At(NodeNetwork::NodeAddress(1), 0);
                             socklen_t length = sizeof place;
                             EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&place), sizeof place), 0);
                             EXPECT_EQ(::listen(listener.get(), 4), 0);
                             ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&place), &length);
                             port = ntohs(place.sin_port);
                             return absl::OkStatus();
                           })
                  .ok());
  const auto connect_from_here = [&] {
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in place = At(NodeNetwork::NodeAddress(1), port);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&place), sizeof place) != 0) return std::string("refused");
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    const UniqueFd accepted(::accept(listener.get(), reinterpret_cast<sockaddr*>(&peer), &length));
    char text[INET_ADDRSTRLEN] = {};
    ::inet_ntop(AF_INET, &peer.sin_addr, text, sizeof text);
    return std::string(text);
  };
  EXPECT_EQ(connect_from_here(), NodeNetwork::CoordinatorAddress());
  std::string from_node_0;
  ASSERT_TRUE((*network)
                  ->Inside(0,
                           [&] {
                             from_node_0 = connect_from_here();
                             return absl::CancelledError("passed on");
                           })
                  .code() == absl::StatusCode::kCancelled);
  EXPECT_EQ(from_node_0, NodeNetwork::NodeAddress(0));
  EXPECT_NE(HostName(), "node0");
}

// The kernel keeps at most some 1024 learnt entries, of all namespaces together: 40 nodes that all talk would exceed that.
TEST(NodeNetwork, NodesKnowEachOtherWithoutAskingWhoTheyAre) {
  constexpr uint32_t kNodes = 40;
  auto network = NodeNetwork::Create(kNodes);
  if (!network.ok()) GTEST_SKIP() << network.status().message();
  uint32_t permanent = 0;
  const absl::Status counted = (*network)->Inside(kNodes - 1, [&] {
    std::ifstream table("/proc/thread-self/net/arp");
    for (std::string line; std::getline(table, line);) permanent += absl::StrContains(line, " 0x6 ") ? 1 : 0;
    return absl::OkStatus();
  });
  ASSERT_TRUE(counted.ok()) << counted.message();
  EXPECT_EQ(permanent, kNodes + 1) << "the nodes and the coordinator";
}

}  // namespace
}  // namespace muster

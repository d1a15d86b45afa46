#include "launcher/pmix/relay.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "launcher/mpi/loopback.h"

namespace muster {
namespace {

bool WaitFor(int socket, short events) {
  pollfd ready = {socket, events, 0};
  return poll(&ready, 1, 20'000) == 1;
}

bool WriteAll(int socket, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EAGAIN && WaitFor(socket, POLLOUT)) continue;
    if (sent < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// Until its end, or `bytes` of them.
std::string ReadAll(int socket, size_t bytes) {
  std::string text;
  char buffer[10'000];
  while (text.size() < bytes && WaitFor(socket, POLLIN)) {
    const ssize_t got = recv(socket, buffer, std::min(sizeof buffer, bytes - text.size()), MSG_DONTWAIT);
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

class RelayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto outside = ListenOnLoopback(), inside = ListenOnLoopback();
    ASSERT_TRUE(outside.ok() && inside.ok());
    outside_port_ = outside->port;
    inside_ = std::move(inside->socket);
    loop_ = *EventLoop::Create();
    relay_ = *Relay::Create(loop_.get(), std::move(outside->socket), inside->port,
                            [](const std::string& line) { ADD_FAILURE() << line; });
    thread_ = std::thread([this] { loop_->Run(); });
  }
  void TearDown() override {
    loop_->Quit();
    thread_.join();
    relay_.reset();
  }
  // A connection's two ends.
  std::pair<UniqueFd, UniqueFd> Connect() {
    auto client = ConnectOnLoopback(outside_port_);
    EXPECT_TRUE(client.ok());
    EXPECT_TRUE(WaitFor(inside_.get(), POLLIN));
    auto server = AcceptOwn(inside_.get());
    EXPECT_TRUE(server.ok()) << server.status();
    return {*std::move(client), *std::move(server)};
  }

  uint16_t outside_port_ = 0;
  UniqueFd inside_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Relay> relay_;
  std::thread thread_;
};

TEST_F(RelayTest, BytesGoBothWaysWholeAndInOrder) {
  std::mt19937 random(7);
  std::string up(3'000'000, '\0'), down(2'000'000, '\0');
  for (char& c : up) c = static_cast<char>(random());
  for (char& c : down) c = static_cast<char>(random());
  auto [client, server] = Connect();
  const int client_fd = client.get(), server_fd = server.get();
  std::thread writer([&] { EXPECT_TRUE(WriteAll(client_fd, up)); });
  std::thread back([&] { EXPECT_TRUE(WriteAll(server_fd, down)); });
  std::string came_down;
  std::thread reader([&] { came_down = ReadAll(client_fd, down.size()); });
  const std::string came_up = ReadAll(server_fd, up.size());
  writer.join();
  back.join();
  reader.join();
  EXPECT_TRUE(came_up == up);
  EXPECT_TRUE(came_down == down);
}

TEST_F(RelayTest, WhatWasSentBeforeTheEndArrives) {
  auto [client, server] = Connect();
  ASSERT_TRUE(WriteAll(client.get(), "last words"));
  client.Reset();
  EXPECT_EQ(ReadAll(server.get(), 1000), "last words");
  auto [other_client, other_server] = Connect();
  ASSERT_TRUE(WriteAll(other_server.get(), "bye"));
  other_server.Reset();
  EXPECT_EQ(ReadAll(other_client.get(), 1000), "bye");
}

TEST_F(RelayTest, ManyConnectionsDoNotMix) {
  std::vector<std::pair<UniqueFd, UniqueFd>> pairs;
  for (int i = 0; i < 100; ++i) pairs.push_back(Connect());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(WriteAll(pairs[i].first.get(), absl::StrCat("to ", i, "\n")));
  for (int i = 0; i < 100; ++i) {
    const std::string wanted = absl::StrCat("to ", i, "\n");
    EXPECT_EQ(ReadAll(pairs[i].second.get(), wanted.size()), wanted);
  }
}

}  // namespace
}  // namespace muster

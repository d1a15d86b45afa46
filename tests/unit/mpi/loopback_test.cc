#include "launcher/mpi/loopback.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

namespace muster {
namespace {

TEST(Loopback, AConnectionOfOurOwnIsTakenAndItsUserKnown) {
  const auto listener = ListenOnLoopback();
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_TRUE(absl::IsUnavailable(AcceptOwn(listener->socket.get()).status()));
  const auto client = ConnectOnLoopback(listener->port);
  ASSERT_TRUE(client.ok()) << client.status();
  pollfd ready = {listener->socket.get(), POLLIN, 0};
  ASSERT_EQ(poll(&ready, 1, 10'000), 1);
  const auto server = AcceptOwn(listener->socket.get());
  ASSERT_TRUE(server.ok()) << server.status();
  const auto user = PeerUser(server->get());
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(*user, geteuid());
}

// As the kernel would show it if another user had made it: the owner of a socket is whoever has made it.
TEST(Loopback, AnotherUsersConnectionIsTurnedAway) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to be another user for a moment";
  const auto listener = ListenOnLoopback();
  ASSERT_TRUE(listener.ok()) << listener.status();
  constexpr uid_t kNobody = 65534, kSomebody = 1;
  ASSERT_EQ(seteuid(kNobody), 0);
  const auto client = ConnectOnLoopback(listener->port);
  ASSERT_EQ(seteuid(0), 0);
  ASSERT_TRUE(client.ok()) << client.status();
  pollfd ready = {listener->socket.get(), POLLIN, 0};
  ASSERT_EQ(poll(&ready, 1, 10'000), 1);
  // We are root, for whom only root's are its own.
  ASSERT_EQ(seteuid(kSomebody), 0);
  const auto server = AcceptOwn(listener->socket.get());
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(server.status())) << server.status();
  EXPECT_THAT(server.status().message(), ::testing::HasSubstr("user 65534"));
}

// Whoever closes at once must not be taken for root, as which the kernel shows an end that nobody holds.
TEST(Loopback, AConnectionWhoseOtherEndIsClosedIsNobodys) {
  const auto listener = ListenOnLoopback();
  ASSERT_TRUE(listener.ok()) << listener.status();
  auto client = ConnectOnLoopback(listener->port);
  ASSERT_TRUE(client.ok()) << client.status();
  pollfd ready = {listener->socket.get(), POLLIN, 0};
  ASSERT_EQ(poll(&ready, 1, 10'000), 1);
  const auto server = AcceptOwn(listener->socket.get());
  ASSERT_TRUE(server.ok()) << server.status();
  client->Reset();
  pollfd ended = {server->get(), POLLIN, 0};
  ASSERT_EQ(poll(&ended, 1, 10'000), 1);
  EXPECT_TRUE(absl::IsNotFound(PeerUser(server->get()).status()));
}

}  // namespace
}  // namespace muster

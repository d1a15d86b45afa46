// The way to a coordinator is found among addresses that lead nowhere, to others, or to it; and its door counts the search as no
// intrusion.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/channel/coordinator_search.h"
#include "launcher/channel/front_door.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kAuthority[] = "this job's authority";

// A coordinator's door, served by a thread of its own.
class Door {
 public:
  Door(const std::string& address, const std::string& authority) : loop_(*EventLoop::Create()) {
    FrontDoor::Events events;
    events.admit = [](UniqueFd, const std::string&) {};
    events.refuse = [this](const std::string& what, const std::string&) { refused.push_back(what); };
    events.warn = [](const std::string&) {};
    events.search_answer = SearchAnswer(authority);
    auto door = FrontDoor::Listen(loop_.get(), address, 0, absl::Seconds(5), std::move(events));
    if (!door.ok()) return;
    door_ = *std::move(door);
    thread_ = std::thread([this] { loop_->Run(); });
  }
  ~Door() { Stop(); }
  void Stop() {
    if (!thread_.joinable()) return;
    loop_->Quit();
    thread_.join();
  }
  bool ok() const { return door_ != nullptr; }
  std::string At(const std::string& address) const { return absl::StrCat(address, ":", door_->port()); }

  std::vector<std::string> refused;  // read after Stop

 private:
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<FrontDoor> door_;
  std::thread thread_;
};

// A socket that is bound but takes no connections, or takes them and says nothing.
class Mute {
 public:
  explicit Mute(bool listens) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    if (listens) {
      EXPECT_EQ(::listen(socket_.get(), 8), 0);
    }
    place_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  }
  const std::string& place() const { return place_; }

 private:
  UniqueFd socket_;
  std::string place_;
};

TEST(FindCoordinator, FindsTheOneThatAnswersForThisJob) {
  Door ours("0.0.0.0", kAuthority), another("127.0.0.1", "another job's");
  ASSERT_TRUE(ours.ok() && another.ok());
  const Mute closed(false), silent(true);
  const auto found = FindCoordinator({closed.place(), silent.place(), another.At("127.0.0.1"), ours.At("127.0.0.3")},
                                     kAuthority, absl::Seconds(60));
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->coordinator, ours.At("127.0.0.3"));
  EXPECT_EQ(found->local_address, "127.0.0.1");
  ours.Stop();
  another.Stop();
  EXPECT_THAT(ours.refused, IsEmpty());
  EXPECT_THAT(another.refused, IsEmpty());
}

TEST(FindCoordinator, OverIpv6) {
  Door door("::", kAuthority);
  if (!door.ok()) GTEST_SKIP() << "no IPv6 here";
  for (const char* address : {"[::1]", "127.0.0.1"}) {
    const auto found = FindCoordinator({door.At(address)}, kAuthority, absl::Seconds(60));
    if (!found.ok() && std::string(address) == "[::1]") GTEST_SKIP() << "no address ::1 here: " << found.status();
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->local_address, std::string(address) == "[::1]" ? "::1" : "127.0.0.1");
  }
}

TEST(FindCoordinator, SaysWhatHappenedAtEachAddress) {
  Door another("127.0.0.1", "another job's");
  ASSERT_TRUE(another.ok());
  const Mute closed(false);
  const auto found = FindCoordinator({closed.place(), another.At("127.0.0.1")}, kAuthority, absl::Milliseconds(300));
  ASSERT_TRUE(absl::IsUnavailable(found.status()));
  EXPECT_THAT(
      std::string(found.status().message()),
      AllOf(HasSubstr(absl::StrCat(closed.place(), " (Connection refused)")),
            HasSubstr(absl::StrCat(another.At("127.0.0.1"), " (another program listens there)")), HasSubstr("--listen")));
  for (const char* wrong : {"", "name:4242", "10.0.0.1", "10.0.0.1:", "[::1]"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(FindCoordinator({wrong}, kAuthority, absl::Seconds(1)).status())) << wrong;
  }
}

TEST(FindCoordinator, EndsWithTheLineOfWhoeverWantsIt) {
  const Mute closed(false), silent(true);
  for (const std::string& place : {closed.place(), silent.place()}) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const UniqueFd line(ends[0]);
    UniqueFd theirs(ends[1]);
    std::thread other([&] { theirs.Reset(); });
    const auto found = FindCoordinator({place}, kAuthority, absl::Hours(1), line.get());
    other.join();
    EXPECT_TRUE(absl::IsCancelled(found.status())) << found.status();
  }
}

}  // namespace
}  // namespace muster

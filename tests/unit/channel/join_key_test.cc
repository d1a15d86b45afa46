// A holder of the join key gets a ticket that only it can open; everybody else gets nothing.
#include "launcher/channel/join_key.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/channel/front_door.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

const std::string& Key() {
  static const auto& key = *new std::string(64, 'k');
  return key;
}
std::string OtherKey() { return std::string(63, 'k') + "l"; }

TEST(JoinKey, IsLongEnough) {
  EXPECT_EQ(*JoinKeyFromText(" " + Key() + "\n"), Key());
  const auto cut = JoinKeyFromText("secret\n");
  ASSERT_TRUE(absl::IsInvalidArgument(cut.status()));
  EXPECT_THAT(std::string(cut.status().message()), HasSubstr("this one 6; make one with: openssl rand -hex 32"));
}

TEST(JoinKey, ARequestNamesItsNode) {
  for (const uint32_t node : {0u, 7u, 0xfffffffeu}) {
    const std::string request = MakeJoinRequest(Key(), node, std::string(32, 'n'));
    ASSERT_EQ(request.size(), kJoinRequestBytes);
    EXPECT_EQ(*ReadJoinRequest(Key(), request), node);
    EXPECT_TRUE(absl::IsPermissionDenied(ReadJoinRequest(OtherKey(), request).status()));
    EXPECT_TRUE(absl::IsPermissionDenied(ReadJoinRequest(Key(), request.substr(1)).status()));
  }
}

TEST(JoinKey, NoByteOfARequestOrAnAnswerCanBeChanged) {
  const auto authority = *Authority::Create(std::string(16, 'j'));
  const std::string ticket = ToText(authority->MakeTicket(3, absl::Minutes(1)));
  const std::string request = MakeJoinRequest(Key(), 3, std::string(32, 'n'));
  for (size_t i = 0; i < request.size(); ++i) {
    std::string changed = request;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(ReadJoinRequest(Key(), changed).ok()) << "byte " << i;
  }
  const std::string answer = *SealJoinAnswer(Key(), request, ticket);
  EXPECT_EQ(answer.find(ticket.substr(20, 40)), std::string::npos) << "a ticket in the clear";
  EXPECT_EQ(ToText(*OpenJoinAnswer(Key(), request, answer)), ticket);
  for (size_t i = 0; i < answer.size(); i += 7) {
    std::string changed = answer;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(OpenJoinAnswer(Key(), request, changed).ok()) << "byte " << i;
  }
  EXPECT_FALSE(OpenJoinAnswer(OtherKey(), request, answer).ok());
  // An answer to another request, though the key is the same.
  const std::string other = MakeJoinRequest(Key(), 3, std::string(32, 'm'));
  EXPECT_TRUE(absl::IsDataLoss(OpenJoinAnswer(Key(), other, answer).status()));
}

// A coordinator's door that gives tickets for two nodes.
class Door {
 public:
  Door() : loop_(*EventLoop::Create()), authority_(*Authority::Create(std::string(16, 'j'))) {
    FrontDoor::Events events;
    events.admit = [](UniqueFd, const std::string&) {};
    events.refuse = [this](const std::string& what, const std::string&) { refused.push_back(what); };
    events.warn = [](const std::string&) {};
    events.join = [this](absl::string_view request, const std::string&) -> std::string {
      const auto node = ReadJoinRequest(Key(), request);
      if (!node.ok()) return std::string(4, '\0');
      return *SealJoinAnswer(Key(), request,
                             *node < 2 ? ToText(authority_->MakeTicket(*node, absl::Minutes(1))) : "no: there are 2 nodes");
    };
    door_ = *FrontDoor::Listen(loop_.get(), "127.0.0.1", 0, absl::Seconds(5), std::move(events));
    thread_ = std::thread([this] { loop_->Run(); });
  }
  ~Door() {
    loop_->Quit();
    thread_.join();
  }
  std::string At(const std::string& host) const { return absl::StrCat(host, ":", door_->port()); }
  Authority& authority() { return *authority_; }

  std::vector<std::string> refused;

 private:
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Authority> authority_;
  std::unique_ptr<FrontDoor> door_;
  std::thread thread_;
};

TEST(JoinKey, FetchesATicketAndLearnsTheWay) {
  Door door;
  const auto fetched = FetchTicket(door.At("localhost"), Key(), 1, absl::Seconds(30));
  ASSERT_TRUE(fetched.ok()) << fetched.status();
  EXPECT_EQ(*door.authority().TakeToken(fetched->ticket.token), 1u);
  EXPECT_EQ(fetched->coordinator, door.At("127.0.0.1"));
  EXPECT_EQ(fetched->local_address, "127.0.0.1");
}

TEST(JoinKey, SaysAtOnceWhyThereIsNoTicket) {
  Door door;
  const auto other = FetchTicket(door.At("127.0.0.1"), OtherKey(), 1, absl::Seconds(30));
  EXPECT_TRUE(absl::IsPermissionDenied(other.status())) << other.status();
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("another join key"));
  const auto none = FetchTicket(door.At("127.0.0.1"), Key(), 2, absl::Seconds(30));
  EXPECT_TRUE(absl::IsPermissionDenied(none.status())) << none.status();
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("there are 2 nodes"));
}

TEST(JoinKey, WaitsForANameAndAPort) {
  const auto none = FetchTicket("nobody.invalid:1", Key(), 0, absl::Milliseconds(300));
  EXPECT_TRUE(absl::IsUnavailable(none.status()));
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("no address of nobody.invalid"));
  EXPECT_TRUE(absl::IsInvalidArgument(FetchTicket("nobody", Key(), 0, absl::Seconds(1)).status()));
}

TEST(JoinKey, AnOpeningIsKnownByItsFirstBytes) {
  EXPECT_EQ(OpeningOf("mjoin1 and more"), Opening::kJoin);
  EXPECT_EQ(OpeningOf("mj"), Opening::kUndecided);
  EXPECT_EQ(OpeningOf("m"), Opening::kUndecided);
  EXPECT_EQ(OpeningOf("mjoin2"), Opening::kPlainText);
}

}  // namespace
}  // namespace muster

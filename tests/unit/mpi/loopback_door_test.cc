#include "launcher/mpi/loopback_door.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "launcher/mpi/loopback.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class Door : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::Create();
    ASSERT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    auto listener = ListenOnLoopback();
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
    LoopbackDoor::Callbacks callbacks;
    callbacks.taken = [this](UniqueFd client) {
      taken_.push_back(std::move(client));
      loop_->Quit();
    };
    callbacks.log = [this](const std::string& line) {
      log_.push_back(line);
      if (logged_) logged_();
    };
    auto door = LoopbackDoor::Open(loop_.get(), listener_.socket.get(), "the test", std::move(callbacks));
    ASSERT_TRUE(door.ok()) << door.status();
    door_ = *std::move(door);
  }

  UniqueFd Connect() {
    auto client = ConnectOnLoopback(listener_.port);
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : UniqueFd();
  }

  std::unique_ptr<EventLoop> loop_;
  LoopbackListener listener_;
  std::vector<UniqueFd> taken_;
  std::vector<std::string> log_;
  std::function<void()> logged_;
  std::unique_ptr<LoopbackDoor> door_;
};

TEST_F(Door, OneThatFindsNoDescriptorWaitsAndIsTaken) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer of undefined behaviour opens pipes to look at memory, and reports a fault where it has no descriptor";
#endif
  const UniqueFd client = Connect();
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const UniqueFd next(dup(client.get()));  // the lowest that is free now
  const rlimit none = {static_cast<rlim_t>(next.get()), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  // It is said once, however often it is tried.
  logged_ = [&] { loop_->After(absl::Milliseconds(350), [&] { setrlimit(RLIMIT_NOFILE, &before); }); };
  loop_->Run();
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_THAT(taken_, SizeIs(1));
  EXPECT_THAT(log_, ElementsAre(AllOf(HasSubstr("connections to the test wait"), HasSubstr("Too many open files"))));
}

TEST_F(Door, ACrowdOfStrangersIsCountedAndNotWrittenDownOneByOne) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to be another user for a moment";
  constexpr uid_t kNobody = 65534, kSomebody = 1;
  constexpr uint64_t kStrangers = LoopbackDoor::kRefusalsLogged + 15;
  std::vector<UniqueFd> strangers;
  ASSERT_EQ(seteuid(kNobody), 0);
  for (uint64_t i = 0; i < kStrangers; ++i) strangers.push_back(Connect());
  ASSERT_EQ(seteuid(0), 0);
  ASSERT_EQ(seteuid(kSomebody), 0);
  const UniqueFd friendly = Connect();  // behind them
  loop_->Run();
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_THAT(taken_, SizeIs(1));
  door_.reset();
  EXPECT_THAT(log_, SizeIs(LoopbackDoor::kRefusalsLogged + 1));
  EXPECT_EQ(log_.back(), "turned away 35 connections from the test in all");
}

}  // namespace
}  // namespace muster

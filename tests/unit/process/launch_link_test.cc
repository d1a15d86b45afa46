// Messages between a command and its coordinator.
#include "launcher/process/launch_link.h"

#include <sys/socket.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "muster/v1/launch.pb.h"

namespace muster {
namespace {

class LaunchLinkTest : public ::testing::Test {
 protected:
  LaunchLinkTest() : loop_(*EventLoop::Create()) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    left_ = Link(ends[0], &left_got_, &left_closed_);
    right_ = Link(ends[1], &right_got_, &right_closed_);
  }
  std::unique_ptr<LaunchLink> Link(int fd, std::vector<std::string>* got, std::vector<absl::Status>* closed) {
    auto link = LaunchLink::Create(loop_.get(), UniqueFd(fd),
                                   {[got](std::string bytes) { got->push_back(std::move(bytes)); },
                                    [closed](absl::Status why) { closed->push_back(why); }});
    EXPECT_TRUE(link.ok()) << link.status();
    return *std::move(link);
  }
  bool RunUntil(const std::function<bool()>& done) {
    bool late = false;
    const auto deadline = loop_->After(absl::Seconds(60), [&] { late = true; });
    while (!late && !done()) {
      const auto tick = loop_->After(absl::Milliseconds(1), [this] { loop_->Quit(); });
      loop_->Run();
      loop_->Cancel(tick);
    }
    loop_->Cancel(deadline);
    return !late;
  }
  std::unique_ptr<EventLoop> loop_;
  std::vector<std::string> left_got_, right_got_;
  std::vector<absl::Status> left_closed_, right_closed_;
  std::unique_ptr<LaunchLink> left_, right_;
};

TEST_F(LaunchLinkTest, CarriesMessagesOfAnySizeInOrder) {
  v1::CommandMessage launch, stop;
  launch.mutable_launch()->set_text(std::string(5 << 20, 'x'));  // more than the socket holds
  stop.mutable_stop()->set_kind(v1::StopRequest::HANGUP);
  bool sent = false;
  left_->Send(launch);
  left_->Send(stop);
  left_->WhenSent([&] { sent = true; });
  ASSERT_TRUE(RunUntil([&] { return right_got_.size() == 2 && sent; }));
  v1::CommandMessage got;
  ASSERT_TRUE(got.ParseFromString(right_got_[0]));
  EXPECT_EQ(got.launch().text().size(), size_t{5} << 20);
  ASSERT_TRUE(got.ParseFromString(right_got_[1]));
  EXPECT_EQ(got.stop().kind(), v1::StopRequest::HANGUP);
}

TEST_F(LaunchLinkTest, TellsOnceWhenTheOtherEndHasGone) {
  right_.reset();
  ASSERT_TRUE(RunUntil([&] { return !left_closed_.empty(); }));
  EXPECT_TRUE(absl::IsUnavailable(left_closed_[0])) << left_closed_[0];
  bool sent = false;
  left_->Send(v1::CommandMessage());
  left_->WhenSent([&] { sent = true; });
  ASSERT_TRUE(RunUntil([&] { return sent; }));
  EXPECT_EQ(left_closed_.size(), 1u);
}

TEST_F(LaunchLinkTest, WhoSendsTooMuchIsCutOff) {
  v1::CommandMessage message;
  message.mutable_launch()->set_text(std::string(kLaunchFrameBytesMax, 'x'));
  left_->Send(message);
  ASSERT_TRUE(RunUntil([&] { return !left_closed_.empty(); }));
  EXPECT_TRUE(absl::IsInvalidArgument(left_closed_[0])) << left_closed_[0];
}

TEST_F(LaunchLinkTest, MayBeDestroyedByItsOwnCallback) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  std::unique_ptr<LaunchLink> mortal;
  int got = 0;
  auto made = LaunchLink::Create(loop_.get(), UniqueFd(ends[0]),
                                 {[&](std::string) {
                                    ++got;
                                    mortal.reset();
                                  },
                                  [](absl::Status) {}});
  ASSERT_TRUE(made.ok());
  mortal = *std::move(made);
  auto peer = Link(ends[1], &right_got_, &right_closed_);
  peer->Send(v1::CommandMessage());
  peer->Send(v1::CommandMessage());
  ASSERT_TRUE(RunUntil([&] { return !right_closed_.empty(); }));
  EXPECT_EQ(got, 1);
}

}  // namespace
}  // namespace muster

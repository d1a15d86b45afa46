// When agents are started again, given up, and what is said then; with a starter that only counts.
#include "launcher/process/agent_keeper.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CountingStarter final : public Starter {
 public:
  absl::Status Start(uint32_t, const std::string&, const std::string&) override { return absl::OkStatus(); }
  void End(uint32_t) override {}
  void EndAll() override {}
  uint32_t running() const override { return 0; }
  bool sees_ends(uint32_t) const override { return true; }
  const std::string& listen_address() const override { return address_; }

 private:
  const std::string address_ = "127.0.0.1";
};

class AgentKeeperTest : public ::testing::Test {
 protected:
  // Two workers on each node.
  void Begin(uint32_t nodes, uint32_t workers_min) {
    launch_.set_nodes(nodes);
    launch_.set_workers(2 * nodes);
    slots_ = std::make_unique<NodeSlots>(&launch_);
    AgentKeeper::Options options;
    for (uint32_t node = 0; node < nodes; ++node) options.names.push_back("host" + std::to_string(node));
    options.workers = 2 * nodes;
    options.workers_min = workers_min;
    AgentKeeper::Callbacks callbacks;
    callbacks.want = [this] { return want_; };
    callbacks.start = [this](uint32_t node, absl::Duration) {
      started_.push_back(node);
      if (on_start_) on_start_(node);
      return absl::OkStatus();
    };
    callbacks.fewer_hoped_for = [this](uint32_t workers, uint32_t) { fewer_.push_back(workers); };
    callbacks.not_enough = [this](const std::string& sentence) {
      sentence_ = sentence;
      loop_->Quit();
    };
    agents_ = std::make_unique<AgentKeeper>(loop_.get(), &starter_, slots_.get(), std::move(options), std::move(callbacks));
    agents_->StartAll();
  }

  std::unique_ptr<EventLoop> loop_ = *EventLoop::Create();
  CountingStarter starter_;
  v1::Launch launch_;
  std::unique_ptr<NodeSlots> slots_;
  AgentKeeper::Want want_ = AgentKeeper::Want::kYes;
  std::vector<uint32_t> started_, fewer_;
  std::function<void(uint32_t node)> on_start_;
  std::string sentence_;
  std::unique_ptr<AgentKeeper> agents_;
};

TEST_F(AgentKeeperTest, AnAgentThatEndsIsStartedAgain) {
  Begin(2, 4);
  EXPECT_THAT(started_, ElementsAre(0, 1));
  agents_->SessionBegan(1);
  EXPECT_TRUE(agents_->any_session());
  agents_->NoteEnd(1, "killed by SIGKILL");
  EXPECT_TRUE(agents_->SessionOver(1));
  EXPECT_FALSE(agents_->SessionOver(1));
  on_start_ = [this](uint32_t) { loop_->Quit(); };
  agents_->Replace(1);
  agents_->Replace(1);  // its start is on its way already
  loop_->Run();
  EXPECT_THAT(started_, ElementsAre(0, 1, 1));
}

TEST_F(AgentKeeperTest, NothingIsStartedForAJobThatIsOver) {
  Begin(1, 2);
  want_ = AgentKeeper::Want::kNo;
  agents_->Replace(0);
  agents_->Hopeless(0, "no such host");
  loop_->After(absl::Milliseconds(250), [this] { loop_->Quit(); });  // the first start again comes after 200 ms
  loop_->Run();
  EXPECT_THAT(started_, ElementsAre(0));
  EXPECT_THAT(sentence_, IsEmpty());
}

TEST_F(AgentKeeperTest, ThreeStartsInVainGiveTheNodeUp) {
  Begin(1, 2);
  on_start_ = [this](uint32_t node) {
    loop_->Post([this, node] {
      agents_->NoteEnd(node, "exited with 70");
      agents_->Replace(node);
    });
  };
  agents_->NoteEnd(0, "exited with 70");
  agents_->Replace(0);
  loop_->Run();
  EXPECT_THAT(started_, ElementsAre(0, 0, 0));
  EXPECT_EQ(sentence_, "the agent of host0 was started 3 times in vain; the last time its process exited with 70");
}

TEST_F(AgentKeeperTest, AJobThatMayShrinkGoesOnWithoutTheNode) {
  Begin(3, 2);
  agents_->Hopeless(0, "host0 is not there");
  agents_->Hopeless(0, "host0 is still not there");
  EXPECT_THAT(fewer_, ElementsAre(2));
  agents_->Hopeless(2, "host2 is not there");
  EXPECT_THAT(fewer_, ElementsAre(2, 4));
  agents_->Hopeless(1, "host1 is not there");
  EXPECT_EQ(sentence_, "host1 is not there");
}

TEST_F(AgentKeeperTest, TheOthersAreWaitedForBeforeTheVerdict) {
  Begin(2, 4);
  agents_->Hopeless(1, "host1 is not there");
  EXPECT_THAT(sentence_, IsEmpty());  // host0 may be missing too
  agents_->SessionBegan(0);
  loop_->Run();
  EXPECT_EQ(sentence_, "host1 is not there");
}

TEST_F(AgentKeeperTest, OfManyReasonsSomeAreTold) {
  Begin(8, 16);
  for (uint32_t node = 0; node < 8; ++node) agents_->Hopeless(node, "host" + std::to_string(node) + " is not there");
  loop_->Run();
  EXPECT_THAT(sentence_, AllOf(HasSubstr("host0 is not there"), HasSubstr("and 3 more hosts could not be started")));
}

}  // namespace
}  // namespace muster

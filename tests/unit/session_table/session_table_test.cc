#include "runtime/session/table/session_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace muster {
namespace {

using session::State;
using session::Timer;
using ::testing::HasSubstr;

class SessionTableTest : public ::testing::Test {
 protected:
  void Step(const session::Event& event) { last_ = machine_.Step(event); }
  void Join() {
    Step(session::Connected{});
    Step(session::GenerationBegun{7, 0, 2});
  }
  template <typename T>
  std::vector<T> Last() {
    std::vector<T> found;
    for (const session::Action& action : last_) {
      if (const T* it = std::get_if<T>(&action)) found.push_back(*it);
    }
    return found;
  }

  SessionTable machine_{session::Options{}};
  session::Actions last_;
};

TEST_F(SessionTableTest, TheTableIsComplete) {
  EXPECT_EQ(SessionTable::CheckTable(), "");
  EXPECT_THAT(SessionTable::PrintTable(), HasSubstr("MEMBER  LeaveRequested  -> LEAVING"));
}

TEST_F(SessionTableTest, JoinsAndLeaves) {
  Step(session::Connected{});
  EXPECT_EQ(Last<session::SendHello>().size(), 1u);
  Step(session::GenerationBegun{7, 0, 2});
  EXPECT_EQ(machine_.state(), State::kMember);
  EXPECT_EQ(machine_.generation(), 7u);
  Step(session::LeaveRequested{});
  EXPECT_EQ(Last<session::SendLeave>().size(), 1u);
  EXPECT_TRUE(Last<session::MarkLeft>().empty());  // the agent is told first
  Step(session::LeaveSent{});
  EXPECT_EQ(machine_.state(), State::kLeft);
  EXPECT_EQ(Last<session::MarkLeft>().size(), 1u);
}

TEST_F(SessionTableTest, ARefusalIsTheCallersError) {
  Step(session::Connected{});
  Step(session::Refused{"slot 3 is taken"});
  ASSERT_EQ(Last<session::FailJoin>().size(), 1u);
  EXPECT_EQ(Last<session::FailJoin>()[0].status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(Last<session::FailJoin>()[0].status.message()), HasSubstr("slot 3 is taken"));
}

TEST_F(SessionTableTest, OthersThatNeverComeEndTheWait) {
  Step(session::Connected{});
  Step(session::TimerFired{Timer::kEnd});
  EXPECT_EQ(machine_.state(), State::kBroken);
  EXPECT_EQ(Last<session::FailJoin>()[0].status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(SessionTableTest, OnlyTheFirstFailureIsBlamed) {
  Join();
  Step(session::CollectiveFailed{1, 1, 40, "lost"});
  ASSERT_EQ(Last<session::SendBlame>().size(), 1u);
  EXPECT_EQ(Last<session::SendBlame>()[0].blamed_rank, 1u);
  Step(session::CollectiveFailed{1, 1, 41, "lost"});
  EXPECT_TRUE(Last<session::SendBlame>().empty());
}

TEST_F(SessionTableTest, FailuresOfSomeRanksAreToldUntilOneOfAll) {
  Join();
  for (const uint64_t op_seq : {40u, 41u}) {
    Step(session::CollectiveFailed{2, 6, op_seq, "had not arrived", true});
    ASSERT_EQ(Last<session::SendBlame>().size(), 1u);
    EXPECT_TRUE(Last<session::SendBlame>()[0].of_some_ranks);
  }
  Step(session::CollectiveFailed{1, 1, 42, "lost"});
  ASSERT_EQ(Last<session::SendBlame>().size(), 1u);
  EXPECT_FALSE(Last<session::SendBlame>()[0].of_some_ranks);
  Step(session::CollectiveFailed{2, 6, 43, "had not arrived", true});
  EXPECT_TRUE(Last<session::SendBlame>().empty()) << "it follows from the other";
}

TEST_F(SessionTableTest, AGenerationThatIsOverBreaksEveryCall) {
  Join();
  Step(session::GenerationOver{6, "old news"});
  EXPECT_EQ(machine_.state(), State::kMember);
  Step(session::GenerationOver{7, "rank 1 was lost"});
  EXPECT_EQ(machine_.state(), State::kBroken);
  ASSERT_EQ(Last<session::BreakCommunicators>().size(), 1u);
  EXPECT_EQ(Last<session::BreakCommunicators>()[0].status.code(), absl::StatusCode::kAborted);
  Step(session::LeaveRequested{});
  EXPECT_EQ(Last<session::MarkLeft>().size(), 1u);
}

TEST_F(SessionTableTest, AnAgentThatGoesAwayBreaksEveryCall) {
  Join();
  Step(session::SocketClosed{});
  EXPECT_EQ(Last<session::BreakCommunicators>()[0].status.code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace muster

// Which requests to end a job are one, and which mean now.
#include "launcher/process/stop_requests.h"

#include "gtest/gtest.h"

namespace muster {
namespace {

using Asker = StopRequests::Asker;

TEST(StopRequests, OneAskerTwiceMeansNow) {
  for (const Asker asker : {Asker::kCommand, Asker::kSignal, Asker::kBatchSystem}) {
    StopRequests requests;
    EXPECT_TRUE(requests.Ask(asker));
    EXPECT_TRUE(requests.Ask(asker));
  }
}

// A batch system signals the command, the coordinator and every agent.
TEST(StopRequests, SeveralAskersOnceEachAreOneRequest) {
  StopRequests requests;
  EXPECT_TRUE(requests.Ask(Asker::kBatchSystem));
  EXPECT_FALSE(requests.Ask(Asker::kSignal));
  EXPECT_FALSE(requests.Ask(Asker::kCommand));
  EXPECT_TRUE(requests.has_asked(Asker::kCommand));
  EXPECT_TRUE(requests.Ask(Asker::kCommand));  // a second Ctrl-C
}

TEST(StopRequests, MusterItselfIsAlwaysHeardAndNobodysSecondRequest) {
  StopRequests requests;
  EXPECT_TRUE(requests.Ask(Asker::kMuster));
  EXPECT_TRUE(requests.Ask(Asker::kSignal));
  EXPECT_TRUE(requests.Ask(Asker::kMuster));
  EXPECT_FALSE(requests.Ask(Asker::kCommand));
}

}  // namespace
}  // namespace muster

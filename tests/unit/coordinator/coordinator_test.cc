#include "launcher/coordinator/coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/recording_file_system.h"

namespace muster {
namespace {

using ::testing::ElementsAre;

// One agent with two slots, behind an in-memory stream, that does what it is told.
class CoordinatorTest : public ::testing::Test {
 protected:
  CoordinatorTest() : loop_(*EventLoop::Create()) {}

  absl::Status Create(FileSystem* files, const std::string& folder) {
    CoordinatorOptions options;
    options.membership.job_id = std::string(16, 'j');
    options.membership.workers = 2;
    options.membership.limits[static_cast<size_t>(membership::State::kSettling)].end = absl::Milliseconds(1);
    options.record_folder = folder;
    options.files = files;
    Coordinator::Callbacks callbacks;
    callbacks.send = [this](uint32_t node, const v1::CoordinatorMessage& message) { OnMessage(node, message); };
    callbacks.finished = [this](const Judgement& judgement) {
      judgement_ = judgement;
      loop_->Quit();
    };
    callbacks.log = [this](LogLevel, const std::string& line) { log_.push_back(line); };
    auto coordinator = Coordinator::Create(loop_.get(), std::move(options), std::move(callbacks));
    if (!coordinator.ok()) return coordinator.status();
    coordinator_ = *std::move(coordinator);
    return absl::OkStatus();
  }
  template <typename Fill>
  void Tell(uint64_t generation, Fill fill) {
    v1::AgentMessage message;
    message.set_job_id(std::string(16, 'j'));
    message.set_generation(generation);
    fill(message);
    coordinator_->OnMessage(0, std::move(message));
  }
  void Join() {
    Tell(0, [](v1::AgentMessage& message) {
      message.mutable_join()->set_host("node-a");
      message.mutable_join()->set_slots(2);
    });
  }
  void End(uint64_t generation, uint32_t rank, v1::Ending::Kind kind, int code, bool expected = false) {
    Tell(generation, [&](v1::AgentMessage& message) {
      message.mutable_worker_ended()->set_slot(rank);
      message.mutable_worker_ended()->set_rank(rank);
      message.mutable_worker_ended()->set_expected(expected);
      message.mutable_worker_ended()->mutable_ending()->set_kind(kind);
      message.mutable_worker_ended()->mutable_ending()->set_code(code);
    });
  }
  void OnMessage(uint32_t node, const v1::CoordinatorMessage& message) {
    EXPECT_EQ(node, 0u);
    const uint64_t generation = message.generation();
    if (message.has_joined()) said_.push_back("joined");
    if (message.has_prepare()) {
      said_.push_back("prepare");
      Tell(generation, [](v1::AgentMessage& ready) { ready.mutable_ready(); });
    }
    if (message.has_go()) {
      said_.push_back("go");
      End(generation, 0, v1::Ending::EXITED, exit_code_);
      if (exit_code_ == 0) End(generation, 1, v1::Ending::EXITED, 0);
    }
    if (message.has_stop()) {
      said_.push_back("stop");
      if (exit_code_ != 0) End(generation, 1, v1::Ending::SIGNALED, 15, true);
      Tell(generation, [](v1::AgentMessage& stopped) { stopped.mutable_stopped(); });
    }
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Coordinator> coordinator_;
  std::vector<std::string> said_;
  std::vector<std::string> log_;
  std::optional<Judgement> judgement_;
  int exit_code_ = 0;
};

TEST_F(CoordinatorTest, RunsAJobWithoutARecord) {
  ASSERT_TRUE(Create(nullptr, "").ok());
  Join();
  loop_->Run();
  EXPECT_THAT(said_, ElementsAre("joined", "prepare", "go", "stop"));
  EXPECT_EQ(judgement_->verdict.exit_code(), 0);
}

TEST_F(CoordinatorTest, KeepsARecordThatTellsTheVerdictAgain) {
  RecordingFileSystem files;
  exit_code_ = 3;
  ASSERT_TRUE(Create(&files, "/state/job").ok());
  Join();
  loop_->Run();
  ASSERT_EQ(judgement_->verdict.exit_code(), 3);
  const std::string sentence = judgement_->verdict.sentence();
  EXPECT_EQ(sentence, "rank 0 on host node-a exited with code 3; 1 other rank ended because of it");

  judgement_.reset();
  said_.clear();
  ASSERT_TRUE(Create(&files, "/state/job").ok());
  loop_->Run();
  EXPECT_EQ(judgement_->verdict.sentence(), sentence);
  EXPECT_TRUE(said_.empty());
}

TEST_F(CoordinatorTest, ADiskThatFillsUpEndsTheJobWith73) {
  RecordingFileSystem files;
  files.FailFrom(9);  // two folders, the file, three folder fsyncs, the word that names are durable and the first entry fit
  ASSERT_TRUE(Create(&files, "/state/job").ok());
  Join();
  loop_->Run();
  EXPECT_EQ(judgement_->verdict.exit_code(), 73);
  EXPECT_THAT(said_, ElementsAre("joined", "stop"));
}

TEST_F(CoordinatorTest, AFullDiskAtTheStartIsAnError) {
  RecordingFileSystem files;
  files.FailFrom(0);
  EXPECT_TRUE(absl::IsResourceExhausted(Create(&files, "/state/job")));
}

TEST_F(CoordinatorTest, MayBeDestroyedWithWorkPosted) {
  ASSERT_TRUE(Create(nullptr, "").ok());
  Join();
  coordinator_.reset();
  loop_->Post([this] { loop_->Quit(); });
  loop_->Run();
  EXPECT_TRUE(said_.empty());
}

TEST_F(CoordinatorTest, StopsWhenAsked) {
  ASSERT_TRUE(Create(nullptr, "").ok());
  coordinator_->RequestStop(StopKind::kTerminate);
  loop_->Run();
  EXPECT_EQ(judgement_->verdict.exit_code(), 143);
}

}  // namespace
}  // namespace muster

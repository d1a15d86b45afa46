// A coordinator whose power fails at every moment: what it has told anybody must be there when it starts again, and no
// generation's number may be used twice. The same check must fail when any one fsync is taken out of the log: each of them is
// needed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launcher/coordinator/membership.h"
#include "launcher/coordinator/record.h"
#include "tests/support/recording_file_system.h"

namespace muster {
namespace {

using membership::State;

constexpr char kFolder[] = "/state/job";
constexpr int kStatesMax = 2000;  // a power loss; more are sampled

uint64_t Seed() {
  const char* const given = getenv("MUSTER_TEST_SEED");
  return given != nullptr ? strtoull(given, nullptr, 10) : 20240611;
}

// A coordinator on a record, with one agent of two slots that does what it is told.
class Job {
 public:
  Job(RecordingFileSystem* files, std::unique_ptr<Record> record)
      : files_(files), record_(std::move(record)), membership_(OptionsOf()) {
    Step(membership::RecordLoaded{record_->entries()});
  }

  // A whole job: form, run, one step, all workers end well.
  void RunToTheEnd() {
    Tell(0, [](v1::AgentMessage& message) { message.mutable_join()->set_slots(2); });
    Tell(Generation(), [](v1::AgentMessage& message) { message.mutable_ready(); });
    Tell(Generation(), [](v1::AgentMessage& message) { message.mutable_step_committed()->set_step(7); });
    for (uint32_t rank = 0; rank < 2; ++rank) {
      Tell(Generation(), [rank](v1::AgentMessage& message) {
        message.mutable_worker_ended()->set_slot(rank);
        message.mutable_worker_ended()->set_rank(rank);
        message.mutable_worker_ended()->mutable_ending()->set_kind(v1::Ending::EXITED);
      });
    }
    Tell(Generation(), [](v1::AgentMessage& message) { message.mutable_stopped(); });
  }
  const Membership& membership() const { return membership_; }
  bool finished() const { return finished_; }

 private:
  static membership::Options OptionsOf() {
    membership::Options options;
    options.job_id = std::string(16, 'j');
    options.workers = 2;
    return options;
  }
  uint64_t Generation() const { return membership_.generation(); }

  template <typename Fill>
  void Tell(uint64_t generation, Fill fill) {
    v1::AgentMessage message;
    message.set_job_id(membership_.job_id());
    message.set_generation(generation);
    fill(message);
    Step(membership::Received{0, message});
  }
  void Step(const membership::Event& event) {
    std::vector<uint64_t> appended;
    for (const membership::Action& action : membership_.Step(absl::UnixEpoch(), event)) {
      if (const auto* append = std::get_if<membership::AppendRecord>(&action)) {
        ASSERT_TRUE(record_->Append(append->entry).ok());
        appended.push_back(append->sequence);
      }
      if (const auto* send = std::get_if<membership::Send>(&action)) {
        const uint64_t generation = send->message.generation();
        if (send->message.has_prepare()) files_->Announce(absl::StrCat("prepare ", generation));
        if (send->message.has_go()) files_->Announce(absl::StrCat("go ", generation));
        files_->Announce(absl::StrCat("incarnation ", send->message.incarnation()));
      }
      if (std::get_if<membership::Finish>(&action) != nullptr) {
        files_->Announce("verdict");
        finished_ = true;
      }
    }
    for (const uint64_t sequence : appended) Step(membership::Appended{sequence});
  }

  RecordingFileSystem* const files_;
  std::unique_ptr<Record> record_;
  Membership membership_;
  bool finished_ = false;
};

// What was told to others by the first `count` operations.
struct Announced {
  uint64_t prepared = 0;
  uint64_t gone = 0;
  uint64_t incarnation = 0;
  bool verdict = false;
};

Announced AnnouncedBy(const std::vector<DiskOperation>& log, size_t count) {
  Announced announced;
  for (size_t i = 0; i < count; ++i) {
    if (log[i].kind != DiskOperation::Kind::kAnnounce) continue;
    absl::string_view what = log[i].path;
    uint64_t number = 0;
    if (absl::ConsumePrefix(&what, "prepare ") && absl::SimpleAtoi(what, &number)) announced.prepared = number;
    if (absl::ConsumePrefix(&what, "go ") && absl::SimpleAtoi(what, &number)) announced.gone = number;
    if (absl::ConsumePrefix(&what, "incarnation ") && absl::SimpleAtoi(what, &number)) announced.incarnation = number;
    if (what == "verdict") announced.verdict = true;
  }
  return announced;
}

// What is wrong with a coordinator that starts from `disk`; empty: nothing.
std::string Judge(const Disk& disk, const Announced& announced) {
  RecordingFileSystem files(disk);
  auto record = Record::Open(&files, kFolder);
  if (!record.ok()) return absl::StrCat("cannot be opened: ", record.status().ToString());
  Job job(&files, *std::move(record));
  const Membership& membership = job.membership();
  if (announced.verdict && !job.finished()) return "the verdict was announced and is lost";
  if (job.finished()) return "";
  if (membership.incarnation() <= announced.incarnation)
    return absl::StrCat("incarnation ", membership.incarnation(), " is used twice");
  if (membership.generation() < announced.prepared)
    return absl::StrCat("generation ", announced.prepared, " would be used twice");
  if (announced.gone > 0 && (membership.state() != State::kResuming || membership.generation() != announced.gone)) {
    return absl::StrCat("generation ", announced.gone, " was announced and is lost");
  }
  return "";
}

// The first thing that goes wrong after a power loss at any moment of `log`; empty: nothing does. `states` counts what was
// tried.
std::string FirstFault(const Disk& before, const std::vector<DiskOperation>& log, int* states) {
  std::string fault;
  for (size_t count = 0; count <= log.size() && fault.empty(); ++count) {
    const Announced announced = AnnouncedBy(log, count);
    *states += ForEachPowerLoss(before, log, count, kStatesMax, Seed() + count, [&](const Disk& disk) {
      if (!fault.empty()) return;
      const std::string wrong = Judge(disk, announced);
      if (!wrong.empty()) fault = absl::StrCat("power lost after operation ", count, ": ", wrong);
    });
  }
  return fault;
}

bool IsSync(const DiskOperation& operation) {
  return operation.kind == DiskOperation::Kind::kSync || operation.kind == DiskOperation::Kind::kSyncFolder;
}

// A whole job that begins on `disk`; `crash_after` operations of a first process that is killed (without loss of power) come
// before.
std::vector<DiskOperation> LogOfJob(const Disk& disk, int crash_after = 0) {
  RecordingFileSystem files(disk);
  if (crash_after > 0) {
    files.FailFrom(crash_after);
    EXPECT_FALSE(Record::Open(&files, kFolder).ok());
    files.FailFrom(-1);
  }
  auto record = Record::Open(&files, kFolder);
  EXPECT_TRUE(record.ok()) << record.status();
  Job job(&files, *std::move(record));
  job.RunToTheEnd();
  EXPECT_TRUE(job.finished());
  return files.log();
}

std::string Replay() { return absl::StrCat("replay: MUSTER_TEST_SEED=", Seed(), " coordinator_power_loss_test"); }

TEST(PowerLoss, NothingThatWasAnnouncedIsLost) {
  int states = 0;
  EXPECT_EQ(FirstFault({}, LogOfJob({}), &states), "") << Replay();
  std::cout << "states after a power loss: " << states << "\n";
  EXPECT_GT(states, 300);
}

TEST(PowerLoss, NorWhenTheProcessBeforeDiedWhileItMadeTheRecord) {
  for (int crash_after = 1; crash_after <= 5; ++crash_after) {
    int states = 0;
    EXPECT_EQ(FirstFault({}, LogOfJob({}, crash_after), &states), "") << "crash after " << crash_after << "; " << Replay();
  }
}

TEST(PowerLoss, NorBehindATornTail) {
  RecordingFileSystem first;
  auto record = Record::Open(&first, kFolder);
  Job job(&first, *std::move(record));
  Disk torn = first.disk();
  torn.files.at("/state/job/record") += torn.files.at("/state/job/record").substr(0, 20) + std::string(50, 'x');
  int states = 0;
  EXPECT_EQ(FirstFault(torn, LogOfJob(torn), &states), "") << Replay();
}

TEST(PowerLoss, EveryFsyncIsNeeded) {
  const std::vector<DiskOperation> log = LogOfJob({});
  int syncs = 0;
  for (size_t i = 0; i < log.size(); ++i) {
    if (!IsSync(log[i])) continue;
    ++syncs;
    std::vector<DiskOperation> without = log;
    without.erase(without.begin() + static_cast<ptrdiff_t>(i));
    int states = 0;
    EXPECT_NE(FirstFault({}, without, &states), "")
        << "the fsync of " << log[i].path << " (operation " << i << ") is not needed; " << Replay();
  }
  EXPECT_GE(syncs, 7);  // three folders; start, number, formed generation, verdict
}

TEST(PowerLoss, TheFolderFsyncsOfALaterProcessAreNeededToo) {
  // The process before died when it had made folders and file, and had made none of their names durable.
  const std::vector<DiskOperation> log = LogOfJob({}, 3);
  for (size_t i = 0; i < log.size(); ++i) {
    if (!IsSync(log[i])) continue;
    std::vector<DiskOperation> without = log;
    without.erase(without.begin() + static_cast<ptrdiff_t>(i));
    int states = 0;
    EXPECT_NE(FirstFault({}, without, &states), "") << "the fsync of " << log[i].path << " (operation " << i << ")";
  }
}

}  // namespace
}  // namespace muster

// Agents on nodes: how many workers each holds, how it gets its ticket, how its end is seen.
#include "launcher/starter/starter.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/starter/local_starter.h"
#include "launcher/starter/ticket_files.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SpreadSlots, IsAsEvenAsCanBe) {
  EXPECT_THAT(SpreadSlots(4, 2), ElementsAre(2, 2));
  EXPECT_THAT(SpreadSlots(5, 3), ElementsAre(2, 2, 1));
  EXPECT_THAT(SpreadSlots(7, 1), ElementsAre(7));
  for (uint32_t workers = 1; workers < 40; ++workers) {
    for (uint32_t nodes = 1; nodes <= workers; ++nodes) {
      const std::vector<uint32_t> slots = SpreadSlots(workers, nodes);
      EXPECT_EQ(slots.size(), nodes);
      EXPECT_EQ(std::accumulate(slots.begin(), slots.end(), 0u), workers);
      EXPECT_LE(slots.front() - slots.back(), 1u);
      EXPECT_TRUE(std::is_sorted(slots.rbegin(), slots.rend()));
    }
  }
}

class Folder {
 public:
  Folder() : path(::testing::TempDir() + "starter-XXXXXX") { EXPECT_NE(::mkdtemp(path.data()), nullptr); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string Read(const std::string& name) const {
    std::ifstream file(path + "/" + name);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  std::string path;
};

TEST(TicketFiles, OnlyTheirOwnerReadsThemAndANewOneReplacesTheOld) {
  Folder folder;
  std::vector<std::string> said;
  TicketFiles starter(folder.path, "0.0.0.0", [&](const std::string& line) { said.push_back(line); });
  ASSERT_TRUE(starter.Start(1, "host:4242", "first").ok());
  ASSERT_TRUE(starter.Start(1, "host:4242", "second").ok());
  EXPECT_EQ(folder.Read("node-1.ticket"), "second\n");
  struct stat status;
  ASSERT_EQ(::stat((folder.path + "/node-1.ticket").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(said.size(), 2u);
  EXPECT_THAT(said[0], HasSubstr("muster agent --coordinator host:4242 --ticket-file " + folder.path + "/node-1.ticket"));
  EXPECT_FALSE(TicketFiles("/no/such/folder", "0.0.0.0", [](const std::string&) {}).Start(0, "host:1", "ticket").ok());
}

// `program` runs as `program agent --coordinator ...`.
class LocalStarterTest : public ::testing::Test {
 protected:
  LocalStarterTest() : loop_(*EventLoop::Create()) {}
  void Start(const std::string& script) {
    const std::string program = folder_.path + "/muster";
    std::ofstream(program) << "#!/bin/sh\n" << script << "\n";
    ::chmod(program.c_str(), 0700);
    LocalStarterOptions options;
    options.nodes = 3;
    options.network = LocalStarterOptions::Network::kHost;
    options.program = program;
    options.arguments = {"--more"};
    auto starter = LocalStarter::Create(
        loop_.get(), options, {[this](uint32_t node, std::string why) { ended_.push_back(absl::StrCat(node, " ", why)); }},
        [](const std::string& line) { ADD_FAILURE() << line; });
    ASSERT_TRUE(starter.ok()) << starter.status();
    starter_ = *std::move(starter);
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
  Folder folder_;
  std::unique_ptr<EventLoop> loop_;
  std::vector<std::string> ended_;
  std::unique_ptr<LocalStarter> starter_;
};

TEST_F(LocalStarterTest, GivesTheTicketByADescriptorAndSeesTheEnd) {
  Start(absl::StrCat("cat <&3 > ", folder_.path, "/ticket; echo \"$@\" > ", folder_.path, "/arguments; exit 7"));
  EXPECT_EQ(starter_->listen_address(), "127.0.0.1");
  ASSERT_TRUE(starter_->Start(2, "127.0.0.1:4242", "the ticket").ok());
  EXPECT_EQ(starter_->running(), 1u);
  ASSERT_TRUE(RunUntil([this] { return !ended_.empty(); }));
  EXPECT_THAT(ended_, ElementsAre("2 exited with 7"));
  EXPECT_EQ(starter_->running(), 0u);
  EXPECT_EQ(folder_.Read("ticket"), "the ticket\n");
  const std::string arguments = folder_.Read("arguments");
  EXPECT_THAT(arguments, HasSubstr("agent --coordinator 127.0.0.1:4242"));
  EXPECT_THAT(arguments, HasSubstr("--host node2 --address 127.0.0.3 --more"));
  EXPECT_FALSE(absl::StrContains(arguments, "the ticket"));
}

TEST_F(LocalStarterTest, StartsAgainAndNamesTheSignal) {
  Start("kill -KILL $$");
  ASSERT_TRUE(starter_->Start(0, "127.0.0.1:1", "first").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(starter_->Start(0, "127.0.0.1:1", "too soon")));
  ASSERT_TRUE(RunUntil([this] { return ended_.size() == 1; }));
  ASSERT_TRUE(starter_->Start(0, "127.0.0.1:1", "second").ok());
  ASSERT_TRUE(RunUntil([this] { return ended_.size() == 2; }));
  EXPECT_THAT(ended_, ElementsAre("0 killed by SIGKILL", "0 killed by SIGKILL"));
}

TEST_F(LocalStarterTest, EndsAllWithoutAWord) {
  Start(absl::StrCat("echo $$ > ", folder_.path, "/pid.$7; exec sleep 600"));
  ASSERT_TRUE(starter_->Start(0, "127.0.0.1:1", "a").ok());
  ASSERT_TRUE(starter_->Start(1, "127.0.0.1:1", "b").ok());
  ASSERT_TRUE(RunUntil([this] { return !folder_.Read("pid.node0").empty() && !folder_.Read("pid.node1").empty(); }));
  const pid_t pid = std::stoi(folder_.Read("pid.node1"));
  EXPECT_EQ(::getpgid(pid), pid) << "a process group of its own: Ctrl-C is not for it";
  starter_->EndAll();
  EXPECT_EQ(::kill(pid, 0), -1);
  EXPECT_EQ(starter_->running(), 0u);
  EXPECT_TRUE(ended_.empty());
}

TEST_F(LocalStarterTest, EndsOneThatIsStopped) {
  Start(absl::StrCat("echo $$ > ", folder_.path, "/pid; kill -STOP $$; exit 0"));
  ASSERT_TRUE(starter_->Start(0, "127.0.0.1:1", "a").ok());
  ASSERT_TRUE(RunUntil([this] { return !folder_.Read("pid").empty(); }));
  starter_->End(1);
  EXPECT_EQ(starter_->running(), 1u);
  starter_->End(0);
  ASSERT_TRUE(RunUntil([this] { return !ended_.empty(); }));
  EXPECT_THAT(ended_, ElementsAre("0 killed by SIGKILL"));
}

TEST_F(LocalStarterTest, SaysWhatCannotBeStarted) {
  Start("exit 0");
  std::filesystem::remove(folder_.path + "/muster");
  const absl::Status status = starter_->Start(0, "127.0.0.1:1", "a");
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder_.path + "/muster"));
}

}  // namespace
}  // namespace muster

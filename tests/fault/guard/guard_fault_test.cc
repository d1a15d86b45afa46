// kill -9 of worker, guard and agent, with workers that fork, setsid and exec: nothing of the job is left.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <random>
#include <utility>

#include "tests/support/guard/marked_processes.h"

namespace muster {
namespace {

constexpr std::chrono::milliseconds kLimit{2000};

// kill -9 of exactly one process: 0 and -1 would mean many, this test among them.
int Kill(pid_t pid) { return pid > 1 ? kill(pid, SIGKILL) : -1; }

pid_t ParentOf(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("PPid:", 0) == 0) return static_cast<pid_t>(std::stol(line.substr(5)));
  }
  return -1;
}

// A job of one stand-in agent, its guard and its workers' trees.
class Job {
 public:
  // Without CAP_SYS_ADMIN no namespace can be had, and the subreapers must do.
  Job(bool namespace_allowed, int workers, std::vector<std::string> program) {
    folder_ = ::testing::TempDir() + "muster-fault-XXXXXX";
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    mark_ = "MUSTER_TEST_MARK=" + folder_;
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    lines_ = fdopen(ends[0], "r");
    int errors[2];
    EXPECT_EQ(pipe2(errors, O_CLOEXEC), 0);
    errors_.Reset(errors[0]);
    agent_ = fork();
    if (agent_ == 0) Exec(namespace_allowed, workers, program, ends[1], errors[1]);
    close(errors[1]);
    close(ends[1]);
    ReadUntilUp();
  }
  ~Job() {
    if (agent_ > 0) kill(agent_, SIGKILL);
    AwaitAgent();
    for (const pid_t pid : FindMarked(mark_)) kill(pid, SIGKILL);
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    fclose(lines_);
    rmdir(folder_.c_str());
  }

  pid_t agent() const { return agent_; }
  pid_t guard() const { return guard_; }
  pid_t keeper() const { return keeper_; }
  const std::vector<pid_t>& workers() const { return workers_; }  // all, once the job is up
  bool in_namespace() const { return in_namespace_; }
  size_t processes() const { return FindMarked(mark_).size(); }
  bool FolderExists() const { return access(folder_.c_str(), F_OK) == 0; }

  // Its exit status, or 128 + signal.
  int AwaitAgent() {
    if (agent_ <= 0) return status_;
    int status = 0;
    waitpid(agent_, &status, 0);
    agent_ = -1;
    return status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string RestOfOutput() {
    std::string text;
    for (int c; (c = fgetc(lines_)) != EOF;) text += static_cast<char>(c);
    return text;
  }
  // stderr goes from agent to guard to all descendants: its end proves that nobody is left, where a listing might miss one that
  // changes its pid all the time.
  void ExpectNothingLeft() {
    std::string text;
    pollfd readable = {.fd = errors_.get(), .events = POLLIN, .revents = 0};
    ssize_t bytes = 1;
    for (char buffer[512]; bytes > 0; text.append(buffer, bytes > 0 ? static_cast<size_t>(bytes) : 0)) {
      ASSERT_EQ(poll(&readable, 1, static_cast<int>(kLimit.count())), 1) << "somebody still holds stderr; it said: " << text;
      bytes = read(errors_.get(), buffer, sizeof buffer);
    }
    const std::vector<pid_t> left = AwaitNoMarked(mark_, kLimit);
    EXPECT_TRUE(left.empty()) << left.size() << " processes are left, one is " << (left.empty() ? 0 : left[0]);
  }

 private:
  [[noreturn]] void Exec(bool namespace_allowed, int workers, const std::vector<std::string>& program, int output,
                         int errors) const {
    if (!namespace_allowed) prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN);  // takes effect at exec
    const std::string name = mark_.substr(0, mark_.find('='));
    setenv(name.c_str(), folder_.c_str(), 1);
    dup2(output, 1);
    dup2(errors, 2);
    std::vector<std::string> words = {MUSTER_AGENT_STAND_IN, MUSTER_GUARD_PATH, folder_, std::to_string(workers),
                                      MUSTER_TREE_MAKER};
    words.insert(words.end(), program.begin(), program.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }

  void ReadUntilUp() {
    char line[512], word[64];
    while (fgets(line, sizeof line, lines_) != nullptr) {
      int pid = 0;
      if (sscanf(line, "guard %d %63s", &pid, word) == 2) {
        guard_ = pid;
        keeper_ = ParentOf(pid);
        in_namespace_ = std::string(word) == "namespace";
      }
      if (sscanf(line, "worker %d", &pid) == 1) workers_.push_back(pid);
      if (std::string(line) == "up\n") return;
    }
    ADD_FAILURE() << "the job did not come up: " << line;
  }

  std::string folder_, mark_;
  FILE* lines_ = nullptr;
  UniqueFd errors_;
  pid_t agent_ = -1, keeper_ = -1, guard_ = -1;
  std::vector<pid_t> workers_;
  bool in_namespace_ = false;
  int status_ = -1;
};

// Parameter: may a namespace be made?
class GuardFaultTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    // In init's place for what loses its parent, so that the dead do not pile up where init is slow to reap.
    ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  }
};

TEST_P(GuardFaultTest, AWorkersEndLetsTheAgentEndTheTree) {
  Job job(GetParam(), 2, {"tree", "3"});
  ASSERT_EQ(job.workers().size(), 2u);
  EXPECT_EQ(job.processes(), 3u + 2 * 10);  // agent, keeper, guard, and the trees
  ASSERT_EQ(Kill(job.workers()[1]), 0);
  EXPECT_EQ(job.RestOfOutput(), "ended\n");
  EXPECT_EQ(job.AwaitAgent(), 0);
  job.ExpectNothingLeft();
  EXPECT_FALSE(job.FolderExists());
}

TEST_P(GuardFaultTest, TheGuardsDeathLetsTheAgentEndTheTree) {
  Job job(GetParam(), 2, {"tree", "3"});
  ASSERT_EQ(Kill(job.guard()), 0);
  EXPECT_EQ(job.RestOfOutput(), "lost\n");
  EXPECT_EQ(job.AwaitAgent(), 0);
  job.ExpectNothingLeft();
  EXPECT_FALSE(job.FolderExists());
}

TEST_P(GuardFaultTest, TheAgentsDeathLetsTheGuardEndTheTree) {
  Job job(GetParam(), 2, {"tree", "3"});
  ASSERT_EQ(Kill(job.agent()), 0);
  EXPECT_EQ(job.AwaitAgent(), 128 + SIGKILL);
  job.ExpectNothingLeft();
  EXPECT_FALSE(job.FolderExists());
}

TEST_P(GuardFaultTest, AStoppedGuardWakesWhenItsAgentDies) {
  Job job(GetParam(), 2, {"tree", "2"});
  ASSERT_GT(job.guard(), 1);
  ASSERT_EQ(kill(job.guard(), SIGSTOP), 0);
  ASSERT_EQ(Kill(job.agent()), 0);
  job.AwaitAgent();
  job.ExpectNothingLeft();
}

TEST_P(GuardFaultTest, AnyOneOfThreeIsEnough) {
  // Agent, keeper, guard: every two at once, in both orders.
  for (const auto& [first, second] : {std::pair{0, 1}, {1, 0}, {0, 2}, {2, 0}, {1, 2}, {2, 1}}) {
    Job job(GetParam(), 2, {"tree", "3"});
    const pid_t family[] = {job.agent(), job.keeper(), job.guard()};
    ASSERT_EQ(Kill(family[first]), 0);
    Kill(family[second]);  // may be gone by now
    job.AwaitAgent();
    job.ExpectNothingLeft();
    EXPECT_FALSE(job.FolderExists()) << first << second;
  }
}

TEST_P(GuardFaultTest, AllAtOnceWhereANamespaceCoversIt) {
  Job job(GetParam(), 2, {"tree", "3"});
  if (!job.in_namespace())
    GTEST_SKIP() << "no PID namespace here (needs CAP_SYS_ADMIN): all three dying together is not covered";
  for (const pid_t pid : {job.agent(), job.keeper(), job.guard()}) Kill(pid);
  job.AwaitAgent();
  job.ExpectNothingLeft();
}

TEST_P(GuardFaultTest, CatchesWhatForksAndExitsInACircle) {
  for (const int victim : {0, 1, 2}) {
    Job job(GetParam(), 2, {"comet"});
    ASSERT_EQ(Kill(victim == 0 ? job.workers().at(0) : victim == 1 ? job.guard() : job.agent()), 0);
    job.AwaitAgent();
    job.ExpectNothingLeft();
  }
}

TEST_P(GuardFaultTest, RandomKills) {
  const char* replay = getenv("MUSTER_TEST_SEED");
  const uint32_t seed = replay != nullptr ? static_cast<uint32_t>(strtoul(replay, nullptr, 10)) : std::random_device()();
  SCOPED_TRACE("replay: MUSTER_TEST_SEED=" + std::to_string(seed) + " guard_fault_test --gtest_filter='*RandomKills*'");
  std::mt19937 random(seed);
  for (int round = 0; round < 25 && !HasFailure(); ++round) {
    Job job(GetParam(), 1 + static_cast<int>(random() % 3), {"tree", std::to_string(random() % 4)});
    const std::vector<pid_t> victims = {job.workers()[random() % job.workers().size()], job.guard(), job.keeper(), job.agent()};
    const size_t choice = random() % victims.size();
    ASSERT_EQ(Kill(victims[choice]), 0) << choice;
    job.AwaitAgent();
    job.ExpectNothingLeft();
    EXPECT_FALSE(job.FolderExists()) << choice;
  }
}

INSTANTIATE_TEST_SUITE_P(Cover, GuardFaultTest, ::testing::Values(true, false),
                         [](const auto& info) { return info.param ? "NamespaceIfAllowed" : "Subreaper"; });

}  // namespace
}  // namespace muster

// What is run to reach another host: nothing a user wrote is read by a shell, no login weakens what ssh checks, every failure has its
// own sentence, and who starts whom.
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/starter/own_addresses.h"
#include "launcher/starter/ssh_command.h"
#include "launcher/starter/ssh_failure.h"
#include "launcher/starter/ssh_lines.h"
#include "launcher/starter/ssh_starter.h"
#include "launcher/starter/start_tree.h"
#include "runtime/base/event_loop.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() : path(::testing::TempDir() + "ssh-XXXXXX") { EXPECT_NE(::mkdtemp(path.data()), nullptr); }
  ~Folder() { fs::remove_all(path); }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(path + "/" + name) << text;
    ::chmod((path + "/" + name).c_str(), 0755);
    return path + "/" + name;
  }
  std::string path;
};

struct Ran {
  int status = 0;
  std::string output;
};

// Runs `words` with `input`, standard error with the output; SIGPIPE of a shell that stops reading is no matter.
Ran Execute(std::vector<std::string> words, const std::string& input, const std::string& path) {
  int in[2], out[2];
  EXPECT_EQ(::pipe(in), 0);
  EXPECT_EQ(::pipe(out), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::dup2(out[1], 2);
    for (const int fd : {in[0], in[1], out[0], out[1]}) ::close(fd);
    ::setenv("PATH", path.c_str(), 1);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(126);
  }
  ::close(in[0]);
  ::close(out[1]);
  ::signal(SIGPIPE, SIG_IGN);
  EXPECT_LT(input.size(), 60'000u);  // a pipe holds it
  [[maybe_unused]] const ssize_t written = ::write(in[1], input.data(), input.size());
  ::close(in[1]);
  Ran ran;
  char bytes[4096];
  for (ssize_t count; (count = ::read(out[0], bytes, sizeof bytes)) > 0;) ran.output.append(bytes, static_cast<size_t>(count));
  ::close(out[0]);
  ::waitpid(pid, &ran.status, 0);
  return ran;
}

v1::AgentStart StartOf(uint32_t node, const std::string& host) {
  v1::AgentStart start;
  start.set_node(node);
  start.set_host(host);
  start.set_coordinator("127.0.0.1:1");
  start.set_ticket("ticket");
  start.set_program("/opt/muster/bin/muster");
  return start;
}

constexpr char kPath[] = "/usr/bin:/bin";

// A muster that shows where it was found, its words, and what is left of its input.
constexpr char kShowing[] = "#!/bin/sh\necho \"words:$*\"\ncat\n";

TEST(RemoteCommand, IsPlainTextForEveryShell) {
  const std::string command = RemoteCommand();
  ASSERT_TRUE(absl::StartsWith(command, "exec /bin/sh -c '"));
  const std::string script = command.substr(17, command.size() - 18);
  EXPECT_EQ(command.back(), '\'');
  for (const char bad : {'\'', '!', '\\', '\n', '`'}) EXPECT_EQ(script.find(bad), std::string::npos) << bad;
}

class RemoteCommandTest : public ::testing::TestWithParam<const char*> {};

// Names of files as bad as they get; the file is found and run, and nothing in the name happens, whatever the login shell.
TEST_P(RemoteCommandTest, TakesAnyPathFromItsInputAndLeavesTheRest) {
  const std::string shell = GetParam();
  if (::access(shell.c_str(), X_OK) != 0) GTEST_SKIP() << "there is no " << shell;
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  std::vector<std::string> names = {
      "muster",           "with space",       "$(touch pwned)",  "`touch pwned`", "a;touch pwned", "a'touch pwned'",
      "\"; touch pwned;", "a\\\\nb\\",        "*?[a-z]{a,b}",    "!!!1",          "~root",         "-n",
      " leading",         "trailing \t",      "#comment",        "$HOME${IFS}",   "\xff\xfe\x80",  "%s%n%d",
      "&& touch pwned",   "|touch pwned|",    ">pwned",          "tab\ttab",      "é漢字",          "''''",
  };
  const std::string letters = "'\"\\$`!#&*()[]{};<>?|~^%@+=,.- \t\x01\x7f\xc3\xa9xyz0";
  while (names.size() < 36) {
    std::string name;
    for (size_t i = 0, size = 1 + random() % 20; i < size; ++i) name += letters[random() % letters.size()];
    if (name != "." && name != "..") names.push_back(name);
  }
  for (const std::string& name : names) {
    Folder folder;
    v1::AgentStart start = StartOf(1, "node-b");
    start.set_program(folder.Write(name, kShowing));
    const std::string lines = FirstLines(start);
    const Ran ran = Execute({shell, "-c", RemoteCommand()}, lines, kPath);
    EXPECT_THAT(ran.output, HasSubstr(absl::StrCat("muster-line: found ", start.program(), "\nwords:agent --stdin\n"))) << name;
    EXPECT_TRUE(absl::EndsWith(ran.output, "\n" + lines.substr(lines.find('\n', lines.find('\n') + 1) + 1))) << name;
    EXPECT_FALSE(fs::exists("pwned")) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Shells, RemoteCommandTest,
                         ::testing::Values("/bin/sh", "/bin/bash", "/bin/tcsh", "/usr/bin/fish", "/bin/zsh"));

TEST(RemoteCommand, LooksAtTheGivenPathThenAtOursThenInPath) {
  Folder folder;
  const std::string given = folder.Write("given", kShowing), ours = folder.Write("ours", kShowing);
  fs::create_directory(folder.path + "/bin");
  const std::string in_path = folder.Write("bin/muster", kShowing);
  const std::string path = absl::StrCat(folder.path, "/bin:", kPath);
  v1::AgentStart start = StartOf(1, "node-b");
  start.set_program(ours);
  start.mutable_ssh()->set_remote_muster(given);
  const auto found = [&](const std::string& search_path) {
    return Execute({"/bin/sh", "-c", RemoteCommand()}, FirstLines(start), search_path).output;
  };
  EXPECT_THAT(found(path), HasSubstr(absl::StrCat("found ", given, "\n")));
  start.mutable_ssh()->set_remote_muster(folder.path + "/bin");  // a folder is no program
  EXPECT_THAT(found(path), HasSubstr(absl::StrCat("found ", ours, "\n")));
  ::chmod(ours.c_str(), 0644);
  if (::geteuid() != 0 || ::access(ours.c_str(), X_OK) != 0) {
    EXPECT_THAT(found(path), HasSubstr(absl::StrCat("found ", in_path, "\nwords:agent --stdin\n")));
  }
  fs::remove(in_path);
  const Ran missing = Execute({"/bin/sh", "-c", RemoteCommand()}, FirstLines(start), path);
  EXPECT_EQ(missing.output, absl::StrCat("muster-line: missing ", path, "\n"));
  EXPECT_EQ(WEXITSTATUS(missing.status), 127);
}

TEST(FirstLines, BringTheWholeStartAndSkipAPathThatIsNoLine) {
  v1::AgentStart start = StartOf(7, "node-b");
  start.add_arguments("--host\n'; rm");
  *start.add_children() = StartOf(8, "node-c");
  start.set_program("/a\n/b");
  std::vector<std::string> lines = absl::StrSplit(FirstLines(start), '\n');
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], "");
  EXPECT_EQ(lines[1], "");
  const auto read = AgentStartFromLine(lines[2]);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->SerializeAsString(), start.SerializeAsString());
  EXPECT_FALSE(AgentStartFromLine("").ok());
  EXPECT_FALSE(AgentStartFromLine("no base64!").ok());
  EXPECT_FALSE(AgentStartFromLine("AAAA").ok());
}

TEST(SshWords, NobodyWeakensWhatIsChecked) {
  v1::AgentStart start = StartOf(1, "node-b");
  start.set_user("ann");
  for (const char* option : {"StrictHostKeyChecking=no", "BatchMode=no", "ForwardAgent=yes", "ConnectTimeout=3", "Port=2222"}) {
    start.mutable_ssh()->add_options(option);
  }
  const auto words = SshWords(start);
  ASSERT_TRUE(words.ok());
  EXPECT_EQ(words->front(), "ssh");
  EXPECT_EQ((*words)[words->size() - 3], "--");
  EXPECT_EQ((*words)[words->size() - 2], "node-b");
  EXPECT_EQ(words->back(), RemoteCommand());
  const auto at = [&](const std::string& word) { return std::find(words->begin(), words->end(), word) - words->begin(); };
  EXPECT_LT(at("StrictHostKeyChecking=yes"), at("StrictHostKeyChecking=no"));
  EXPECT_LT(at("ConnectTimeout=3"), at("ConnectTimeout=10"));
  if (::access("/usr/bin/ssh", X_OK) != 0) GTEST_SKIP() << "there is no ssh (package openssh-client)";
  // What OpenSSH itself makes of it.
  std::vector<std::string> asked = *words;
  asked[0] = "/usr/bin/ssh";
  asked.insert(asked.begin() + 1, {"-F", "/dev/null", "-G"});
  const Ran ran = Execute(asked, "", kPath);
  const std::vector<std::string> settings = absl::StrSplit(ran.output, '\n');
  for (const char* wanted : {"batchmode yes", "forwardagent no", "connecttimeout 3", "port 2222", "user ann", "hostname node-b",
                             "requesttty false", "clearallforwardings yes", "permitlocalcommand no"}) {
    EXPECT_THAT(settings, Contains(wanted));
  }
  EXPECT_THAT(settings, ::testing::AnyOf(Contains("stricthostkeychecking true"), Contains("stricthostkeychecking yes")));
}

TEST(SshWords, AHostThatSshCouldTakeForSomethingElseIsRefused) {
  for (const char* host : {"-oProxyCommand=touch pwned", "", "a b", "a;b", "$(x)", "a`b`", "a|b", "host\n", "ssh://x", "a@b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(SshWords(StartOf(0, host)).status())) << host;
  }
  v1::AgentStart start = StartOf(0, "node-a");
  start.set_user("-x");
  EXPECT_FALSE(SshWords(start).ok());
  for (const char* host : {"node-a", "node_a.example.org", "10.0.0.1", "fd00::1", "fe80::1%eth0", "[fd00::1]"}) {
    EXPECT_TRUE(SshWords(StartOf(0, host)).ok()) << host;
  }
  const std::vector<std::string> words = *SshWords(StartOf(0, "[fd00::1]"));
  EXPECT_EQ(words[words.size() - 2], "fd00::1");
}

// --- Failures ---

SshFailure FailureOf(const std::string& errors, int exit_status = 255) {
  SshEnd end;
  end.wait_status = exit_status << 8;
  end.errors = errors;
  return DescribeFailedStart(StartOf(1, "node-b"), end);
}

// As OpenSSH 9.2 says them.
TEST(DescribeFailedStart, TellsSshsFailuresApart) {
  struct Case {
    const char* said;
    const char* part;
    SshRetry retry;
  };
  for (const Case& one : {
           Case{"No ED25519 host key is known for 10.78.0.12 and you have requested strict checking.\r\nHost key verification "
                "failed.\r\n",
                "host key of node-b is not known here", SshRetry::kUseless},
           Case{"@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@\nHost key verification failed.",
                "ssh-keygen -R node-b", SshRetry::kUseless},
           Case{"root@10.78.0.12: Permission denied (publickey).\r\n", "ssh-copy-id node-b", SshRetry::kUseless},
           Case{"ssh: connect to host node-b port 22: Connection refused\r\n", "start sshd there", SshRetry::kLater},
           Case{"ssh: connect to host node-b port 22: Connection timed out\r\n", "does not answer", SshRetry::kSlowly},
           Case{"ssh: connect to host node-b port 22: No route to host\r\n", "no way to node-b", SshRetry::kSlowly},
           Case{"ssh: connect to host node-b port 22: Network is unreachable\n", "no way to node-b", SshRetry::kLater},
           Case{"ssh: Could not resolve hostname node-b: Name or service not known\r\n", "nobody knows a host named node-b",
                SshRetry::kLater},
           Case{"kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 10.78.0.12 port 22\r\n",
                "MaxStartups", SshRetry::kLater},
           Case{"command-line line 0: Bad configuration option: blah\r\n", "--ssh-option", SshRetry::kUseless},
       }) {
    const SshFailure failure = FailureOf(one.said);
    EXPECT_THAT(failure.sentence, AllOf(HasSubstr(one.part), HasSubstr("node-b"), Not(HasSubstr("\r")), Not(HasSubstr("\n"))));
    EXPECT_EQ(failure.retry, one.retry) << one.said;
  }
  EXPECT_THAT(FailureOf("first\nlast words\x1b[31m\n", 3).sentence, AllOf(HasSubstr("exited with 3"), HasSubstr("last words")));
  EXPECT_THAT(FailureOf("\x1b[31m", 3).sentence, Not(HasSubstr("\x1b")));
}

TEST(DescribeFailedStart, SaysWhatTheFarEndHasFound) {
  SshEnd end;
  end.wait_status = 127 << 8;
  end.missing = true;
  end.searched_path = "/usr/bin:/bin";
  v1::AgentStart start = StartOf(1, "node-b");
  start.mutable_ssh()->set_remote_muster("/else/muster");
  const SshFailure missing = DescribeFailedStart(start, end);
  EXPECT_THAT(missing.sentence, AllOf(HasSubstr("no muster on node-b"), HasSubstr("/else/muster"), HasSubstr("/opt/muster/bin/muster"),
                                      HasSubstr("/usr/bin:/bin"), HasSubstr("--remote-muster")));
  EXPECT_EQ(missing.retry, SshRetry::kUseless);
  end = SshEnd();
  end.found = true;
  end.found_file = "/usr/bin/muster";
  end.wait_status = 64 << 8;
  end.errors = "muster: unknown option --stdin";
  EXPECT_THAT(DescribeFailedStart(start, end).sentence, AllOf(HasSubstr("/usr/bin/muster"), HasSubstr("another version")));
  end.wait_status = 127 << 8;
  end.errors = "muster: error while loading shared libraries: libgrpc++.so.1.51";
  EXPECT_THAT(DescribeFailedStart(start, end).sentence, AllOf(HasSubstr("cannot run there"), HasSubstr("libgrpc")));
}

// --- Trees ---

uint32_t Depth(const v1::AgentStart& tree) {
  uint32_t depth = 0;
  for (const v1::AgentStart& child : tree.children()) depth = std::max(depth, Depth(child));
  return depth + 1;
}

void Collect(const v1::AgentStart& tree, bool is_root, uint32_t fan_out, std::multiset<uint32_t>* nodes) {
  nodes->insert(tree.node());
  EXPECT_EQ(tree.through_agent(), !is_root);
  EXPECT_LE(static_cast<uint32_t>(tree.children_size()), fan_out);
  for (const v1::AgentStart& child : tree.children()) Collect(child, false, fan_out, nodes);
}

TEST(StartTrees, ReachEveryNodeOnceAndNobodyStartsTooMany) {
  for (uint32_t fan_out : {1u, 2u, 3u, 32u}) {
    for (uint32_t count : {0u, 1u, 2u, 3u, 4u, 7u, 32u, 33u, 100u, 1000u}) {
      std::vector<v1::AgentStart> starts;
      for (uint32_t node = 0; node < count; ++node) starts.push_back(StartOf(node, absl::StrCat("node-", node)));
      const std::vector<v1::AgentStart> trees = MakeStartTrees(starts, fan_out);
      EXPECT_EQ(trees.size(), std::min(count, fan_out));
      std::multiset<uint32_t> nodes;
      for (const v1::AgentStart& tree : trees) Collect(tree, true, fan_out, &nodes);
      EXPECT_EQ(nodes.size(), count);
      for (uint32_t node = 0; node < count; ++node) EXPECT_EQ(nodes.count(node), 1u);
      if (fan_out == 32 && !trees.empty()) {
        EXPECT_LE(Depth(trees[0]), 2u);
      }
    }
  }
}

TEST(StartTrees, ThisMachineIsARootAndStartsNobody) {
  std::vector<v1::AgentStart> starts;
  for (uint32_t node = 0; node < 6; ++node) starts.push_back(StartOf(node, absl::StrCat("node-", node)));
  starts[2].set_is_here(true);
  const std::vector<v1::AgentStart> trees = MakeStartTrees(starts, 2);
  ASSERT_EQ(trees.size(), 3u);
  EXPECT_EQ(trees[0].node(), 2u);
  EXPECT_EQ(trees[0].children_size(), 0);
}

// --- Addresses ---

TEST(ChooseOffers, BestFirstAndLoopbackOnlyForThisMachineAlone) {
  const std::vector<OwnAddress> own = {{"127.0.0.1", "lo", true}, {"::1", "lo", true},         {"172.17.0.1", "docker0", false},
                                       {"10.0.0.5", "eth0", false}, {"192.168.1.5", "eth1", false}, {"fd00::5", "eth0", false}};
  EXPECT_THAT(ChooseOffers(own, true, {}), ElementsAre("127.0.0.1", "::1"));
  EXPECT_THAT(ChooseOffers(own, false, {}), ElementsAre("10.0.0.5", "192.168.1.5", "fd00::5", "172.17.0.1"));
  EXPECT_THAT(ChooseOffers(own, false, {"192.168.1.5", "", "fd00::5"}),
              ElementsAre("192.168.1.5", "fd00::5", "10.0.0.5", "172.17.0.1"));
  EXPECT_THAT(ChooseOffers(own, false, {"172.17.0.1"}), ElementsAre("172.17.0.1", "10.0.0.5", "192.168.1.5", "fd00::5"));
  EXPECT_THAT(ChooseOffers({}, false, {}), IsEmpty());
  EXPECT_EQ(SourceTowards("127.0.0.1"), "127.0.0.1");
  EXPECT_EQ(SourceTowards("a name"), "");
}

// --- Lines: with a client that runs the far end's command here ---

// Takes ssh's words; the last is the command for the login shell. "Hosts" whose name begins with "bad" cannot be logged in to.
constexpr char kFakeSsh[] = R"(#!/bin/sh
while [ "$1" != -- ]; do shift; done
case $2 in bad*) echo "x@$2: Permission denied (publickey)." >&2; exit 255;; esac
echo "Welcome to $2"
exec /bin/sh -c "$3"
)";
// A far end without an agent: it says what was told, and lives as long as its line.
constexpr char kFakeMuster[] = R"(#!/bin/sh
echo "muster-line: agent 1 test"
read -r start
echo "muster: agent: hello" >&2
echo "muster-line: up 0"
while read -r line; do
  case $line in
    "end 0") echo "muster-line: ended 0 killed by SIGKILL"; exit 0;;
    "end all") exit 0;;
  esac
done
)";

class SshLinesTest : public ::testing::Test {
 protected:
  SshLinesTest() {
    loop_ = *EventLoop::Create();
    ssh_ = folder_.Write("fake-ssh", kFakeSsh);
    muster_ = folder_.Write("fake-muster", kFakeMuster);
    SshLines::Callbacks callbacks;
    callbacks.up = [this](uint32_t node) { Note(absl::StrCat("up ", node)); };
    callbacks.failed = [this](uint32_t node, const SshFailure& why) { Note(absl::StrCat("failed ", node, " ", why.sentence)); };
    callbacks.ended = [this](uint32_t node, const std::string& why) { Note(absl::StrCat("ended ", node, " ", why)); };
    callbacks.adrift = [this](uint32_t node) { Note(absl::StrCat("adrift ", node)); };
    callbacks.say = [this](const std::string& line) { said_.push_back(line); };
    lines_ = std::make_unique<SshLines>(loop_.get(), std::move(callbacks), absl::Milliseconds(200));
  }
  void Note(const std::string& what) {
    clients_max_ = std::max(clients_max_, Clients().size());
    happened_.push_back(what);
    loop_->Quit();
  }
  v1::AgentStart Start(const std::string& host) {
    v1::AgentStart start = StartOf(0, host);
    start.set_program(muster_);
    start.mutable_ssh()->add_command(ssh_);
    return start;
  }
  // Until so many things have happened.
  void Await(size_t count) {
    const auto late = loop_->After(absl::Seconds(60), [this] {
      ADD_FAILURE() << "only: " << absl::StrJoin(happened_, "; ");
      late_ = true;
      loop_->Quit();
    });
    while (happened_.size() < count && !late_) loop_->Run();
    loop_->Cancel(late);
  }
  std::vector<pid_t> Clients() const {
    std::ifstream file(absl::StrCat("/proc/", ::getpid(), "/task/", ::getpid(), "/children"));
    std::vector<pid_t> children;
    for (pid_t child; file >> child;) children.push_back(child);
    return children;
  }

  Folder folder_;
  std::string ssh_, muster_;
  std::unique_ptr<EventLoop> loop_;
  std::vector<std::string> happened_, said_;
  bool late_ = false;
  size_t clients_max_ = 0;
  std::unique_ptr<SshLines> lines_;
};

TEST_F(SshLinesTest, AnAgentIsStartedAndEnded) {
  lines_->Start(Start("node-b"));
  Await(1);
  EXPECT_TRUE(lines_->holds(0));
  lines_->End(0);
  Await(2);
  EXPECT_THAT(happened_, ElementsAre("up 0", "ended 0 killed by SIGKILL"));
  EXPECT_THAT(said_, Contains("muster: agent: hello"));
  EXPECT_FALSE(lines_->holds(0));
}

TEST_F(SshLinesTest, AClientThatIsKilledEndsItsAgentAndSaysSo) {
  lines_->Start(Start("node-b"));
  Await(1);
  ASSERT_EQ(Clients().size(), 1u);
  ::kill(Clients()[0], SIGKILL);
  Await(2);
  EXPECT_THAT(happened_, ElementsAre("up 0", "ended 0 the ssh client that held it was killed by SIGKILL"));
  EXPECT_TRUE(lines_->empty());
}

TEST_F(SshLinesTest, AFarEndThatDoesNotObeyIsCutOff) {
  muster_ = folder_.Write("deaf", "#!/bin/sh\necho muster-line: agent 1 test; read -r start; echo muster-line: up 0\nexec sleep 600\n");
  lines_->Start(Start("node-b"));
  Await(1);
  lines_->End(0);
  Await(2);
  EXPECT_THAT(happened_[1], HasSubstr("ended 0 the ssh client"));
}

TEST_F(SshLinesTest, FailuresAreSaidOfAllBehindTheLine) {
  v1::AgentStart start = Start("bad-b");
  *start.add_children() = StartOf(5, "node-c");
  lines_->Start(start);
  Await(2);
  EXPECT_THAT(happened_[0], AllOf(HasSubstr("failed 0"), HasSubstr("bad-b does not let us in")));
  EXPECT_THAT(happened_[1], HasSubstr("failed 5"));
}

TEST_F(SshLinesTest, AnotherProtocolIsAnotherVersion) {
  muster_ = folder_.Write("old", "#!/bin/sh\necho muster-line: agent 99 7.7.7; read -r start; exec sleep 600\n");
  lines_->Start(Start("node-b"));
  Await(1);
  EXPECT_THAT(happened_[0], AllOf(HasSubstr("node-b"), HasSubstr(muster_), HasSubstr("version 7.7.7"), HasSubstr("--remote-muster")));
}

TEST_F(SshLinesTest, WhoWasStartedThroughALostHostLivesOn) {
  muster_ = folder_.Write("two", "#!/bin/sh\necho muster-line: agent 1 x; read -r start; echo muster-line: up 0; echo muster-line: up 5\n"
                                 "exec sleep 600\n");
  v1::AgentStart start = Start("node-b");
  *start.add_children() = StartOf(5, "node-c");
  *start.add_children() = StartOf(6, "node-d");
  lines_->Start(start);
  Await(2);
  ::kill(Clients()[0], SIGKILL);
  Await(5);
  EXPECT_THAT(happened_[2], HasSubstr("ended 0"));
  EXPECT_THAT(happened_, Contains("adrift 5"));
  EXPECT_THAT(happened_, Contains(HasSubstr("failed 6")));
}

TEST_F(SshLinesTest, NoClientIsLeftWhenAllIsEnded) {
  for (uint32_t node = 0; node < 3; ++node) {
    v1::AgentStart start = Start("node-b");
    start.set_node(node);
    lines_->Start(start);
  }
  Await(1);
  lines_->EndAll(absl::Seconds(20));
  EXPECT_THAT(Clients(), IsEmpty());
  EXPECT_EQ(lines_->nodes(), 0u);
}

TEST_F(SshLinesTest, MoreThanMayLogInAtOnceWaitForTheirTurn) {
  constexpr uint32_t kMany = 3 * SshLines::kLoginsMax;
  for (uint32_t node = 0; node < kMany; ++node) {
    v1::AgentStart start = Start("bad-b");
    start.set_node(node);
    lines_->Start(start);
  }
  Await(kMany);
  EXPECT_EQ(happened_.size(), kMany);
  EXPECT_LE(clients_max_, SshLines::kLoginsMax);
  EXPECT_TRUE(lines_->empty());
}

TEST_F(SshLinesTest, TheStarterGoesAroundAHostThatCannotStartOthers) {
  std::vector<std::string> happened;
  SshStarterOptions options;
  options.hosts = {{"bad-a", "", false}, {"node-b", "", false}};
  options.program = folder_.Write("zero", "#!/bin/sh\necho muster-line: agent 1 x; read -r start; echo muster-line: up 1\nexec sleep 600\n");
  options.ssh.add_command(ssh_);
  options.ssh.set_fan_out(1);
  options.listen = "127.0.0.1";
  Starter::Callbacks callbacks;
  callbacks.ended = [&](uint32_t node, const std::string& why) { happened.push_back(absl::StrCat("ended ", node, why)); };
  callbacks.hopeless = [&](uint32_t node, const std::string& why) {
    happened.push_back(absl::StrCat("hopeless ", node, " ", why));
    loop_->Quit();
  };
  auto starter = SshStarter::Create(loop_.get(), options, callbacks, [](const std::string&) {});
  ASSERT_TRUE(starter.ok()) << starter.status();
  EXPECT_THAT((*starter)->offers(), ElementsAre("127.0.0.1"));
  ASSERT_TRUE((*starter)->Start(0, "127.0.0.1:1", "ticket").ok());
  ASSERT_TRUE((*starter)->Start(1, "127.0.0.1:1", "ticket").ok());
  loop_->After(absl::Seconds(60), [this] { loop_->Quit(); });
  loop_->Run();
  EXPECT_THAT(happened, ElementsAre(HasSubstr("hopeless 0 bad-a does not let us in")));
  // The other was behind it, and is started from here.
  EXPECT_EQ((*starter)->running(), 1u);
}

}  // namespace
}  // namespace muster

// An agent with its real guard and real workers, generation after generation; the test is its coordinator.
#include "launcher/agent/agent.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/support/local_agent.h"

namespace muster {
namespace {

const std::string kJobId = "0123456789abcdef";

class AgentTest : public ::testing::Test {
 protected:
  AgentTest() : loop_(EventLoop::Create().value()) {
    options_.job_id = kJobId;
    options_.host = "test-host";
    options_.slots = 8;
    options_.guard_path = MUSTER_GUARD_PATH;
    options_.inherited_environment = {"PATH=/usr/bin:/bin"};
    options_.streams.output.deliver = [this](uint32_t rank, OutputStream, absl::string_view text) {
      absl::StrAppend(&output_[rank], text);
    };
  }

  ~AgentTest() override { agent_.reset(); }

  void Shell(const std::string& script) {
    options_.program = "/bin/sh";
    options_.argv = {"sh", "-c", script};
  }

  void Start() {
    Agent::Callbacks callbacks;
    callbacks.send = [this](v1::AgentMessage message) { messages_.push_back(std::move(message)); };
    callbacks.gone = [this](absl::Status status) {
      EXPECT_TRUE(status.ok()) << status;
      gone_ = true;
    };
    callbacks.log = [this](LogLevel, const std::string& line) { log_.push_back(line); };
    agent_ = Agent::Create(loop_.get(), options_, std::move(callbacks)).value();
    agent_->Start();
    agent_->ChannelUp();
    ASSERT_TRUE(RunUntil([this] { return Find([](const v1::AgentMessage& m) { return m.has_join(); }) != nullptr; }));
    v1::CoordinatorMessage joined = Message(0);
    *joined.mutable_joined()->mutable_job() = job_;
    agent_->OnMessage(std::move(joined));
  }

  static v1::CoordinatorMessage Message(uint64_t generation) {
    v1::CoordinatorMessage message;
    message.set_job_id(kJobId);
    message.set_generation(generation);
    message.set_incarnation(1);
    return message;
  }

  // Ranks `first` to `first + here - 1` of `world` are here, in slots 0, 1, ...
  void Prepare(uint64_t generation, uint32_t here, uint32_t world = 0, uint32_t first = 0) {
    v1::CoordinatorMessage message = Message(generation);
    v1::Prepare& prepare = *message.mutable_prepare();
    prepare.set_world_size(world == 0 ? here : world);
    prepare.set_nodes(world == 0 || world == here ? 1 : 2);
    prepare.set_group_rank(first == 0 ? 0 : 1);
    for (uint32_t i = 0; i < here; ++i) {
      v1::Place& place = *prepare.add_places();
      place.set_rank(first + i);
      place.set_slot(i);
      place.set_node(4);
      place.set_local_rank(i);
    }
    prepare.set_master_address("127.0.0.1");
    prepare.set_master_port(29500);
    prepare.set_key(std::string(32, 'k'));
    prepare.set_restarts(static_cast<uint32_t>(generation) - 1);
    prepare.set_max_restarts(7);
    agent_->OnMessage(std::move(message));
  }

  void Go(uint64_t generation, const std::string& members_sha256 = "") {
    v1::CoordinatorMessage message = Message(generation);
    message.mutable_go()->set_members_sha256(members_sha256);
    agent_->OnMessage(std::move(message));
  }

  void Abandon(uint64_t generation) {
    v1::CoordinatorMessage message = Message(generation);
    message.mutable_abandon()->set_reason("the test wants another generation");
    agent_->OnMessage(std::move(message));
  }

  void Stop() {
    v1::CoordinatorMessage message = Message(0);
    message.mutable_stop()->set_reason("the test is over");
    agent_->OnMessage(std::move(message));
    EXPECT_TRUE(RunUntil([this] { return gone_; }));
  }

  const v1::AgentMessage* Find(const std::function<bool(const v1::AgentMessage&)>& matches) const {
    for (const v1::AgentMessage& message : messages_) {
      if (matches(message)) return &message;
    }
    return nullptr;
  }
  // Waits for a message of this generation.
  const v1::AgentMessage* Await(uint64_t generation, const std::function<bool(const v1::AgentMessage&)>& matches) {
    const v1::AgentMessage* found = nullptr;
    EXPECT_TRUE(RunUntil([&] {
      found = Find([&](const v1::AgentMessage& m) { return m.generation() == generation && matches(m); });
      return found != nullptr;
    })) << "of generation "
        << generation << "; log: " << absl::StrJoin(log_, " / ");
    return found;
  }
  v1::WorkerEnded AwaitEnd(uint64_t generation, uint32_t rank) {
    const auto* message = Await(generation, [rank](const v1::AgentMessage& m) {
      return m.has_worker_ended() && m.worker_ended().rank() == rank;
    });
    return message == nullptr ? v1::WorkerEnded() : message->worker_ended();
  }
  v1::Ready AwaitReady(uint64_t generation) {
    const auto* message = Await(generation, [](const v1::AgentMessage& m) { return m.has_ready(); });
    return message == nullptr ? v1::Ready() : message->ready();
  }
  void AwaitCleared(uint64_t generation) {
    Await(generation, [](const v1::AgentMessage& m) { return m.has_cleared(); });
  }
  bool AwaitOutput(uint32_t rank, const std::string& text) {
    const bool came = RunUntil([&] { return absl::StrContains(output_[rank], text); });
    EXPECT_TRUE(came) << "rank " << rank << " wrote: " << output_[rank];
    return came;
  }

  // Runs the loop until `done`; false after a generous deadline.
  bool RunUntil(const std::function<bool()>& done) {
    bool late = false;
    const auto timer = loop_->After(testing::kTestPatience, [&] {
      late = true;
      loop_->Quit();
    });
    while (!late && !done()) {
      const auto tick = loop_->After(absl::Milliseconds(1), [&] { loop_->Quit(); });
      loop_->Run();
      loop_->Cancel(tick);
    }
    loop_->Cancel(timer);
    return !late;
  }

  std::unique_ptr<EventLoop> loop_;
  AgentOptions options_;
  v1::JobSpec job_;
  std::map<uint32_t, std::string> output_;  // by rank, stdout and stderr
  std::vector<v1::AgentMessage> messages_;
  std::vector<std::string> log_;
  bool gone_ = false;
  std::unique_ptr<Agent> agent_;
};

// Programs without libmuster: one of each generation kills itself, the others are ended by Abandon.
TEST_F(AgentTest, RestartsPlainProgramsAnyNumberOfTimes) {
  constexpr uint64_t kGenerations = 4;
  Shell(
      "printf 'g%s rank %s' $TORCHELASTIC_RESTART_COUNT $RANK; test $RANK = 1 && kill -KILL $$;"
      "echo; sleep 600 & wait");
  Start();
  for (uint64_t generation = 1; generation <= kGenerations; ++generation) {
    Prepare(generation, 3);
    const v1::Ready ready = AwaitReady(generation);
    ASSERT_EQ(ready.places_size(), 3);
    for (const v1::Place& place : ready.places()) {
      EXPECT_EQ(place.spawn(), generation);
      EXPECT_EQ(place.data_port(), 0u) << "a single node";
    }
    Go(generation);
    const v1::WorkerEnded killed = AwaitEnd(generation, 1);
    EXPECT_EQ(killed.ending().kind(), v1::Ending::SIGNALED);
    EXPECT_EQ(killed.ending().code(), SIGKILL);
    EXPECT_EQ(killed.spawn(), generation);
    EXPECT_FALSE(killed.expected());
    for (const uint32_t rank : {0u, 2u}) ASSERT_TRUE(AwaitOutput(rank, absl::StrCat("g", generation - 1, " rank ", rank, "\n")));
    Abandon(generation);
    AwaitCleared(generation);
    EXPECT_EQ(agent_->workers_alive(), 0u);
    for (const uint32_t rank : {0u, 2u}) {
      const v1::WorkerEnded ended = AwaitEnd(generation, rank);
      EXPECT_TRUE(ended.expected());
      EXPECT_EQ(ended.spawn(), generation);
    }
  }
  Stop();
  // The last words of each process, of which the killed one's had no end of line, in order and nothing twice.
  EXPECT_EQ(output_[0], "g0 rank 0\ng1 rank 0\ng2 rank 0\ng3 rank 0\n");
  EXPECT_EQ(output_[1], "g0 rank 1g1 rank 1g2 rank 1g3 rank 1");
  std::map<std::pair<uint64_t, uint32_t>, int> ends;
  for (const v1::AgentMessage& message : messages_) {
    if (message.has_worker_ended()) ++ends[{message.generation(), message.worker_ended().rank()}];
  }
  EXPECT_EQ(ends.size(), 3 * kGenerations);
  for (const auto& [which, count] : ends) EXPECT_EQ(count, 1) << "generation " << which.first << " rank " << which.second;
}

TEST_F(AgentTest, ANewPrepareEndsTheOldGenerationAndFollowsIt) {
  Shell("echo generation $TORCHELASTIC_RESTART_COUNT of $TORCHELASTIC_MAX_RESTARTS; sleep 600 & wait");
  Start();
  Prepare(1, 2);
  AwaitReady(1);
  Go(1);
  for (const uint32_t rank : {0u, 1u}) ASSERT_TRUE(AwaitOutput(rank, "generation 0 of 7\n"));
  Prepare(2, 1);  // smaller, and the coordinator has not waited
  EXPECT_EQ(AwaitReady(2).places_size(), 1);
  for (const uint32_t rank : {0u, 1u}) EXPECT_EQ(AwaitEnd(1, rank).spawn(), 1u);
  Go(2);
  ASSERT_TRUE(AwaitOutput(0, "generation 1 of 7\n"));
  EXPECT_EQ(agent_->workers_alive(), 1u);
  Stop();
}

// Linked with libmuster: what broke in one generation is whole in the next.
TEST_F(AgentTest, SessionsOfTheNextGenerationKnowNothingOfTheLast) {
  const int memory_before = testing::CountDescriptors("memfd:muster");
  Shell(absl::StrCat("case $TORCHELASTIC_RESTART_COUNT,$RANK in 2,*) exec ", SESSION_WORKER, " reduce 3;; *,1) exec ",
                     SESSION_WORKER, " end _exit;; *) exec ", SESSION_WORKER, " block;; esac"));
  Start();
  for (uint64_t generation = 1; generation <= 2; ++generation) {
    Prepare(generation, 3);
    AwaitReady(generation);
    Go(generation);
    const v1::WorkerEnded lost = AwaitEnd(generation, 1);
    EXPECT_TRUE(lost.had_joined());
    EXPECT_FALSE(lost.had_left());
    Await(generation, [](const v1::AgentMessage& m) { return m.has_peer_blamed() && m.peer_blamed().blamed_rank() == 1; });
    Abandon(generation);
    AwaitCleared(generation);
    EXPECT_EQ(testing::CountDescriptors("memfd:muster"), memory_before) << "control memory, life pages and windows are let go of";
  }
  Prepare(3, 3);
  AwaitReady(3);
  Go(3);
  for (uint32_t rank = 0; rank < 3; ++rank) {
    const v1::WorkerEnded ended = AwaitEnd(3, rank);
    EXPECT_EQ(ended.ending().kind(), v1::Ending::EXITED);
    EXPECT_EQ(ended.ending().code(), 0) << output_[rank];
    EXPECT_TRUE(ended.had_left());
    EXPECT_EQ(ended.spawn(), 3u);
    EXPECT_TRUE(absl::StrContains(output_[rank], absl::StrCat("ok rank ", rank, " of 3\n"))) << output_[rank];
  }
  Stop();
  EXPECT_EQ(Find([](const v1::AgentMessage& m) { return m.generation() == 3 && m.has_peer_blamed(); }), nullptr);
}

TEST_F(AgentTest, FilesInTmpdirOutliveAGeneration) {
  std::string folder = absl::StrCat(::testing::TempDir(), "muster-agent-test-XXXXXX");
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  options_.session_folder = folder;
  Shell("cat $TMPDIR/kept 2>/dev/null; echo kept >$TMPDIR/kept; echo done");
  Start();
  for (uint64_t generation = 1; generation <= 2; ++generation) {
    Prepare(generation, 1);
    AwaitReady(generation);
    Go(generation);
    AwaitEnd(generation, 0);
    Abandon(generation);
    AwaitCleared(generation);
  }
  Stop();
  EXPECT_EQ(output_[0], "done\nkept\ndone\n");
  agent_.reset();
  EXPECT_NE(::access(folder.c_str(), F_OK), 0) << "removed at the end of the job";
}

TEST_F(AgentTest, TakesTheJobFromTheCoordinator) {
  options_.take_job = [](const v1::JobSpec& job, AgentOptions* options) {
    TakeJob(job, options);
    return absl::OkStatus();
  };
  job_.add_command("/bin/sh");
  job_.add_command("-c");
  job_.add_command("echo $WORD in $PWD");
  job_.add_environment("WORD=hello");
  job_.set_working_directory("/usr");
  job_.mutable_output()->set_tag(true);
  Start();
  ASSERT_TRUE(agent_->has_output());
  Prepare(1, 1);
  AwaitReady(1);
  Go(1);
  AwaitEnd(1, 0);
  Stop();
  EXPECT_EQ(output_[0], "hello in /usr\n") << "marks are put where it is written";
}

TEST_F(AgentTest, AJobThatCannotBeTakenIsEachWorkersReason) {
  options_.take_job = [](const v1::JobSpec&, AgentOptions*) { return absl::InvalidArgumentError("no such folder here"); };
  Start();
  Prepare(1, 2);
  for (const uint32_t slot : {0u, 1u}) {
    const auto* message =
        Await(1, [slot](const v1::AgentMessage& m) { return m.has_prepare_failed() && m.prepare_failed().slot() == slot; });
    ASSERT_NE(message, nullptr);
    EXPECT_TRUE(absl::StrContains(message->prepare_failed().ending().detail(), "no such folder here"))
        << message->DebugString();
  }
  Stop();
}

TEST_F(AgentTest, AProgramThatIsNotHereIsNamedAsExecveWouldNameIt) {
  options_.take_job = [](const v1::JobSpec&, AgentOptions* options) {
    options->argv = {"no-such-program"};
    return absl::NotFoundError("not in PATH");
  };
  Start();
  Prepare(1, 1);
  const auto* message = Await(1, [](const v1::AgentMessage& m) { return m.has_prepare_failed(); });
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->prepare_failed().ending().kind(), v1::Ending::NOT_FOUND);
  EXPECT_EQ(message->prepare_failed().ending().detail(), "no-such-program");
  Stop();
}

// Else nobody would count on the agent, and its reason would never be heard.
TEST_F(AgentTest, OutputFilesDoNotHideAJobThatCannotBeTaken) {
  options_.take_job = [](const v1::JobSpec&, AgentOptions* options) {
    options->streams.file_pattern = "/no/such/folder/%r";
    return absl::NotFoundError("not in PATH");
  };
  Start();
  ASSERT_TRUE(RunUntil([this] {
    return std::any_of(messages_.begin(), messages_.end(),
                       [](const v1::AgentMessage& m) { return m.has_output_ready() && m.output_ready().why_not().empty(); });
  }));
  Stop();
}

TEST_F(AgentTest, PassesSignalsWindowSizeAndInput) {
  options_.streams.pty_stdout = true;
  options_.streams.fed_stdin = true;
  options_.program = "/usr/bin/env";  // no shell: a signal during their `read` may end it, or be put off until its end
  options_.argv = {"env", "python3", "-u", "-c",
                   "import os, signal, sys\n"
                   "signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'got usr1\\n'))\n"
                   "size = lambda: '%d %d\\n' % os.get_terminal_size(1)[::-1]\n"
                   "signal.signal(signal.SIGWINCH, lambda *_: os.write(1, size().encode()))\n"
                   "print('ready')\n"
                   "for line in sys.stdin: print('line ' + line, end='')\n"
                   "print('end of input')\n"};
  Start();
  v1::CoordinatorMessage size = Message(0);
  size.mutable_signal()->set_signal(SIGWINCH);
  size.mutable_signal()->set_rows(33);
  size.mutable_signal()->set_columns(77);
  Prepare(1, 1);
  AwaitReady(1);
  Go(1);
  ASSERT_TRUE(AwaitOutput(0, "ready\n"));
  agent_->OnMessage(size);
  ASSERT_TRUE(AwaitOutput(0, "33 77\n"));
  v1::CoordinatorMessage signal = Message(0);
  signal.mutable_signal()->set_signal(SIGUSR1);
  agent_->OnMessage(signal);
  ASSERT_TRUE(AwaitOutput(0, "got usr1\n"));
  v1::CoordinatorMessage input = Message(0);
  input.mutable_input()->set_bytes("first\n");
  agent_->OnMessage(input);
  ASSERT_TRUE(AwaitOutput(0, "line first\n"));
  Await(1, [](const v1::AgentMessage& m) { return m.has_input_taken() && !m.input_taken().closed(); });
  input.mutable_input()->set_bytes("last\n");
  input.mutable_input()->set_end(true);
  agent_->OnMessage(input);
  ASSERT_TRUE(AwaitOutput(0, "line last\nend of input\n"));
  AwaitEnd(1, 0);
  Stop();
}

// What the old rank 0 did not read is lost, but never the turn: the next piece goes to the new one.
TEST_F(AgentTest, InputGoesOnWithTheNextGeneration) {
  options_.streams.fed_stdin = true;
  Shell("if [ $TORCHELASTIC_RESTART_COUNT = 0 ]; then echo up; sleep 600 & wait; fi; read line; echo line $line");
  Start();
  Prepare(1, 1);
  AwaitReady(1);
  Go(1);
  ASSERT_TRUE(AwaitOutput(0, "up\n"));
  const auto taken = [this] {
    return std::count_if(messages_.begin(), messages_.end(), [](const v1::AgentMessage& m) { return m.has_input_taken(); });
  };
  v1::CoordinatorMessage input = Message(0);
  input.mutable_input()->set_bytes(std::string(1 << 20, 'x') + "\n");  // more than a pipe holds
  agent_->OnMessage(input);
  Abandon(1);
  AwaitCleared(1);
  ASSERT_TRUE(RunUntil([&] { return taken() == 1; }));
  input.mutable_input()->set_bytes("for the next\n");
  agent_->OnMessage(input);  // there is no worker now
  Prepare(2, 1);
  AwaitReady(2);
  Go(2);
  ASSERT_TRUE(AwaitOutput(0, "line for the next\n"));
  ASSERT_TRUE(RunUntil([&] { return taken() == 2; }));
  AwaitEnd(2, 0);
  Stop();
}

// --- Several nodes ---

std::string Sha256(const std::string& bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

TEST_F(AgentTest, OneOfSeveralNodes) {
  options_.address = "127.0.0.2";
  options_.checkpoint.set_path("/somewhere");
  Shell("echo rank $RANK of $WORLD_SIZE, local $LOCAL_RANK of $LOCAL_WORLD_SIZE, node $GROUP_RANK of $GROUP_WORLD_SIZE; "
        "sleep 600 & wait");
  Start();
  std::set<uint32_t> ports;
  for (uint64_t generation = 1; generation <= 2; ++generation) {
    Prepare(generation, 2, /*world=*/5, /*first=*/3);
    const v1::Ready ready = AwaitReady(generation);
    ASSERT_EQ(ready.places_size(), 2);
    v1::Members members;
    for (uint32_t rank = 0; rank < 3; ++rank) {
      v1::Place& place = *members.add_places();
      place.set_rank(rank);
      place.set_node(9);
      place.set_local_rank(rank);
      place.set_data_port(1000 + rank);
    }
    for (const v1::Place& place : ready.places()) {
      EXPECT_EQ(place.spawn(), generation);
      ASSERT_GT(place.data_port(), 0u);
      ports.insert(place.data_port());
      *members.add_places() = place;
      // Nobody listens there before the worker does.
      sockaddr_in address = {};
      address.sin_family = AF_INET;
      ASSERT_EQ(::inet_pton(AF_INET, "127.0.0.2", &address.sin_addr), 1);
      address.sin_port = htons(static_cast<uint16_t>(place.data_port()));
      UniqueFd dialed(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      EXPECT_NE(::connect(dialed.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
      EXPECT_EQ(errno, ECONNREFUSED);
    }
    for (const uint32_t node : {4u, 9u}) {
      v1::Node& added = *members.add_nodes();
      added.set_node(node);
      added.set_host(absl::StrCat("node", node));
      added.set_address(node == 4 ? "127.0.0.2" : "127.0.0.1");
    }
    const std::string digest = Sha256(members.SerializeAsString());
    Go(generation, digest);
    const auto* asked = Await(generation, [](const v1::AgentMessage& m) { return m.has_members_request(); });
    ASSERT_NE(asked, nullptr);
    EXPECT_EQ(asked->members_request().members_sha256(), digest);
    v1::CoordinatorMessage answer = Message(generation);
    *answer.mutable_members() = members;
    agent_->OnMessage(answer);
    for (const uint32_t rank : {3u, 4u}) {
      ASSERT_TRUE(AwaitOutput(rank, absl::StrCat("rank ", rank, " of 5, local ", rank - 3, " of 2, node 1 of 2\n")));
    }
    Abandon(generation);
    AwaitCleared(generation);
  }
  EXPECT_EQ(ports.size(), 4u) << "each process has a port of its own";
  EXPECT_TRUE(log_.empty()) << absl::StrJoin(log_, " / ");
  Stop();
}

TEST_F(AgentTest, AnAddressThatIsNotThisNodesIsNamed) {
  options_.address = "192.0.2.1";  // for documentation, RFC 5737
  Shell("exit 0");
  Start();
  Prepare(1, 1, /*world=*/2);
  const auto* message = Await(1, [](const v1::AgentMessage& m) { return m.has_prepare_failed(); });
  ASSERT_NE(message, nullptr);
  EXPECT_TRUE(absl::StrContains(message->prepare_failed().ending().detail(), "192.0.2.1")) << message->DebugString();
  Stop();
}

TEST_F(AgentTest, TurnedAwayConnectionsAreTold) {
  Shell(absl::StrCat(SESSION_WORKER, " reduce 1; ", SESSION_WORKER, " reduce 1; true"));  // the second one is refused
  Start();
  Prepare(1, 1);
  AwaitReady(1);
  Go(1);
  const auto* message = Await(1, [](const v1::AgentMessage& m) { return m.has_refusal(); });
  ASSERT_NE(message, nullptr);
  EXPECT_TRUE(absl::StrContains(message->refusal().what(), "has had its session")) << message->DebugString();
  EXPECT_EQ(message->refusal().count(), 1u);
  EXPECT_EQ(message->job_id(), kJobId);
  Stop();
}

}  // namespace
}  // namespace muster

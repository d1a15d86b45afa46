// The worker's line against the agent's port, both in this process.
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cstdlib>
#include <cstring>
#include <random>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "muster/v1/worker.pb.h"
#include "runtime/base/frame.h"
#include "runtime/base/sealed_memory.h"
#include "tests/support/joined_line.h"
#include "tests/support/local_agent.h"

namespace muster {
namespace {

using testing::JoinAs;
using testing::kTestPatience;
using testing::Joined;
using testing::LocalAgent;

int Connect(const LocalAgent& agent) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, agent.socket().data(), agent.socket().size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + agent.socket().size());
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
  return fd;
}

TEST(Join, GetsItsPlaceTheControlMemoryAndTheLimits) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Begin(1, 7);
  const std::unique_ptr<Joined> joined = JoinAs(agent, 0);
  ASSERT_TRUE(joined->status.ok()) << joined->status;
  const Membership& membership = joined->membership;
  EXPECT_EQ(membership.generation, 7u);
  EXPECT_EQ(membership.rank, 0u);
  EXPECT_EQ(membership.world_size, 1u);
  EXPECT_EQ(membership.key, std::string(32, 'k'));
  EXPECT_EQ(membership.host, "test-host");
  EXPECT_GT(membership.memory_limit_bytes, 0);
  EXPECT_FALSE(membership.memory_limit_source.empty());
  ASSERT_TRUE(CheckSealedMemory(membership.control.get(), sizeof(v1::ControlHeader)).ok());
  void* memory = MapSharedMemory(membership.control.get(), sizeof(v1::ControlHeader)).value();
  const auto* header = static_cast<const v1::ControlHeader*>(memory);
  EXPECT_EQ(header->magic, v1::kControlMagic);
  EXPECT_EQ(header->generation, 7u);
  EXPECT_EQ(header->local_size, 1u);
  EXPECT_TRUE(agent.Await(LocalAgent::Event::kJoined, 0).slot == 0);
  EXPECT_EQ(agent.Count(LocalAgent::Event::kLeft), 0u);
  joined->life->Leave();
  agent.Await(LocalAgent::Event::kLeft, 0);
  agent.Do([](WorkerPort& port) {
    EXPECT_TRUE(port.HasJoined(0));
    EXPECT_TRUE(port.HasLeft(0));
  });
  EXPECT_EQ(agent.Count(LocalAgent::Event::kLost), 0u);
}

TEST(Join, WaitsForTheGenerationAndForTheWordThatItIsExpected) {
  LocalAgent agent;
  std::thread late([&] {
    agent.Expect(3, ::getpid());
    LocalGeneration generation{.generation = 2, .job_id = agent.job_id(), .key = std::string(32, 'k'), .world_size = 1};
    generation.places = {{3, 0}};
    agent.Await(LocalAgent::Event::kJoined, 3);
    agent.Do([&](WorkerPort& port) { EXPECT_TRUE(port.BeginGeneration(generation).ok()); });
  });
  const std::unique_ptr<Joined> joined = JoinAs(agent, 3);
  late.join();
  ASSERT_TRUE(joined->status.ok()) << joined->status;
  EXPECT_EQ(joined->membership.generation, 2u);
}

TEST(Join, NoAnswerBeforeTheGeneration) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  EXPECT_EQ(JoinAs(agent, 0, absl::Milliseconds(50))->status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(Join, SecondSessionOfASlotIsRefusedByName) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Begin(1);
  const std::unique_ptr<Joined> first = JoinAs(agent, 0);
  ASSERT_TRUE(first->status.ok());
  const std::unique_ptr<Joined> second = JoinAs(agent, 0);
  EXPECT_EQ(second->status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(absl::StrContains(second->status.message(), "slot 0 has had its session")) << second->status;
  EXPECT_EQ(agent.Count(LocalAgent::Event::kLost), 0u) << "the first one stays";
}

TEST(Join, StrangerIsRefused) {
  LocalAgent agent;
  const pid_t other = ::fork();  // the worker; this process is its parent, not its child
  if (other == 0) {
    ::pause();
    ::_exit(0);
  }
  agent.Expect(0, other);
  agent.Begin(1);
  const std::unique_ptr<Joined> stranger = JoinAs(agent, 0);
  EXPECT_EQ(stranger->status.code(), absl::StatusCode::kPermissionDenied) << stranger->status;
  EXPECT_TRUE(absl::StrContains(stranger->status.message(), "does not descend")) << stranger->status;
  EXPECT_EQ(agent.Count(LocalAgent::Event::kJoined), 0u);
  ::kill(other, SIGKILL);
  ::waitpid(other, nullptr, 0);
}

TEST(Join, NobodyAtTheSocket) {
  auto line = AgentLine::Connect("muster-nobody-is-here", std::string(16, 'j'), absl::Now() + kTestPatience);
  EXPECT_EQ(line.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(line.status().message(), "unset MUSTER_SOCKET")) << line.status();
}

TEST(Join, EndOfTheGenerationReachesMembersAndLatecomers) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Expect(1, ::getpid());
  agent.Begin(2);
  const std::unique_ptr<Joined> joined = JoinAs(agent, 0);
  ASSERT_TRUE(joined->status.ok());
  agent.Do([](WorkerPort& port) { port.EndGeneration("rank 1 fell"); });
  EXPECT_EQ(joined->AwaitOver(), "rank 1 fell");
  const std::unique_ptr<Joined> late = JoinAs(agent, 1);
  EXPECT_EQ(late->status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(late->status.message(), "rank 1 fell")) << late->status;
}

// Its peers would wait for it for ever: only it could have said so in the control memory.
TEST(Join, WhoLeavesBeforeItMapsTheControlMemoryHasLeftForItsPeersToo) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Expect(1, ::getpid());
  agent.Begin(2);
  const std::unique_ptr<Joined> peer = JoinAs(agent, 1);
  ASSERT_TRUE(peer->status.ok()) << peer->status;
  const std::unique_ptr<Joined> joined = JoinAs(agent, 0);
  ASSERT_TRUE(joined->status.ok()) << joined->status;
  joined->life->Leave();
  agent.Await(LocalAgent::Event::kLeft, 0);
  struct stat status;
  ASSERT_EQ(::fstat(peer->membership.control.get(), &status), 0);
  auto* header = static_cast<v1::ControlHeader*>(MapSharedMemory(peer->membership.control.get(), status.st_size).value());
  EXPECT_EQ(v1::RankAreaOf(header, 0).left.load(), 1u);
  EXPECT_EQ(v1::RankAreaOf(header, 1).left.load(), 0u);
  EXPECT_EQ(header->abort_word.load(), v1::kNoAbort) << "a clean end";
  ::munmap(header, static_cast<size_t>(status.st_size));
}

TEST(Join, NothingStaysOpenWhenThePortCloses) {
  const int memory_before = testing::CountDescriptors("memfd:muster");
  const int sockets_before = testing::CountDescriptors("socket:");
  {
    LocalAgent agent;
    agent.Expect(0, ::getpid());
    agent.Begin(2);
    const std::unique_ptr<Joined> joined = JoinAs(agent, 0);
    ASSERT_TRUE(joined->status.ok());
    UniqueFd window = MakeSealedMemory("muster-window", 8192).value();
    ASSERT_TRUE(joined->line->OfferWindow(0, window.get(), 8192).ok());  // waits for rank 1, who never comes
    UniqueFd silent(Connect(agent));
    joined->line->ReportStep(5);
    EXPECT_EQ(agent.Await(LocalAgent::Event::kStep, 0).step, 5);
    agent.ClosePort();
  }
  EXPECT_EQ(testing::CountDescriptors("memfd:muster"), memory_before);
  EXPECT_EQ(testing::CountDescriptors("socket:"), sockets_before);
}

// A worker that says anything at all: the port answers, refuses or drops, and serves the next one.
TEST(Join, PortSurvivesRandomMessages) {
  const char* given = std::getenv("MUSTER_TEST_SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::atoi(given)) : std::random_device()() % 1'000'000'000;
  SCOPED_TRACE("MUSTER_TEST_SEED=" + std::to_string(seed) +
               " unit_rendezvous_test --gtest_filter=Join.PortSurvivesRandomMessages");
  std::mt19937 random(seed);
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Begin(1);
  UniqueFd memory = MakeSealedMemory("muster-junk", 4096).value();
  for (int round = 0; round < 300; ++round) {
    UniqueFd socket(Connect(agent));
    v1::WorkerMessage message;
    message.set_job_id(agent.job_id());
    message.set_generation(random() % 3);
    switch (random() % 4) {
      case 0:
        message.mutable_hello()->set_slot(static_cast<uint32_t>(random() % 3));
        break;
      case 1:
        message.mutable_window_offer()->set_bytes(random());
        break;
      case 2:
        message.mutable_blame()->set_rank(static_cast<uint32_t>(random()));
        break;
      default:
        message.mutable_leave();
        break;
    }
    if (message.has_hello()) message.mutable_hello()->set_protocol_version(static_cast<uint32_t>(random() % 2));
    std::string bytes = message.SerializeAsString();
    if (random() % 2 == 0 && !bytes.empty()) bytes[random() % bytes.size()] = static_cast<char>(random());
    FrameWriter writer(1 << 20);
    std::vector<int> fds(random() % 3, memory.get());
    writer.Send(socket.get(), bytes, fds).IgnoreError();
  }
  const std::unique_ptr<Joined> joined = JoinAs(agent, 0);
  ASSERT_TRUE(joined->status.ok()) << joined->status;
  EXPECT_EQ(agent.Count(LocalAgent::Event::kLost), 0u);
}

}  // namespace
}  // namespace muster

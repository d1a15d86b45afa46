// One port for several generations: what an earlier one leaves behind never reaches the next.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstring>
#include <future>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "launcher/agent/data_listener.h"
#include "launcher/agent/peer_table.h"
#include "proto/muster/v1/life_page.h"
#include "runtime/base/sealed_memory.h"
#include "tests/support/joined_line.h"
#include "tests/support/local_agent.h"

namespace muster {
namespace {

using testing::JoinAs;
using testing::Joined;
using testing::LocalAgent;
using Event = LocalAgent::Event;

// A member's control memory, mapped.
class Control {
 public:
  explicit Control(const Joined& joined) {
    struct stat status;
    EXPECT_EQ(::fstat(joined.membership.control.get(), &status), 0);
    bytes_ = status.st_size;
    header_ = static_cast<v1::ControlHeader*>(MapSharedMemory(joined.membership.control.get(), bytes_).value());
  }
  ~Control() { ::munmap(header_, static_cast<size_t>(bytes_)); }
  v1::ControlHeader* operator->() const { return header_; }
  v1::ControlHeader* get() const { return header_; }

 private:
  int64_t bytes_ = 0;
  v1::ControlHeader* header_ = nullptr;
};

TEST(Generations, FollowEachOtherInOneSlot) {
  const int memory_before = testing::CountDescriptors("memfd:muster");
  const int sockets_before = testing::CountDescriptors("socket:");
  LocalAgent agent;
  for (uint64_t generation = 1; generation <= 4; ++generation) {
    agent.Expect(0, ::getpid());
    agent.Begin(1, generation);
    const std::unique_ptr<Joined> joined = JoinAs(agent, 0);
    ASSERT_TRUE(joined->status.ok()) << joined->status;
    EXPECT_EQ(joined->membership.generation, generation);
    EXPECT_EQ(joined->membership.spawn, generation);
    EXPECT_EQ(Control(*joined)->generation, generation);
    agent.Do([](WorkerPort& port) { port.EndGeneration("generation over"); });
    EXPECT_EQ(joined->AwaitOver(), "generation over");
    const std::unique_ptr<Joined> late = JoinAs(agent, 0);
    EXPECT_EQ(late->status.code(), absl::StatusCode::kUnavailable) << late->status;
    EXPECT_TRUE(absl::StrContains(late->status.message(), "generation over")) << late->status;
    agent.Do([](WorkerPort& port) {
      port.ForgetWorkers();
      EXPECT_FALSE(port.HasJoined(0));
      EXPECT_EQ(port.LastOperationOf(0).op_seq, 0u);
    });
    joined->AwaitClosed();
  }
  // The event loop's own descriptors are no sockets; the port keeps the one it listens on.
  EXPECT_EQ(testing::CountDescriptors("memfd:muster"), memory_before) << "with the port still open";
  EXPECT_EQ(testing::CountDescriptors("socket:"), sockets_before + 1);
  EXPECT_EQ(agent.Count(Event::kLost), 0u);
}

TEST(Generations, NothingLateOfAnEarlierProcessReachesItsSuccessor) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Expect(1, ::getpid());
  agent.Begin(2, 1);
  const std::unique_ptr<Joined> old = JoinAs(agent, 0);
  ASSERT_TRUE(old->status.ok()) << old->status;
  agent.Do([](WorkerPort& port) { port.EndGeneration("over"); });

  agent.Expect(0, ::getpid());
  agent.Expect(1, ::getpid());
  agent.Begin(2, 2);
  const std::unique_ptr<Joined> successor = JoinAs(agent, 0);
  ASSERT_TRUE(successor->status.ok()) << successor->status;
  EXPECT_EQ(successor->membership.spawn, 2u);
  const Control control(*successor);

  old->line->ReportStep(99);  // into a closed socket
  old->life->Leave();
  agent.Do([](WorkerPort& port) {
    port.WorkerEnded(0, 1, SIGKILL);
    port.WorkerEnded(1, 1, SIGKILL);
    EXPECT_TRUE(port.HasJoined(0));
    EXPECT_FALSE(port.HasLeft(0));
  });
  successor->line->ReportStep(5, 3);
  const Event step = agent.Await(Event::kStep, 0);
  EXPECT_EQ(step.step, 5);
  EXPECT_EQ(step.checkpoint_step, 3);
  EXPECT_EQ(step.spawn, 2u);
  EXPECT_EQ(control->abort_word.load(), v1::kNoAbort);
  EXPECT_EQ(agent.Count(Event::kLost) + agent.Count(Event::kLeft), 0u);

  agent.Do([](WorkerPort& port) { port.WorkerEnded(1, 2, SIGKILL); });  // this one counts: it never joined
  EXPECT_EQ(control->abort_word.load(), v1::PackAbort(v1::AbortReason::kPeerLost, 1, SIGKILL));
}

// A life page whose holder dies when told to: to the kernel a thread that ends with a robust mutex held is one that died.
class MortalLife {
 public:
  explicit MortalLife(uint32_t slot) : page_fd_(MakeSealedMemory("muster-life", v1::kLifePageBytes).value()) {
    page_ = static_cast<v1::LifePage*>(MapSharedMemory(page_fd_.get(), v1::kLifePageBytes).value());
    page_->magic = v1::kLifePageMagic;
    page_->version = v1::kLifePageVersion;
    page_->slot = slot;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&page_->mutex, &attributes);
    std::promise<void> held;
    holder_ = std::thread([&held, this, death = death_.get_future()]() mutable {
      pthread_mutex_lock(&page_->mutex);
      page_->state = v1::LifeState::kJoined;
      held.set_value();
      death.wait();
    });
    held.get_future().wait();
  }
  ~MortalLife() { ::munmap(page_, v1::kLifePageBytes); }
  int page_fd() const { return page_fd_.get(); }
  void Die() {
    death_.set_value();
    holder_.join();
  }

 private:
  UniqueFd page_fd_;
  v1::LifePage* page_ = nullptr;
  std::promise<void> death_;
  std::thread holder_;
};

// A process that dies while its successor's generation begins: the watching thread sees it first, and must not abort that one.
TEST(Generations, ALateDeathAbortsNothing) {
  for (int round = 0; round < 50; ++round) {
    LocalAgent agent;
    MortalLife life(0);
    agent.Expect(0, ::getpid());
    agent.Begin(1, 1);
    const std::unique_ptr<Joined> old = JoinAs(agent, 0, testing::kTestPatience, life.page_fd());
    ASSERT_TRUE(old->status.ok()) << old->status;
    const Control old_control(*old);
    agent.Do([](WorkerPort& port) { port.EndGeneration("over"); });
    std::thread death([&] { life.Die(); });
    agent.Expect(0, ::getpid());
    agent.Begin(1, 2);
    const std::unique_ptr<Joined> successor = JoinAs(agent, 0);
    death.join();
    ASSERT_TRUE(successor->status.ok()) << successor->status;
    EXPECT_EQ(Control(*successor)->abort_word.load(), v1::kNoAbort);
    successor->life->Leave();
    EXPECT_EQ(agent.Await([](const Event& event) { return event.kind == Event::kLeft; }).spawn, 2u);
    for (const Event& event : agent.events()) EXPECT_FALSE(event.kind == Event::kLost && event.spawn == 2);
  }
}

// The same without a successor in the slot is a loss.
TEST(Generations, ADeathInTimeAborts) {
  LocalAgent agent;
  MortalLife life(0);
  agent.Expect(0, ::getpid());
  agent.Begin(1, 1);
  const std::unique_ptr<Joined> joined = JoinAs(agent, 0, testing::kTestPatience, life.page_fd());
  ASSERT_TRUE(joined->status.ok()) << joined->status;
  life.Die();
  EXPECT_EQ(agent.Await(Event::kLost, 0).spawn, 1u);
  EXPECT_EQ(Control(*joined)->abort_word.load(), v1::PackAbort(v1::AbortReason::kPeerLost, 0, 0));
}

// The worker of the next generation may be faster than the guard's word that it runs.
TEST(Generations, AnEarlyHelloOfTheNextProcessWaits) {
  LocalAgent agent;
  const pid_t gone = ::fork();  // the first process of the slot
  if (gone == 0) ::_exit(0);
  ::waitpid(gone, nullptr, 0);
  agent.Expect(0, gone);
  agent.Begin(1, 1);
  agent.Do([](WorkerPort& port) {
    port.WorkerEnded(0, 1, 0);
    port.EndGeneration("over");
    port.ForgetWorkers();
  });
  std::thread guard([&] {
    while (testing::CountDescriptors("memfd:muster-life") < 2) std::this_thread::yield();  // the Hello is with the port
    agent.Expect(0, ::getpid());
    agent.Begin(1, 2);
  });
  const std::unique_ptr<Joined> joined = JoinAs(agent, 0);
  guard.join();
  ASSERT_TRUE(joined->status.ok()) << joined->status;
  EXPECT_EQ(joined->membership.generation, 2u);
}

// --- Several nodes ---

std::string PeerText(const v1::PeerEntry& peer) {
  char address[INET6_ADDRSTRLEN] = {};
  ::inet_ntop(peer.family == 4 ? AF_INET : AF_INET6, peer.address, address, sizeof address);
  return absl::StrCat("node ", peer.node, " local ", peer.local_rank, " slot ", peer.slot, " spawn ", peer.spawn, " ", address,
                      " ", peer.port, " ", peer.host);
}

v1::Members TwoNodes() {
  v1::Members members;
  const auto place = [&](uint32_t rank, uint32_t node, uint32_t local_rank) {
    v1::Place& added = *members.add_places();
    added.set_rank(rank);
    added.set_slot(10 + local_rank);
    added.set_node(node);
    added.set_local_rank(local_rank);
    added.set_spawn(rank + 1);
    added.set_data_port(4000 + rank);
  };
  place(2, 3, 0);  // in any order
  place(0, 7, 0);
  place(1, 7, 1);
  const auto node = [&](uint32_t number, const std::string& host, const std::string& address) {
    v1::Node& added = *members.add_nodes();
    added.set_node(number);
    added.set_host(host);
    added.set_address(address);
  };
  node(3, std::string(100, 'h'), "fe80::1");
  node(7, "node-a", "10.1.2.3");
  return members;
}

TEST(PeerTable, NumbersNodesByTheirFirstRank) {
  const auto peers = PeersOf(TwoNodes(), 3);
  ASSERT_TRUE(peers.ok()) << peers.status();
  EXPECT_EQ(PeerText((*peers)[0]), "node 0 local 0 slot 10 spawn 1 10.1.2.3 4000 node-a");
  EXPECT_EQ(PeerText((*peers)[1]), "node 0 local 1 slot 11 spawn 2 10.1.2.3 4001 node-a");
  EXPECT_EQ(PeerText((*peers)[2]), "node 1 local 0 slot 10 spawn 3 fe80::1 4002 " + std::string(63, 'h'));
}

TEST(PeerTable, NamesWhatIsWrong) {
  const auto error = [](const std::function<void(v1::Members&)>& spoil, uint32_t world_size = 3) {
    v1::Members members = TwoNodes();
    spoil(members);
    const absl::Status status = PeersOf(members, world_size).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_TRUE(absl::StrContains(error([](v1::Members&) {}, 4), "rank 3 is missing"));
  EXPECT_TRUE(absl::StrContains(error([](v1::Members&) {}, 2), "rank 2 is there twice, or beyond"));
  EXPECT_TRUE(absl::StrContains(error([](v1::Members& m) { m.mutable_places(0)->set_rank(1); }), "rank 1 is there twice"));
  EXPECT_TRUE(absl::StrContains(error([](v1::Members& m) { m.mutable_places(0)->set_node(9); }), "node 9, which is not there"));
  EXPECT_TRUE(absl::StrContains(error([](v1::Members& m) { m.mutable_places(0)->set_data_port(0); }), "rank 2 takes connections"));
  EXPECT_TRUE(absl::StrContains(error([](v1::Members& m) { m.mutable_places(2)->set_local_rank(2); }), "rank 1 has local rank 2"));
  EXPECT_TRUE(absl::StrContains(error([](v1::Members& m) { m.mutable_nodes(1)->set_address("node-a"); }), "\"node-a\""));
  EXPECT_TRUE(absl::StrContains(error([](v1::Members& m) {
                                  m.mutable_places(0)->set_rank(1);
                                  m.mutable_places(2)->set_rank(2);
                                }),
                                "rank 2 does not follow"));
}

TEST(DataListener, TellsWhereItIs) {
  for (const char* address : {"127.0.0.1", "127.0.0.2", "::1"}) {
    const auto listener = OpenDataListener(address);
    if (std::string(address) == "::1" && !listener.ok()) continue;  // no IPv6 here
    ASSERT_TRUE(listener.ok()) << listener.status();
    EXPECT_GT(listener->port, 0);
  }
  EXPECT_EQ(OpenDataListener("localhost").status().code(), absl::StatusCode::kInvalidArgument);
  const absl::Status elsewhere = OpenDataListener("192.0.2.1").status();  // for documentation, RFC 5737: never this machine's
  EXPECT_TRUE(absl::StrContains(elsewhere.message(), "192.0.2.1")) << elsewhere;
}

// Nobody listens before the worker does.
TEST(Generations, TheListenerGoesToTheWorker) {
  LocalAgent agent;
  auto listener = OpenDataListener("127.0.0.1");
  ASSERT_TRUE(listener.ok()) << listener.status();
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(listener->port);
  UniqueFd early(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::connect(early.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(errno, ECONNREFUSED);

  v1::Members members = TwoNodes();
  agent.Expect(10, ::getpid(), std::move(listener->socket));
  agent.BeginNode(1, PeersOf(members, 3).value(), 6);
  std::unique_ptr<Joined> joined = JoinAs(agent, 10);
  ASSERT_TRUE(joined->status.ok()) << joined->status;
  EXPECT_EQ(joined->membership.rank, 2u) << "of the world";
  EXPECT_EQ(joined->membership.world_size, 3u);
  EXPECT_EQ(joined->membership.local_rank, 0u);
  EXPECT_EQ(joined->membership.local_world_size, 1u);
  EXPECT_EQ(joined->membership.nodes, 2u);
  ASSERT_EQ(::listen(joined->membership.listener.get(), 1), 0);
  UniqueFd dialed(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(dialed.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::send(dialed.get(), "hello", 5, 0), 5);
  UniqueFd accepted(::accept4(joined->membership.listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(accepted) << std::strerror(errno);
  char text[6] = {};
  EXPECT_EQ(::recv(accepted.get(), text, 5, MSG_WAITALL), 5);
  EXPECT_STREQ(text, "hello");

  // The worker's table is whole, and its death is blamed on its rank in the world.
  const Control control(*joined);
  EXPECT_EQ(control->world_size, 3u);
  EXPECT_EQ(control->local_size, 1u);
  EXPECT_EQ(PeerText(v1::PeerEntryOf(control.get(), 1)), "node 0 local 1 slot 11 spawn 2 10.1.2.3 4001 node-a");
  EXPECT_EQ(PeerText(v1::PeerEntryOf(control.get(), 2)), "node 1 local 0 slot 10 spawn 3 fe80::1 4002 " + std::string(63, 'h'));
  agent.Do([](WorkerPort& port) { port.WorkerEnded(10, 1, SIGKILL); });
  EXPECT_EQ(control->abort_word.load(), v1::PackAbort(v1::AbortReason::kPeerLost, 2, SIGKILL));

  // The agent has kept no copy: with the worker's the socket is gone.
  joined->membership.listener.Reset();
  UniqueFd refused(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::connect(refused.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(errno, ECONNREFUSED);
}

TEST(Generations, PeersOfAWorkerThatEndsBeforeItJoinsAreRefused) {
  LocalAgent agent;
  auto listener = OpenDataListener("127.0.0.1");
  ASSERT_TRUE(listener.ok()) << listener.status();
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(listener->port);
  agent.Expect(0, ::getpid(), std::move(listener->socket));
  agent.Do([](WorkerPort& port) { port.WorkerEnded(0, 1, 0); });
  UniqueFd refused(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::connect(refused.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
}

TEST(Refusals, AreCountedAndToldTogether) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Begin(1);
  const std::unique_ptr<Joined> joined = JoinAs(agent, 0);
  ASSERT_TRUE(joined->status.ok()) << joined->status;
  for (int i = 0; i < 500; ++i) joined->line->ReportRefusal("wrong key", absl::StrCat("10.0.0.1:", i));
  for (int i = 0; i < 1000; ++i) joined->line->ReportRefusal(absl::StrCat("odd ", i), "10.0.0.2:1");  // a stranger's choice
  joined->line->SayLeave();
  agent.Await(Event::kLeft, 0);
  uint64_t wrong_key = 0, others = 0;
  size_t frames = 0;
  for (const Event& event : agent.events()) {
    if (event.kind != Event::kRefused) continue;
    ++frames;
    (event.message == "wrong key" ? wrong_key : others) += event.count;
  }
  EXPECT_EQ(wrong_key, 500u);
  EXPECT_EQ(others, 1000u);
  EXPECT_LE(frames, 1 + RefusalTally::kKindsMax + 60) << "one at once, what waited at the end, and one a second between";
}

TEST(Refusals, TheRestComesWhenItIsTime) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Begin(1);
  const std::unique_ptr<Joined> joined = JoinAs(agent, 0);
  ASSERT_TRUE(joined->status.ok()) << joined->status;
  for (int i = 0; i < 10; ++i) joined->line->ReportRefusal("wrong key", "10.0.0.1:1");
  uint64_t counted = 0;
  size_t frames = 0;
  while (counted < 10) {
    agent.AwaitCount(Event::kRefused, ++frames, /*or_any=*/Event::kLost);
    counted = 0;
    for (const Event& event : agent.events()) counted += event.count;
  }
  EXPECT_EQ(counted, 10u);
  EXPECT_LT(frames, 10u);
}

TEST(Refusals, ThePortsOwnAreTold) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Begin(1);
  const std::unique_ptr<Joined> first = JoinAs(agent, 0);
  ASSERT_TRUE(first->status.ok()) << first->status;
  EXPECT_FALSE(JoinAs(agent, 0)->status.ok());
  const Event refused = agent.Await([](const Event& event) { return event.kind == Event::kRefused; });
  EXPECT_TRUE(absl::StrContains(refused.message, "slot 0 has had its session")) << refused.message;
}

}  // namespace
}  // namespace muster

#include "runtime/base/frame.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "runtime/base/sealed_memory.h"
#include "tests/support/local_agent.h"

namespace muster {
namespace {

struct Pair {
  UniqueFd left, right;
};

Pair MakePair() {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void SendRaw(int fd, const std::string& bytes) {
  ASSERT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
}

TEST(Frame, ArrivesWholeWithItsDescriptors) {
  Pair pair = MakePair();
  FrameWriter writer(1 << 20);
  UniqueFd memory = MakeSealedMemory("frame-test", 4096).value();
  ASSERT_TRUE(writer.Send(pair.left.get(), "plain").ok());
  ASSERT_TRUE(writer.Send(pair.left.get(), "with one", {memory.get()}).ok());
  ASSERT_TRUE(writer.Send(pair.left.get(), "").ok());
  ASSERT_TRUE(writer.idle());
  FrameReader reader;
  auto first = reader.Read(pair.right.get());
  ASSERT_TRUE(first.ok() && first->has_value());
  EXPECT_EQ((*first)->bytes, "plain");
  EXPECT_TRUE((*first)->fds.empty()) << "descriptors belong to the frame that carries them";
  auto second = reader.Read(pair.right.get());
  ASSERT_TRUE(second.ok() && second->has_value());
  EXPECT_EQ((*second)->bytes, "with one");
  ASSERT_EQ((*second)->fds.size(), 1u);
  EXPECT_TRUE(CheckSealedMemory((*second)->fds[0].get(), 4096).ok());
  EXPECT_EQ(::fcntl((*second)->fds[0].get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  auto third = reader.Read(pair.right.get());
  ASSERT_TRUE(third.ok() && third->has_value());
  EXPECT_EQ((*third)->bytes, "");
  EXPECT_FALSE(reader.Read(pair.right.get())->has_value()) << "nothing more for now";
}

TEST(Frame, QueuesWhatTheSocketDoesNotTakeAndSaysWhenThatIsTooMuch) {
  Pair pair = MakePair();
  FrameWriter writer(8 << 20);
  UniqueFd memory = MakeSealedMemory("frame-test", 4096).value();
  int sent = 0;
  while (writer.Send(pair.left.get(), std::string(kFrameBytesMax, static_cast<char>('a' + sent % 26)), {memory.get()}).ok())
    ++sent;
  EXPECT_GT(sent, 100);
  EXPECT_FALSE(writer.idle());
  EXPECT_EQ(writer.Send(pair.left.get(), std::string(kFrameBytesMax, 'x')).code(), absl::StatusCode::kResourceExhausted);
  FrameReader reader;
  int received = 0;
  while (received < sent) {
    ASSERT_TRUE(writer.Flush(pair.left.get()).ok());
    auto frame = reader.Read(pair.right.get());
    ASSERT_TRUE(frame.ok()) << frame.status();
    if (!frame->has_value()) continue;
    ASSERT_EQ((*frame)->bytes, std::string(kFrameBytesMax, static_cast<char>('a' + received % 26)));
    ASSERT_EQ((*frame)->fds.size(), 1u);
    ++received;
  }
  EXPECT_TRUE(writer.idle());
  EXPECT_EQ(writer.queued_bytes(), 0u);
}

TEST(Frame, ClosedPeerIsUnavailable) {
  Pair pair = MakePair();
  SendRaw(pair.left.get(), std::string("\x08\0\0\0abc", 7));
  pair.left.Reset();
  FrameReader reader;
  EXPECT_EQ(reader.Read(pair.right.get()).status().code(), absl::StatusCode::kUnavailable);
  FrameWriter writer(1024);
  EXPECT_EQ(writer.Send(pair.right.get(), "x").code(), absl::StatusCode::kUnavailable);
}

// A user without privileges may have only so many descriptors on the way, over all processes.
int SendMoreDescriptorsThanMayBeOnTheWay() {
  constexpr rlim_t kDescriptorsMax = 40;
  if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 2;
  const rlimit limit = {kDescriptorsMax, kDescriptorsMax};
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 3;
  Pair pair = MakePair();
  FrameWriter writer(1 << 20);
  FrameReader reader;
  UniqueFd memory = MakeSealedMemory("frame-test", 4096).value();
  int sent = 0;
  for (; sent < 1000 && !writer.stalled(); ++sent) {
    if (!writer.Send(pair.left.get(), "frame", {memory.get()}).ok()) return 4;
  }
  if (!writer.stalled() || writer.idle()) return 5;
  ::alarm(60);
  for (int received = 0; received < sent;) {
    auto frame = reader.Read(pair.right.get());
    if (!frame.ok()) return 6;
    if (frame->has_value() && (*frame)->fds.size() != 1) return 7;
    if (!writer.Flush(pair.left.get()).ok()) return 8;
    if (frame->has_value()) {
      ++received;
    } else {
      ::sched_yield();  // another process of this user has the rest on the way
    }
  }
  return writer.idle() && !writer.stalled() ? 0 : 9;
}

TEST(Frame, WaitsWhileTooManyDescriptorsAreOnTheWay) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(SendMoreDescriptorsThanMayBeOnTheWay());
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "exit code " << WEXITSTATUS(status);
}

TEST(Frame, TooLongIsRefusedBeforeItIsStored) {
  Pair pair = MakePair();
  SendRaw(pair.left.get(), std::string("\xff\xff\xff\xff", 4));
  FrameReader reader;
  EXPECT_EQ(reader.Read(pair.right.get()).status().code(), absl::StatusCode::kInvalidArgument);
  FrameWriter writer(1 << 20);
  EXPECT_EQ(writer.Send(pair.left.get(), std::string(kFrameBytesMax + 1, 'x')).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Frame, TooManyDescriptorsAreClosedAndRefused) {
  Pair pair = MakePair();
  const int before = testing::CountDescriptors("frame-flood");
  UniqueFd memory = MakeSealedMemory("frame-flood", 4096).value();
  // One descriptor with each byte of a frame: no single message carries too many.
  const std::string bytes("\x10\0\0\0abcdefgh", 12);
  for (const char byte : bytes) {
    char control[CMSG_SPACE(sizeof(int))] = {};
    iovec part{const_cast<char*>(&byte), 1};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    *rights = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    *reinterpret_cast<int*>(CMSG_DATA(rights)) = memory.get();
    ASSERT_EQ(::sendmsg(pair.left.get(), &message, 0), 1);
  }
  {
    FrameReader reader;
    EXPECT_EQ(reader.Read(pair.right.get()).status().code(), absl::StatusCode::kInvalidArgument);
  }
  memory.Reset();
  EXPECT_EQ(testing::CountDescriptors("frame-flood"), before);
}

// Whatever comes, in whatever pieces: a frame, an error, or "more", and never more memory than one frame.
TEST(Frame, SurvivesRandomBytes) {
  const char* given = std::getenv("MUSTER_TEST_SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::atoi(given)) : std::random_device()() % 1'000'000'000;
  SCOPED_TRACE("MUSTER_TEST_SEED=" + std::to_string(seed) + " unit_rendezvous_test --gtest_filter=Frame.SurvivesRandomBytes");
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    Pair pair = MakePair();
    std::string bytes(random() % 200, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 3 == 0 ? random() : random() % 6);
    FrameReader reader;
    size_t next = 0;
    bool over = false;
    while (!over && next < bytes.size()) {
      const size_t piece = std::min<size_t>(1 + random() % 9, bytes.size() - next);
      SendRaw(pair.left.get(), bytes.substr(next, piece));
      next += piece;
      while (!over) {
        auto frame = reader.Read(pair.right.get());
        if (!frame.ok()) {
          EXPECT_EQ(frame.status().code(), absl::StatusCode::kInvalidArgument);
          over = true;
        } else if (frame->has_value()) {
          EXPECT_LE((*frame)->bytes.size(), kFrameBytesMax);
        } else {
          break;
        }
      }
    }
  }
}

}  // namespace
}  // namespace muster

// A worker for tests of the session: what it does is its first argument.
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "muster/muster.h"

namespace {

int64_t Nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

int Fail(const absl::Status& status) {
  Say("FAILED " + status.ToString());
  return 1;
}

std::unique_ptr<muster::Session> Join() {
  auto session = muster::Session::Create();
  if (session.ok()) return *std::move(session);
  Say("FAILED " + session.status().ToString());
  std::exit(1);
}

// The sum of 1 .. P over all ranks, `rounds` times, in every size class, in private memory and in a window.
absl::Status Reduce(muster::Session& session, int rounds) {
  const int world_size = session.world_size();
  const int64_t expected = static_cast<int64_t>(world_size) * (world_size + 1) / 2;
  auto window = session.world().CreateWindow(64 * 1024 * static_cast<int64_t>(sizeof(int64_t)));
  if (!window.ok()) return window.status();
  std::vector<int64_t> own(64 * 1024);
  for (int round = 0; round < rounds; ++round) {
    for (const int64_t count : {1, 6, 1000, 64 * 1024}) {
      for (int64_t* data : {own.data(), static_cast<int64_t*>((*window)->data())}) {
        std::fill_n(data, count, session.rank() + 1);
        const absl::Status status = session.world().AllReduce(muster::MakeTensor(data, count), muster::ReduceOp::kSum);
        if (!status.ok()) return status;
        for (int64_t i = 0; i < count; ++i) {
          if (data[i] != expected) return absl::InternalError("a wrong sum");
        }
      }
    }
  }
  return absl::OkStatus();
}

int RunReduce(int rounds) {
  auto session = Join();
  const absl::Status status = Reduce(*session, rounds);
  if (!status.ok()) return Fail(status);
  session->ReportStep(rounds);
  Say("ok rank " + std::to_string(session->rank()) + " of " + std::to_string(session->world_size()));
  return 0;
}

// A communicator of all ranks in the reverse order.
std::unique_ptr<muster::Communicator> Reversed(muster::Session& session) {
  auto split = session.world().Split(0, -session.rank());
  if (split.ok() && (*split)->rank() == session.world_size() - 1 - session.rank()) return *std::move(split);
  Say("FAILED " + split.status().ToString());
  std::exit(1);
}

// Says "ready", is in collectives until they fail, says when and how. `in_split`: of a communicator made by Split.
int RunBlock(bool in_split) {
  auto session = Join();
  const auto split = in_split ? Reversed(*session) : nullptr;
  muster::Communicator& comm = in_split ? *split : session->world();
  absl::Status status = comm.Barrier();
  Say("ready");
  while (status.ok()) status = comm.Barrier();
  Say(std::to_string(Nanoseconds()) + " " + status.ToString());
  if (comm.Barrier() != status) Say("FAILED the communicator forgot its error");
  if (in_split && session->world().Barrier().ok()) Say("FAILED the world does without a rank that is lost");
  return 0;
}

// Takes part in one barrier; then others wait for it in vain.
int RunVictim(size_t mebibytes, bool with_child, bool in_split = false) {
  std::vector<char> resident(mebibytes << 20, 'x');
  auto session = Join();
  const auto split = in_split ? Reversed(*session) : nullptr;
  if (with_child && ::fork() == 0) {  // holds all that a child inherits, and outlives its parent for a while
    ::alarm(3);
    ::pause();
  }
  const absl::Status status = in_split ? split->Barrier() : session->world().Barrier();
  if (!status.ok()) return Fail(status);
  Say("ready");
  while (true) ::pause();
}

// In a communicator of ranks 0 and 1, whose rank of the job 0 never comes; then it fails, or waits until it is killed.
int RunAlone(const std::string& how) {
  auto session = Join();
  auto pair = session->world().Split(session->rank() < 2 ? 0 : 1, -session->rank());
  if (!pair.ok()) return Fail(pair.status());
  if (session->rank() != 1) {
    Say("ready");
    while (true) ::pause();
  }
  Say("ready");
  const bool late = how == "late";
  const absl::Status status = (*pair)->Barrier(late ? absl::Now() + absl::Milliseconds(1) : absl::InfiniteFuture());
  Say(status.ToString());
  return 3;
}

int RunEnd(const std::string& how, bool in_split) {
  auto session = Join();
  const auto split = in_split ? Reversed(*session) : nullptr;
  const absl::Status status = in_split ? split->Barrier() : session->world().Barrier();
  if (!status.ok()) return Fail(status);
  if (how == "_exit") ::_exit(0);
  if (how == "exit") std::exit(0);  // without destroying the session
  if (how == "exec") {
    char name[] = "true";
    char* const arguments[] = {name, nullptr};
    ::execv("/bin/true", arguments);
  }
  return 0;
}

// `rounds` sessions one after the other, in slot round * ranks + rank, each left at a random moment after its last barrier.
int RunRounds(int rank, int ranks, int rounds, unsigned seed) {
  std::mt19937 random(seed + static_cast<unsigned>(rank));
  muster::SessionOptions options = *muster::SessionOptionsFromEnvironment();
  for (int round = 0; round < rounds; ++round) {
    options.slot = round * ranks + rank;
    auto session = muster::Session::Create(options);
    if (!session.ok()) return Fail(session.status());
    int64_t value = 1;
    absl::Status status = (*session)->world().AllReduce(muster::MakeTensor(&value, 1), muster::ReduceOp::kSum);
    if (status.ok() && value != ranks) status = absl::InternalError("a wrong sum");
    if (status.ok()) status = (*session)->world().Barrier();
    if (!status.ok())
      return Fail(absl::Status(status.code(), "round " + std::to_string(round) + ": " + std::string(status.message())));
    const uint32_t moment = random() % 4;
    if (moment == 1) std::this_thread::yield();
    if (moment > 1) absl::SleepFor(absl::Microseconds(random() % 200));
  }
  Say("ok");
  return 0;
}

bool MapsMusterMemory() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (absl::StrContains(line, "memfd:muster")) return true;
  }
  return false;
}

int RunFork() {
  auto session = Join();
  if (!MapsMusterMemory()) return Fail(absl::InternalError("the parent maps no memory of muster's"));
  auto window = session->world().CreateWindow(4096);
  if (!window.ok()) return Fail(window.status());
  auto split = Reversed(*session);
  for (int i = 0; i < 2; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (MapsMusterMemory()) ::_exit(2);
      if (i == 1) {
        split.reset();
        session.reset();
        window->reset();  // neither its memory nor its session is there
      }
      std::exit(0);  // exit handlers run
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) return Fail(absl::InternalError("a forked child ended with " + std::to_string(status)));
  }
  absl::Status status = Reduce(*session, 3);
  if (status.ok()) status = split->Barrier();
  if (!status.ok()) return Fail(status);
  auto second = muster::Session::Create();
  if (second.status().code() != absl::StatusCode::kAlreadyExists) return Fail(absl::InternalError("a second session"));
  Say("ok");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const auto number = [&](int i) { return argc > i ? std::atoi(argv[i]) : 0; };
  if (what == "reduce") return RunReduce(number(2));
  if (what == "block") return RunBlock(false);
  if (what == "block_in_split") return RunBlock(true);
  if (what == "victim_in_split") return RunVictim(1, false, true);
  if (what == "victim") return RunVictim(static_cast<size_t>(number(2)), false);
  if (what == "victim_with_child") return RunVictim(1, true);
  if (what == "alone_in_split") return RunAlone(argc > 2 ? argv[2] : "");
  if (what == "end") return RunEnd(argc > 2 ? argv[2] : "", false);
  if (what == "end_in_split") return RunEnd(argc > 2 ? argv[2] : "", true);
  if (what == "rounds") return RunRounds(number(2), number(3), number(4), static_cast<unsigned>(number(5)));
  if (what == "fork") return RunFork();
  Say("FAILED unknown task");
  return 2;
}

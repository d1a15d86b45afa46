// A worker that is linked with libmuster. It all-reduces in a window, has a child that left by setsid, and ends as it is told:
//
//   session_worker loop            never: waits to be killed; prints "ready JOB RANK" when the first all-reduce is done
//   session_worker leave SEED      ten all-reduces, a barrier, a pause of up to 3 ms of its own, a clean end
//   session_worker exit RANK       rank RANK calls _exit(0) in mid-job
//   session_worker differ RANK     rank RANK calls all_gather, the others all_reduce
//   session_worker hold RANK       twenty all-reduces, then rank RANK calls nothing more and sleeps; prints "ready JOB RANK" before it
//   session_worker fork            forks, the child does nothing but end; both go on as if nothing had happened
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <random>
#include <string>

#include "muster/muster.h"

namespace {

constexpr int64_t kCount = 50'000;

int Fail(int rank, const absl::Status& status) {
  std::fprintf(stderr, "rank %d: %s\n", rank, status.ToString().c_str());
  return 1;
}

void LeaveChildBehind() {
  int exec[2];
  if (pipe2(exec, O_CLOEXEC) != 0) std::exit(6);
  if (fork() == 0) {
    setsid();
    execlp("sleep", "sleep", "1000", nullptr);
    _exit(7);
  }
  close(exec[1]);
  char byte;
  while (read(exec[0], &byte, 1) > 0) {  // ends with the exec
  }
  close(exec[0]);
}

absl::Status AllReduceOnce(muster::Session& session, muster::Window& window) {
  auto* values = static_cast<float*>(window.data());
  for (int64_t i = 0; i < kCount; ++i) values[i] = 1;
  absl::Status status = session.world().AllReduce(muster::MakeTensor(values, kCount), muster::ReduceOp::kSum);
  if (status.ok() && values[kCount - 1] != static_cast<float>(session.world_size())) return absl::DataLossError("a wrong sum");
  return status;
}

int Loop(muster::Session& session, muster::Window& window) {
  LeaveChildBehind();
  for (bool first = true;; first = false) {
    if (const absl::Status status = AllReduceOnce(session, window); !status.ok()) return Fail(session.rank(), status);
    if (first) {
      std::printf("ready %s %d\n", getenv("MUSTER_JOB_ID"), session.rank());
      std::fflush(stdout);
    }
  }
}

int Leave(muster::Session& session, muster::Window& window, unsigned seed) {
  for (int i = 0; i < 10; ++i) {
    if (const absl::Status status = AllReduceOnce(session, window); !status.ok()) return Fail(session.rank(), status);
  }
  if (const absl::Status status = session.world().Barrier(); !status.ok()) return Fail(session.rank(), status);
  std::minstd_rand random(seed * 64 + static_cast<unsigned>(session.rank()));
  usleep(static_cast<useconds_t>(random() % 3000));
  return 0;
}

int Hold(muster::Session& session, muster::Window& window, int odd) {
  for (int i = 0; i < 20; ++i) {
    if (const absl::Status status = AllReduceOnce(session, window); !status.ok()) return Fail(session.rank(), status);
  }
  std::printf("ready %s %d\n", getenv("MUSTER_JOB_ID"), session.rank());
  std::fflush(stdout);
  while (session.rank() == odd) pause();
  if (const absl::Status status = AllReduceOnce(session, window); !status.ok()) return Fail(session.rank(), status);
  return 0;
}

int Differ(muster::Session& session, muster::Window& window, int odd) {
  if (session.rank() != odd) {
    for (;;) {
      if (const absl::Status status = AllReduceOnce(session, window); !status.ok()) return Fail(session.rank(), status);
    }
  }
  float send[8] = {}, receive[8 * 16] = {};
  const absl::Status status =
      session.world().AllGather(muster::MakeTensor(send, 8), muster::MakeTensor(receive, 8 * session.world_size()));
  return Fail(session.rank(), status);
}

int Fork(muster::Session& session, muster::Window& window) {
  for (int i = 0; i < 5; ++i) {
    const pid_t child = fork();
    if (child == 0) std::exit(0);  // runs atexit handlers, which must not leave in the parent's name
    if (const absl::Status status = AllReduceOnce(session, window); !status.ok()) return Fail(session.rank(), status);
    waitpid(child, nullptr, 0);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const int number = argc > 2 ? std::atoi(argv[2]) : 0;
  auto session = muster::Session::Create();
  if (!session.ok()) return Fail(-1, session.status());
  auto window = (*session)->world().CreateWindow(kCount * static_cast<int64_t>(sizeof(float)));
  if (!window.ok()) return Fail((*session)->rank(), window.status());
  if (what == "loop") return Loop(**session, **window);
  if (what == "leave") return Leave(**session, **window, static_cast<unsigned>(number));
  if (what == "hold") return Hold(**session, **window, number);
  if (what == "differ") return Differ(**session, **window, number);
  if (what == "fork") return Fork(**session, **window);
  if (what != "exit") return 64;
  for (int step = 0;; ++step) {
    if (step == 20 && (*session)->rank() == number) _exit(0);
    if (const absl::Status status = AllReduceOnce(**session, **window); !status.ok()) return Fail((*session)->rank(), status);
  }
}

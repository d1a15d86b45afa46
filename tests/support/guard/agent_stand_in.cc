// An agent with nothing but a guard: starts workers, says when their trees stand, and ends as an agent does.
//
//   agent_stand_in GUARD SESSION_FOLDER WORKERS PROGRAM [ARGS...]
//
// Prints "guard PID COVER", "worker PID" for each, and "up" once every worker has printed a line. A worker's end makes it end
// the tree and exit 0 after "ended"; the guard's death makes it exit 0 after "lost".
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "launcher/guard/guard_client.h"
#include "runtime/base/event_loop.h"

extern char** environ;

namespace muster {
namespace {

int Main(int argc, char** argv) {
  if (argc < 5) return 64;
  setvbuf(stdout, nullptr, _IOLBF, 4096);
  auto loop = EventLoop::Create();
  if (!loop.ok()) return 1;
  std::unique_ptr<GuardClient> guard;
  GuardClient::Events events;
  const int workers = atoi(argv[3]);
  int awaited = 2 * workers;  // each is started, and each prints a line
  const auto arrived = [&awaited] {
    if (--awaited == 0) printf("up\n");
  };
  events.spawned = [&](uint32_t, pid_t pid, UniqueFd) {
    printf("worker %d\n", pid);
    arrived();
  };
  events.spawn_failed = [](uint32_t, int error, const std::string& stage) {
    printf("failed %s %d\n", stage.c_str(), error);
    exit(1);
  };
  bool ending = false;
  events.ended = [&](uint32_t, int) {
    if (!std::exchange(ending, true)) guard->EndTree();
  };
  const auto leave = [&](const char* word) {
    printf("%s\n", word);
    (*loop)->Quit();
  };
  events.tree_ended = [&] { leave("ended"); };
  events.lost = [&] { leave("lost"); };
  auto started = GuardClient::Start(loop->get(), argv[1], argv[2], std::move(events));
  if (!started.ok()) {
    printf("failed %s\n", started.status().ToString().c_str());
    return 1;
  }
  guard = *std::move(started);
  printf("guard %d %s\n", guard->pid(), guard->cover() == TreeCover::kPidNamespace ? "namespace" : "subreaper");

  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return 1;
  const absl::Status added = (*loop)->Add(ends[0], EPOLLIN, [&](uint32_t) {
    char text[4096];
    const ssize_t bytes = read(ends[0], text, sizeof text);
    if (bytes <= 0) (*loop)->Remove(ends[0]);
    for (ssize_t i = 0; i < bytes; ++i) {
      if (text[i] == '\n') arrived();
    }
  });
  if (!added.ok()) return 1;
  for (int slot = 0; slot < workers; ++slot) {
    SpawnRequest request;
    request.slot = static_cast<uint32_t>(slot);
    request.program = argv[4];
    request.argv.assign(argv + 4, argv + argc);
    for (char** setting = environ; *setting != nullptr; ++setting) request.env.emplace_back(*setting);
    request.working_directory = argv[2];
    request.stdin_fd = UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    request.stdout_fd = UniqueFd(fcntl(ends[1], F_DUPFD_CLOEXEC, 0));
    request.stderr_fd = UniqueFd(fcntl(2, F_DUPFD_CLOEXEC, 0));
    guard->Spawn(std::move(request));
  }
  (*loop)->Run();
  guard.reset();
  return 0;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }

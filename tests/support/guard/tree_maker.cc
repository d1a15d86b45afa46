// A worker that is hard to end: descendants that leave its session, ignore what can be ignored, exec, and outlive their
// parents.
//
//   tree_maker tree DEPTH     a chain of setsid + exec, two sleepers at each level (3 DEPTH + 1 processes); prints "ready" when
//   the last level stands tree_maker comet          a process that forks and exits in a circle, never with one pid for long;
//   prints "ready" before tree_maker sleeper        waits for ever
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace {

[[noreturn]] void Wait() {
  while (true) pause();
}

void IgnoreSignals() {
  for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGQUIT, SIGUSR1, SIGUSR2}) signal(number, SIG_IGN);
}

void Exec(const char* self, const char* mode, const std::string& argument) {
  execl(self, "tree_maker", mode, argument.c_str(), static_cast<char*>(nullptr));
  _exit(127);
}

void Ready() {
  if (write(1, "ready\n", 6) != 6) _exit(1);
}

[[noreturn]] void Tree(const char* self, int depth) {
  if (depth == 0) {
    Ready();
    Wait();
  }
  // One that only forks, one whose parent is gone at once, one that leaves the session and execs.
  if (fork() == 0) Wait();
  const pid_t between = fork();
  if (between == 0) {
    setsid();
    if (fork() == 0) Exec(self, "sleeper", "");
    _exit(0);
  }
  waitpid(between, nullptr, 0);
  if (fork() == 0) {
    setsid();
    Exec(self, "tree", std::to_string(depth - 1));
  }
  Wait();
}

[[noreturn]] void Comet() {
  Ready();
  if (fork() != 0) Wait();
  while (true) {
    setsid();
    const pid_t next = fork();
    if (next > 0) _exit(0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  IgnoreSignals();
  const char* self = "/proc/self/exe";
  if (argc < 2) return 64;
  if (strcmp(argv[1], "tree") == 0) Tree(self, argc > 2 ? atoi(argv[2]) : 3);
  if (strcmp(argv[1], "comet") == 0) Comet();
  Wait();
}

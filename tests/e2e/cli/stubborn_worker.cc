// A worker that does what makes cleaning up hard: it forks, and the child leaves by setsid, forks again and execs; it holds a
// named memfd and an abstract socket; nobody in the family heeds SIGTERM, SIGHUP or SIGINT. Prints "ready JOB RANK" and waits
// for its end; given a folder it prints "line RANK RESTARTS N" with N from 1 on until then, and keeps in FOLDER/RANK.RESTARTS how many of
// them it has written.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

void HoldSharedThings(const std::string& name) {
  const int memory = memfd_create(name.c_str(), 0);
  if (memory < 0 || ftruncate(memory, 1 << 16) != 0) std::exit(2);
  void* mapped = mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (mapped == MAP_FAILED) std::exit(2);
  std::memset(mapped, 1, 1 << 16);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path + 1, sizeof address.sun_path - 2);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (bind(socket, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(socket, 1) != 0) std::exit(3);
}

// Bounded, so that a job that is never ended does not fill the disk.
void PrintLines(const std::string& folder, const std::string& rank) {
  constexpr int kLinesMax = 200'000;
  const char* restarts = std::getenv("TORCHELASTIC_RESTART_COUNT");
  if (restarts == nullptr) std::exit(4);
  const int count = open((folder + "/" + rank + "." + restarts).c_str(), O_CREAT | O_WRONLY, 0600);
  if (count < 0) std::exit(8);
  for (int n = 1; n <= kLinesMax; ++n) {
    const std::string line = "line " + rank + " " + restarts + " " + std::to_string(n) + "\n";
    if (write(STDOUT_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) std::exit(9);
    const std::string written = std::to_string(n);
    if (pwrite(count, written.data(), written.size(), 0) < 0) std::exit(10);
    usleep(500);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* job = std::getenv("MUSTER_JOB_ID");
  const char* rank = std::getenv("RANK");
  const char* folder = std::getenv("TMPDIR");
  if (job == nullptr || rank == nullptr || folder == nullptr) return 4;
  for (const int signal : {SIGTERM, SIGHUP, SIGINT}) ::signal(signal, SIG_IGN);
  HoldSharedThings(std::string("stubborn-") + job + "-" + rank);
  const int file = open((std::string(folder) + "/left-behind-" + rank).c_str(), O_CREAT | O_WRONLY, 0600);
  if (file < 0) return 5;

  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return 6;  // closes when the last of the family has exec'ed
  if (fork() == 0) {
    setsid();
    prctl(PR_SET_NAME, "stubborn_child");  // how the tests tell it from the worker
    if (fork() == 0) {
      setsid();
      execlp("sleep", "sleep", "1000", nullptr);
      _exit(7);
    }
    close(ready[0]);
    close(ready[1]);
    for (;;) pause();
  }
  close(ready[1]);
  char end;
  while (read(ready[0], &end, 1) > 0) {
  }
  std::printf("ready %s %s\n", job, rank);
  std::fflush(stdout);
  if (argc > 1) PrintLines(argv[1], rank);
  for (;;) pause();
}

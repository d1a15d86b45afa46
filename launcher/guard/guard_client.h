// The agent's handle on its guard: the small process that spawns workers and ends them with all their descendants.
#ifndef MUSTER_LAUNCHER_GUARD_GUARD_CLIENT_H_
#define MUSTER_LAUNCHER_GUARD_GUARD_CLIENT_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// What a worker is started with. No shell is involved.
struct SpawnRequest {
  uint32_t slot = 0;
  std::string program;                      // a path; already looked up
  std::vector<std::string> argv;            // argv[0] included
  std::vector<std::string> env;             // "NAME=value", complete
  std::string working_directory;            // empty: the guard's own
  UniqueFd stdin_fd, stdout_fd, stderr_fd;  // become 0, 1, 2
  std::string cpus;                         // processors to be bound to, "0-3,8"; empty: those of the guard
  std::string memory_nodes;                 // whose memory it gets while there is some; empty: the guard's policy
  bool binding_is_optional = false;         // runs also where the kernel refuses `cpus`
  bool controlling_terminal = false;        // stdout_fd is a pty's slave: make it the controlling terminal
};

enum class TreeCover {
  kPidNamespace,  // guard and agent may die together: the kernel ends the tree
  kCgroup,        // a cgroup v2 with cgroup.kill
  kSubreaper,     // descendants that left by setsid are covered if one of agent, guard and its keeper lives 50 ms longer
};

// A guard's process on its way: it gets ready while the caller does other things.
class BegunGuard {
 public:
  struct Impl;
  explicit BegunGuard(std::unique_ptr<Impl> impl);
  ~BegunGuard();  // ends it and waits for it
  BegunGuard(BegunGuard&&) noexcept;
  BegunGuard& operator=(BegunGuard&& other) noexcept;

 private:
  friend class GuardClient;
  std::unique_ptr<Impl> impl_;
};

// Belongs to the loop's thread; callbacks may destroy it. One at a time in a process: when the guard dies, every child that
// this process did not have before Begin is taken for the guard's and ended.
class GuardClient {
 public:
  struct Events {
    std::function<void(uint32_t slot, pid_t pid, UniqueFd pidfd)> spawned;  // exec has succeeded; pid as this process sees it
    std::function<void(uint32_t slot, int error, std::string stage)> spawn_failed;  // stage: "execve PATH", "chdir DIR", "fork"
    std::function<void(uint32_t slot, int wait_status)> ended;                      // as from waitpid
    std::function<void()> tree_ended;  // EndTree is done: no process of the tree is left
    std::function<void()> lost;        // the guard died; the agent, a subreaper as well, has already ended the tree
  };

  // Starts `guard_path` with `session_folder` to remove at its end (empty: none).
  static absl::StatusOr<BegunGuard> Begin(const std::string& guard_path, const std::string& session_folder);
  // Waits until it serves.
  static absl::StatusOr<std::unique_ptr<GuardClient>> Start(EventLoop* loop, BegunGuard begun, Events events);
  // Both.
  static absl::StatusOr<std::unique_ptr<GuardClient>> Start(EventLoop* loop, const std::string& guard_path,
                                                            const std::string& session_folder, Events events);
  virtual ~GuardClient() = default;  // ends the tree and waits for it

  virtual void Spawn(SpawnRequest request) = 0;
  // To the worker's process group.
  virtual void Signal(uint32_t slot, int signal) = 0;
  // Kills all children, reaps, repeats until none is left; then Events::tree_ended.
  virtual void EndTree() = 0;
  // Of workers that have ended: what they left in /dev/shm (shared_memory.h).
  virtual void RemoveSharedMemory() = 0;
  // Nothing more is asked of it and no event comes: it ends its tree and itself, which the destructor waits for.
  virtual void Finish() = 0;
  virtual TreeCover cover() const = 0;
  virtual pid_t pid() const = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_GUARD_GUARD_CLIENT_H_

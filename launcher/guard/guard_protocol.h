// What agent and guard say to each other over their socket pair (SOCK_SEQPACKET): one fixed struct a packet, descriptors beside
// it.
//
// Both ends come from one build and live on one machine, so the structs travel as they are; the version in the first reply
// catches a guard of another build. This header knows libc only, because the guard does.
#ifndef MUSTER_LAUNCHER_GUARD_GUARD_PROTOCOL_H_
#define MUSTER_LAUNCHER_GUARD_GUARD_PROTOCOL_H_

#include <cstdint>

namespace muster::guard {

inline constexpr uint32_t kProtocolVersion = 2;

// The command line: muster-guard [namespace] [SESSION_FOLDER], with the socket as descriptor 3.
//
// It becomes two processes. The first, the keeper, forks the second, the guard itself, and from then on only waits for it: when
// the guard ends, however that came, the keeper ends what the guard left and removes the session folder. So any one of agent,
// keeper and guard is enough to end the tree. With "namespace" the guard is the first process of a new PID namespace and a new
// mount namespace, mounts /proc anew, and the kernel ends the tree whoever dies.
inline constexpr char kNamespaceWord[] = "namespace";
inline constexpr int kSocketFd = 3;

// The kernel takes at most 6 MiB of arguments and environment (execve(2)); this bound only keeps a broken agent from more.
inline constexpr uint64_t kBlobBytesMax = 16u << 20;

enum class RequestType : uint32_t { kSpawn = 1, kSignal = 2, kEndTree = 3 };

// kSpawn carries four descriptors: stdin, stdout, stderr, and a memfd, sealed against every change, that holds program, working
// directory, processors, memory nodes, `argument_count` arguments and `environment_count` settings, each ended by a NUL,
// `blob_bytes` in all. Processors and memory nodes are lists as the kernel writes them ("0-3,8"); empty: not bound.
inline constexpr int kSpawnDescriptors = 4;

struct Request {
  RequestType type;
  uint32_t slot;
  int32_t signal;                 // kSignal
  uint32_t controlling_terminal;  // kSpawn: 0 or 1
  uint32_t argument_count;
  uint32_t environment_count;
  uint64_t blob_bytes;
  uint32_t binding_is_optional;  // kSpawn: 0 or 1: the worker runs also where the kernel refuses the processors
  uint32_t unused;
};
static_assert(sizeof(Request) == 40);

enum class ReplyType : uint32_t {
  kReady = 1,        // value = kProtocolVersion; carries the guard's own pidfd
  kStartFailed = 2,  // value = errno, stage; keeper and guard exit and leave the session folder
  kSpawned = 3,      // carries the worker's pidfd
  kSpawnFailed = 4,  // value = errno, stage
  kEnded = 5,        // value = wait status
  kTreeEnded = 6,
};

enum class Stage : uint32_t {
  kNone = 0,
  kRequest = 1,   // the request itself was not as said above
  kFork = 2,      // fork, pipe or pidfd_open
  kGroup = 3,     // setsid, setpgid
  kTerminal = 4,  // TIOCSCTTY
  kDescriptors = 5,
  kChdir = 6,
  kExecve = 7,
  kBind = 9,       // sched_setaffinity
  kNamespace = 8,  // kStartFailed: the clone into a namespace, making its mounts slaves, or mounting /proc
};

struct Reply {
  ReplyType type;
  uint32_t slot;
  int32_t value;
  Stage stage;
};
static_assert(sizeof(Reply) == 16);

}  // namespace muster::guard

#endif  // MUSTER_LAUNCHER_GUARD_GUARD_PROTOCOL_H_

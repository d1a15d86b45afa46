// What agent and guard say to each other over their socket pair (SOCK_SEQPACKET): one fixed struct a packet, descriptors beside
// it.
//
// Both ends come from one build and live on one machine, so the structs travel as they are; the version in the first reply
// catches a guard of another build. This header knows libc only, because the guard does.
#ifndef MUSTER_LAUNCHER_GUARD_GUARD_PROTOCOL_H_
#define MUSTER_LAUNCHER_GUARD_GUARD_PROTOCOL_H_

#include <cstdint>

namespace muster::guard {

inline constexpr uint32_t kProtocolVersion = 1;

// The guard's command line: muster-guard [namespace] [SESSION_FOLDER]. With "namespace" it is the first process of a new PID
// namespace and a new mount namespace, and mounts /proc anew.
//
// The janitor's: muster-guard janitor SESSION_FOLDER. It holds nothing but the read end of a pipe, whose write ends agent and
// guard hold, and removes the folder when both have died at once and neither could.
inline constexpr char kNamespaceWord[] = "namespace";
inline constexpr char kJanitorWord[] = "janitor";
// Descriptors that the agent leaves open: the guard's socket or the janitor's read end, and the guard's write end.
inline constexpr int kSocketFd = 3;
inline constexpr int kJanitorFd = 3;
inline constexpr int kAliveFd = 4;

// The kernel takes at most 6 MiB of arguments and environment (execve(2)); this bound only keeps a broken agent from more.
inline constexpr uint64_t kBlobBytesMax = 16u << 20;

enum class RequestType : uint32_t { kSpawn = 1, kSignal = 2, kEndTree = 3 };

// kSpawn carries four descriptors: stdin, stdout, stderr, and a memfd, sealed against every change, that holds program, working
// directory, `argument_count` arguments and `environment_count` settings, each ended by a NUL, `blob_bytes` in all.
inline constexpr int kSpawnDescriptors = 4;

struct Request {
  RequestType type;
  uint32_t slot;
  int32_t signal;                 // kSignal
  uint32_t controlling_terminal;  // kSpawn: 0 or 1
  uint32_t argument_count;
  uint32_t environment_count;
  uint64_t blob_bytes;
};
static_assert(sizeof(Request) == 32);

enum class ReplyType : uint32_t {
  kReady = 1,        // value = kProtocolVersion
  kStartFailed = 2,  // value = errno, stage; the guard exits
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
  kMount = 8,  // kStartFailed: making the mounts slaves, or mounting /proc
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

// The life page: how an agent learns of a worker's death before the kernel has freed its memory.
//
// One memfd a process, sealed, handed to the agent in WorkerHello. A thread of libmuster that does nothing else locks `mutex` (robust,
// process-shared) when the session opens and unlocks it when the session ends. If the process dies first, the kernel marks the
// mutex's futex word FUTEX_OWNER_DIED and wakes its waiters as the first thing it does (robust futex list, futex(2)), 0.04-0.4 ms
// after the kill whatever the process's size; the pidfd becomes readable only after its memory is freed.
//
// The agent sets FUTEX_WAITERS in the futex word, which is the first 32-bit word of a glibc pthread_mutex_t, and waits on it
// (futex_waitv, in groups of kFutexWaitvMax). `state` says whether an unlocked mutex is a clean end.
#ifndef MUSTER_PROTO_V1_LIFE_PAGE_H_
#define MUSTER_PROTO_V1_LIFE_PAGE_H_

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace muster::v1 {

inline constexpr uint64_t kLifePageMagic = 0x6566696c7274736dULL;  // "mstrlife"
inline constexpr uint32_t kLifePageVersion = 1;
inline constexpr size_t kLifePageBytes = 4096;
inline constexpr int kFutexWaitvMax = 128;

enum class LifeState : uint32_t {
  kStarting = 0,  // the mutex is not locked yet
  kJoined = 1,    // the mutex is held
  kLeft = 2,      // written before the unlock: a clean end
};

struct LifePage {
  uint64_t magic;
  uint32_t version;
  uint32_t slot;
  alignas(64) std::atomic<LifeState> state;
  alignas(64) pthread_mutex_t mutex;
};

static_assert(std::atomic<LifeState>::is_always_lock_free);
static_assert(offsetof(LifePage, state) == 64);
static_assert(offsetof(LifePage, mutex) == 128);
static_assert(sizeof(LifePage) <= kLifePageBytes);

}  // namespace muster::v1

#endif  // MUSTER_PROTO_V1_LIFE_PAGE_H_

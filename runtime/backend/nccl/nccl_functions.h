// The functions of NCCL that muster calls, each with muster's own declaration; a test compares them with NVIDIA's header.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_FUNCTIONS_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_FUNCTIONS_H_

#include <cstddef>

namespace muster {

struct NcclUniqueId {
  char internal[128];
};

// ncclConfig_t as NCCL 2.14 had it. Later libraries read as much as `size` says, and go by `version` for what they have added.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;
  int unused = 0;
};

inline constexpr int kNcclWindowSymmetric = 1;  // NCCL_WIN_COLL_SYMMETRIC
inline constexpr int kNcclShrinkDefault = 0;    // NCCL_SHRINK_DEFAULT

// F(name, type of a pointer to it)
#define MUSTER_NCCL_FUNCTIONS(F)                                                    \
  F(ncclGetVersion, int (*)(int*))                                                  \
  F(ncclGetUniqueId, int (*)(NcclUniqueId*))                                        \
  F(ncclCommInitRankConfig, int (*)(void**, int, NcclUniqueId, int, NcclConfig*))   \
  F(ncclCommFinalize, int (*)(void*))                                               \
  F(ncclCommDestroy, int (*)(void*))                                                \
  F(ncclCommAbort, int (*)(void*))                                                  \
  F(ncclCommGetAsyncError, int (*)(void*, int*))                                    \
  F(ncclGetErrorString, const char* (*)(int))                                       \
  F(ncclGetLastError, const char* (*)(void*))                                       \
  F(ncclAllReduce, int (*)(const void*, void*, size_t, int, int, void*, void*))     \
  F(ncclReduceScatter, int (*)(const void*, void*, size_t, int, int, void*, void*)) \
  F(ncclBroadcast, int (*)(const void*, void*, size_t, int, int, void*, void*))     \
  F(ncclAllGather, int (*)(const void*, void*, size_t, int, void*, void*))

// Those that only later libraries have.
#define MUSTER_NCCL_LATER_FUNCTIONS(F)                                                    \
  F(ncclCommInitRankScalable, int (*)(void**, int, int, int, NcclUniqueId*, NcclConfig*)) \
  F(ncclCommSplit, int (*)(void*, int, int, void**, NcclConfig*))                         \
  F(ncclCommShrink, int (*)(void*, int*, int, void**, NcclConfig*, int))                  \
  F(ncclCommRevoke, int (*)(void*, int))                                                  \
  F(ncclMemAlloc, int (*)(void**, size_t))                                                \
  F(ncclMemFree, int (*)(void*))                                                          \
  F(ncclCommRegister, int (*)(void*, void*, size_t, void**))                              \
  F(ncclCommDeregister, int (*)(void*, void*))                                            \
  F(ncclCommWindowRegister, int (*)(void*, void*, size_t, void**, int))                   \
  F(ncclCommWindowDeregister, int (*)(void*, void*))

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_FUNCTIONS_H_

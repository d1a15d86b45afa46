// What the NCCL backend asks of NCCL. nccl_library.h implements it over the real library, tests in memory.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_API_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_API_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "muster/tensor.h"
#include "runtime/device/cuda_api.h"

namespace muster {

// NCCL's codes; a ncclResult_t.
inline constexpr int kNcclOk = 0;
inline constexpr int kNcclUnhandledCudaError = 1;
inline constexpr int kNcclSystemError = 2;
inline constexpr int kNcclInternalError = 3;
inline constexpr int kNcclInvalidArgument = 4;
inline constexpr int kNcclInvalidUsage = 5;
inline constexpr int kNcclRemoteError = 6;  // a peer died, or the network to it
inline constexpr int kNcclInProgress = 7;

using NcclComm = void*;
using NcclWindow = void*;

// Where the ranks of a communicator find each other: an address of the process that made it, which has to stay.
using NcclId = std::array<char, 128>;

// What a library has beyond NCCL 2.14. Each is asked for by name: a version says less than it seems to.
struct NcclPowers {
  bool several_roots = false;  // InitRankScalable, 2.23: more than one id
  bool splits = false;         // CommSplit, 2.18
  bool shrinks = false;        // CommShrink, 2.27, and CommRevoke, 2.28.7, which ends what runs and leaves the communicator
  bool allocates = false;      // MemAlloc, 2.19
  bool registers = false;      // CommRegister, 2.19
  bool has_windows = false;    // CommWindowRegister, 2.27
};

// What returns int returns a code above. Communicators are made non-blocking: what works on one may return kNcclInProgress, and then
// nothing else is asked of it but AsyncError and Abort until AsyncError says something else. Only Abort, Destroy and GetId may take
// long, or for ever; Abort and AsyncError may be called from any thread while another call runs, all else by one thread at a time.
// The communicator's device is current in the calling thread.
// Source: NVIDIA Collective Communication Library documentation, "Fault Tolerance", "Communicator Creation and Management Functions".
class NcclApi {
 public:
  virtual ~NcclApi() = default;

  virtual const std::string& library() const = 0;  // name and version, such as "NCCL 2.28.9"
  virtual const NcclPowers& powers() const = 0;

  virtual int GetId(NcclId* id) = 0;
  // Collective. `*comm` may be set even where the code is not kNcclOk; then it is aborted.
  virtual int Init(NcclComm* comm, int ranks, int rank, std::span<const NcclId> ids) = 0;
  // Collective, one communicator for each colour; a negative one gets null.
  virtual int Split(NcclComm comm, int color, int key, NcclComm* made) = 0;
  // Collective among those that are not excluded; of a communicator that was revoked, if anything ran on it.
  virtual int Shrink(NcclComm comm, std::span<const int> excluded, NcclComm* made) = 0;
  virtual int Revoke(NcclComm comm) = 0;
  virtual int Finalize(NcclComm comm) = 0;  // collective: what runs comes to its end
  virtual int Destroy(NcclComm comm) = 0;
  virtual int Abort(NcclComm comm) = 0;
  virtual int AsyncError(NcclComm comm, int* state) = 0;

  // These put a collective on `stream`. `send` may be `receive`, and the own part of it where one is part of the other.
  virtual int AllReduce(const void* send, void* receive, int64_t count, DataType type, ReduceOp op, NcclComm comm,
                        CudaStream stream) = 0;
  // `count` elements arrive on each rank.
  virtual int ReduceScatter(const void* send, void* receive, int64_t count, DataType type, ReduceOp op, NcclComm comm,
                            CudaStream stream) = 0;
  virtual int Broadcast(void* buffer, int64_t bytes, int root, NcclComm comm, CudaStream stream) = 0;
  // `bytes` of each rank.
  virtual int AllGather(const void* send, void* receive, int64_t bytes, NcclComm comm, CudaStream stream) = 0;

  // Device memory as NCCL likes it, of the current device.
  virtual int Allocate(void** memory, int64_t bytes) = 0;
  virtual int Free(void* memory) = 0;
  virtual int Register(NcclComm comm, void* memory, int64_t bytes, void** handle) = 0;
  virtual int Deregister(NcclComm comm, void* handle) = 0;
  // Collective. Memory of Allocate. `*window` stays null where the machine has no use for it.
  virtual int RegisterWindow(NcclComm comm, void* memory, int64_t bytes, NcclWindow* window) = 0;
  virtual int DeregisterWindow(NcclComm comm, NcclWindow window) = 0;

  // What `code` means, and what the library said last about it.
  virtual std::string ErrorText(int code) = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_API_H_

// Collectives on data that passes the host: through pinned memory to the device, and back.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_STAGING_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_STAGING_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "runtime/backend/nccl/nccl_stream.h"
#include "runtime/backend/shared/operations.h"

namespace muster {

// Data is cut into pieces that fit the scratch memory, equally on all ranks, wherever their buffers lie. One thread at a time.
class NcclStaging {
 public:
  NcclStaging(NcclApi& nccl, CudaApi& cuda, NcclStream& stream, int rank, int ranks, int64_t scratch_bytes);
  // The scratch memory, pinned and on the device, which is allocated before it is first needed: allocating may wait for all that runs there.
  bool is_open() const { return pinned_ != nullptr && device_ != nullptr; }
  int64_t scratch_bytes() const { return scratch_bytes_; }
  int Open();  // CUDA's code
  // `must_end`: what NCCL may still write to is left.
  void Close(bool must_end);

  // Of an open one. Whole when it returns OK. Errors have broken the stream's watch.
  absl::Status Run(const Operation& operation) { return MoveData(*this, operation); }

 private:
  template <typename Runner>
  friend absl::Status MoveData(Runner& runner, const Operation& operation);

  // A caller's buffer.
  struct Buffer {
    char* data = nullptr;
    bool on_device = false;
  };

  absl::Status AllReduce(const Operation& operation);
  absl::Status ReduceScatter(const Operation& operation);
  absl::Status Broadcast(const Operation& operation);
  absl::Status AllGather(const Operation& operation);

  absl::Status Find(const void* data, Buffer* buffer, const Operation& operation);
  // `bytes` at `offset` of `buffer`, where the host can read them; until the next call.
  absl::Status Read(const Buffer& buffer, int64_t offset, int64_t bytes, const char** data, const Operation& operation);
  absl::Status Write(const Buffer& buffer, int64_t offset, int64_t bytes, const void* data, const Operation& operation);
  // `count` values of `buffer` from its byte `offset`, as the host computes with them.
  absl::Status ReadValues(const Buffer& buffer, int64_t offset, int64_t count, char* values, const Operation& operation);
  absl::Status WriteValues(const Buffer& buffer, int64_t offset, int64_t count, const char* values, const Operation& operation);

  NcclApi& nccl_;
  CudaApi& cuda_;
  NcclStream& stream_;
  const int rank_;
  const int ranks_;
  const int64_t scratch_bytes_;
  char* pinned_ = nullptr;
  char* device_ = nullptr;
  std::vector<char> raw_;  // what comes from or goes to device buffers
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_STAGING_H_

#include "runtime/backend/nccl/nccl_stream.h"

#include "runtime/base/status.h"

namespace muster {

NcclStream::~NcclStream() {
  if (stream_ != nullptr && !watch_.must_end()->load()) cuda_.DestroyStream(stream_);
}

absl::Status NcclStream::Check(int code, const Operation& operation) {
  return code == kCudaOk ? absl::OkStatus() : watch_.CudaFailed(code, operation);
}

absl::Status NcclStream::Open(const Operation& operation) { return Check(cuda_.MakeStream(&stream_), operation); }

absl::Status NcclStream::Copy(void* to, const void* from, int64_t bytes, const Operation& operation) {
  return Check(cuda_.Copy(to, from, bytes, stream_), operation);
}

absl::Status NcclStream::Launch(absl::FunctionRef<int(NcclComm, CudaStream)> call, const Operation& operation) {
  if (watch_.is_broken()) return watch_.Settled();
  const int64_t begin = watch_.clock().now();
  int code = handle_.Call([&](NcclComm comm) { return call(comm, stream_); });
  while (code == kNcclInProgress) {
    code = handle_.State();
    if (code != kNcclInProgress) break;
    MUSTER_RETURN_IF_ERROR(watch_.Look(operation, begin));
    watch_.clock().pause(watch_.clock().now() - begin);
  }
  return code == kNcclOk ? absl::OkStatus() : watch_.NcclFailed(code, operation);
}

absl::Status NcclStream::Send(const std::shared_ptr<NcclFlight>& flight) {
  CudaEvent end = nullptr;
  MUSTER_RETURN_IF_ERROR(watch_.TakeEvent(&end, flight->operation()));
  MUSTER_RETURN_IF_ERROR(Check(cuda_.Record(end, stream_), flight->operation()));
  flight->Issue(end);
  watch_.Follow(flight);
  return absl::OkStatus();
}

absl::Status NcclStream::Settle(const Operation& operation) {
  const auto all = std::make_shared<NcclFlight>(operation);
  MUSTER_RETURN_IF_ERROR(Send(all));
  return all->Wait();
}

}  // namespace muster

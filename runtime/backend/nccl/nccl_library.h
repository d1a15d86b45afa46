// libnccl, opened when it is asked for.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_LIBRARY_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_LIBRARY_H_

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "runtime/backend/nccl/nccl_api.h"

namespace muster {

// Finds libnccl as runtime/device/library_search.h says: `path` is MUSTER_NCCL_LIBRARY. It stays open for the process's life.
// Errors: FailedPrecondition: it is not there, or is older than 2.14; the message says what was tried and what to install.
absl::StatusOr<std::shared_ptr<NcclApi>> OpenNcclLibrary(const std::string& path,
                                                         absl::FunctionRef<const char*(const char*)> variable);
absl::StatusOr<std::shared_ptr<NcclApi>> OpenNcclLibrary(const std::string& path);  // with this process's environment

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_LIBRARY_H_

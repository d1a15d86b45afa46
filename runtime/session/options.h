// SessionOptions from any environment.
#ifndef MUSTER_RUNTIME_SESSION_OPTIONS_H_
#define MUSTER_RUNTIME_SESSION_OPTIONS_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "muster/session.h"

namespace muster {

// Values of SessionOptions::backend besides "", which leaves the choice to muster.
inline constexpr char kNativeBackend[] = "native";
inline constexpr char kNcclBackend[] = "nccl";
inline constexpr char kMpiBackend[] = "mpi";

// As SessionOptionsFromEnvironment; `variable` gives a value or null.
absl::StatusOr<SessionOptions> SessionOptionsFrom(absl::FunctionRef<const char*(const char*)> variable);

// The 16 bytes that 32 hexadecimal digits stand for. Errors: InvalidArgument.
absl::StatusOr<std::string> JobIdBytes(absl::string_view digits);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_OPTIONS_H_

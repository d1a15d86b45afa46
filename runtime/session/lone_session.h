// A world of one: a program that was started without an agent.
#ifndef MUSTER_RUNTIME_SESSION_LONE_SESSION_H_
#define MUSTER_RUNTIME_SESSION_LONE_SESSION_H_

#include <memory>

#include "absl/status/statusor.h"
#include "muster/session.h"

namespace muster {

// Errors: AlreadyExists; with backend "nccl" also those of MakeNcclWorld (nccl_world.h).
absl::StatusOr<std::unique_ptr<Session>> CreateLoneSession(const SessionOptions& options);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_LONE_SESSION_H_

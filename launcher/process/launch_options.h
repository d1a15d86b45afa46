// What the parts of a coordinator's process are told by the command's Launch.
#ifndef MUSTER_LAUNCHER_PROCESS_LAUNCH_OPTIONS_H_
#define MUSTER_LAUNCHER_PROCESS_LAUNCH_OPTIONS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launcher/coordinator/membership.h"
#include "launcher/job/job_files.h"
#include "muster/v1/launch.pb.h"

namespace muster {

// Errors: InvalidArgument (not complete, or its numbers do not fit each other: a command of another build).
absl::Status CheckLaunch(const v1::Launch& launch);

// From SIGTERM to SIGKILL where the job is asked to stop.
absl::Duration KillGraceOf(const v1::Launch& launch);

// The rules of a launch that CheckLaunch has let pass. Errors: InvalidArgument (its placement).
absl::StatusOr<membership::Options> MembershipOptionsOf(const v1::Launch& launch);

// What is known of the job before anything has happened. `host`: where it is launched from.
JobStatus FirstStatusOf(const v1::Launch& launch, const std::string& host);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_LAUNCH_OPTIONS_H_

// The starter that a launch asks for.
#ifndef MUSTER_LAUNCHER_PROCESS_MAKE_STARTER_H_
#define MUSTER_LAUNCHER_PROCESS_MAKE_STARTER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "launcher/starter/starter.h"
#include "muster/v1/launch.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

// May move the process into a network namespace of its own, so call it while there is one thread. Tickets that a person is to carry
// are written into `job_folder`. Errors: InvalidArgument (this version has no such starter, no hosts, no address), those of the
// starters.
absl::StatusOr<std::unique_ptr<Starter>> MakeStarter(EventLoop* loop, const v1::Launch& launch, const std::string& job_folder,
                                                     Starter::Callbacks callbacks);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_MAKE_STARTER_H_

#include "muster/session.h"

#include "runtime/base/status.h"
#include "runtime/session/agent_session.h"
#include "runtime/session/lone_session.h"
#include "runtime/session/mpi_session.h"
#include "runtime/session/options.h"

namespace muster {

absl::StatusOr<std::unique_ptr<Session>> Session::Create(const SessionOptions& options) {
  if (!options.socket.empty()) return AgentSession::Create(options);
  return options.backend == kMpiBackend ? CreateMpiSession(options) : CreateLoneSession(options);
}

absl::StatusOr<std::unique_ptr<Session>> Session::Create() {
  MUSTER_ASSIGN_OR_RETURN(const SessionOptions options, SessionOptionsFromEnvironment());
  return Create(options);
}

}  // namespace muster

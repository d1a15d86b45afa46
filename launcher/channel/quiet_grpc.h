// gRPC's own log, which a stranger's connection could fill.
#ifndef MUSTER_LAUNCHER_CHANNEL_QUIET_GRPC_H_
#define MUSTER_LAUNCHER_CHANNEL_QUIET_GRPC_H_

namespace muster {

// gRPC says nothing on stderr from now on, unless GRPC_VERBOSITY is set. What matters comes back as a status. Any thread.
void MakeGrpcQuiet();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_QUIET_GRPC_H_

// Meshes between threads of a test, over the loopback device.
#ifndef MUSTER_TESTS_SUPPORT_LOOPBACK_MESH_H_
#define MUSTER_TESTS_SUPPORT_LOOPBACK_MESH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/fd.h"
#include "runtime/transport/address.h"
#include "runtime/transport/mesh.h"

namespace muster::test {

// A TCP socket bound to a free port of 127.0.0.1, or of ::1 for `family` 6; not listening. `*address` says where.
UniqueFd BindLoopback(SocketAddress* address, int family = 4);

// A blocking connection to `address`, as a stranger would make it.
UniqueFd ConnectLoopback(const SocketAddress& address);

// What each of `ranks` ranks passes to Mesh::Connect: all are peers of all others, spawn = rank + 10, generation 5.
std::vector<MeshOptions> LoopbackOptions(int ranks, int streams = 4, int family = 4);

// Connects all ranks, each in a thread of its own, by rank. Errors are test failures, and the mesh is null.
std::vector<std::unique_ptr<Mesh>> ConnectAll(std::vector<MeshOptions> options, absl::Duration timeout = absl::Seconds(60));

// Waits for `done`: true; false and a test failure when the mesh has failed or nothing happens for a minute.
bool Await(Mesh& mesh, const std::function<bool()>& done);

// Progress until it fails, for a minute at most; reason kNone when nothing happened.
MeshFailure AwaitFailure(Mesh& mesh);

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_LOOPBACK_MESH_H_

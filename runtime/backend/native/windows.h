// Making a window together: memory on every rank, mapped by all, or an error on all.
#ifndef MUSTER_RUNTIME_BACKEND_NATIVE_WINDOWS_H_
#define MUSTER_RUNTIME_BACKEND_NATIVE_WINDOWS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "muster/window.h"
#include "runtime/backend/native/node_link.h"
#include "runtime/backend/native/place.h"
#include "runtime/collectives/network.h"
#include "runtime/shm/member.h"

namespace muster {

// What windows keep after their communicator has gone: the mappings, and whether there still is a link to tell.
struct WindowHome {
  std::shared_ptr<Member> member;
  NodeLink* link = nullptr;    // null in a world of one, and once the communicator is destroyed
  Network* network = nullptr;  // null on a single node, and once the communicator is destroyed
  std::shared_ptr<NativeFamily> family;
};

// Collective; `bytes` > 0, `window` counts the communicator's windows, `deadline` in MonotonicNanoseconds(). Every rank's step
// is confirmed by all before the next, so that one rank's failure is an error everywhere and leaves the communicator usable.
// Errors: ResourceExhausted (the node's memory limit, or a rank that could not get the memory), those of
// NodeLink::CollectWindow.
absl::StatusOr<std::unique_ptr<Window>> CreateSharedWindow(std::shared_ptr<WindowHome> home, uint32_t window, int64_t bytes,
                                                           absl::Time deadline);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NATIVE_WINDOWS_H_

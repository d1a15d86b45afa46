// Threads that muster makes inside a user's program.
#ifndef MUSTER_RUNTIME_BASE_LIBRARY_THREAD_H_
#define MUSTER_RUNTIME_BASE_LIBRARY_THREAD_H_

#include <functional>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// Runs `body` on a new thread, on which the program's signal handlers do not run, except for what the thread itself brings about (a fault,
// abort). Any thread.
// Errors: ResourceExhausted, "cannot make `what`: why".
absl::StatusOr<std::unique_ptr<std::thread>> StartLibraryThread(absl::string_view what, std::function<void()> body);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_LIBRARY_THREAD_H_

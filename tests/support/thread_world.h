// Ranks as threads of the test, with a communicator that is only plain loops: what training must get from any backend.
#ifndef MUSTER_TESTS_SUPPORT_THREAD_WORLD_H_
#define MUSTER_TESTS_SUPPORT_THREAD_WORLD_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "muster/communicator.h"

namespace muster::test {

struct ThreadWorldOptions {
  // Called before operation `index` (counted from 0 on each rank, windows not included) meets its peers. An error becomes the
  // operation's result on that rank; the communicator goes on working, so a test may try again.
  std::function<absl::Status(int rank, int64_t index)> before_operation;
};

// Reductions are those of tests/support/reference.h. Each rank has a progress thread, as with a real backend; an operation that
// differs between ranks is InvalidArgument on all. Deadlines are ignored.
class ThreadWorld {
 public:
  explicit ThreadWorld(int world_size, ThreadWorldOptions options = {});
  ~ThreadWorld();

  Communicator& communicator(int rank);

  // Runs `body` for every rank, each in its own thread, and returns when all have returned.
  void Run(const std::function<void(Communicator& communicator)>& body);

 private:
  struct Shared;
  class Rank;
  std::unique_ptr<Shared> shared_;
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_THREAD_WORLD_H_

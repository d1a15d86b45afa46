// Operations and news over an MpiApi: what the progress thread of the MPI backend does.
#ifndef MUSTER_RUNTIME_BACKEND_MPI_MPI_ENGINE_H_
#define MUSTER_RUNTIME_BACKEND_MPI_MPI_ENGINE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "runtime/backend/mpi/mpi.h"
#include "runtime/base/mutex.h"
#include "runtime/shm/operation.h"

namespace muster {

// What ranks tell each other beside the collectives.
struct MpiNews {
  enum Kind : uint32_t { kLeft = 1, kFailed = 2 };
  uint32_t kind = 0;
  uint32_t sender = 0;
  uint32_t reason = 0;     // of kFailed: v1::AbortReason
  uint32_t blamed = 0;     // of kFailed
  int64_t operations = 0;  // that the sender has finished
  char text[232] = "";
};
static_assert(sizeof(MpiNews) == 256);

// Break and failure() from any thread; all else from one thread at a time.
class MpiEngine {
 public:
  // `place` is what options.api->Start gave; begins to hear news.
  MpiEngine(MpiOptions options, const MpiPlace& place);
  ~MpiEngine();

  // Runs one operation to its end. After the first error every call returns that error. The first failure is told to the peers
  // before this returns. Of kCreateWindow `input` is an int64_t: whether this rank has the memory; the others' answers decide.
  // Of kNone: only tells the peers what Break has said.
  absl::Status Run(const Operation& operation);

  // The first failure stays. A running operation ends with it at its next look.
  void Break(Failure failure);
  std::optional<Failure> failure() const;

  // Waits until all ranks say farewell, and ends MPI; returns early, without ending MPI, when there is a failure or one comes.
  void Leave();

 private:
  absl::Status Announce(const Operation& operation);
  absl::Status Perform(const Operation& operation);
  absl::Status AllReduce(const Operation& operation);
  absl::Status ReduceScatter(const Operation& operation);
  absl::Status Broadcast(const Operation& operation);
  absl::Status AllGather(const Operation& operation);
  absl::Status AgreeOnWindow(const Operation& operation);

  // The reduction of `count` elements of a type that MPI knows; afterwards averages are divided and NaNs alike.
  absl::Status ReduceInPlace(void* data, int64_t count, DataType type, const Operation& operation);

  // Looks at `*request` until it is done; `code` is what beginning it returned.
  absl::Status Await(int code, MpiRequest* request, const Operation& operation);
  absl::Status LibraryFailed(int code, const Operation& operation);
  // What peers, the launcher or Break have said that ends `operation`.
  absl::Status LookForNews(const Operation& operation);
  absl::Status Hear(const Operation& operation);
  absl::Status Fail(Failure failure);
  void TellAll(MpiNews news);
  void TellFailure();

  char* Scratch(int64_t bytes);
  bool Is16Bit(const Operation& operation) const;

  const MpiOptions options_;
  MpiApi& api_;
  const MpiPlace place_;
  int64_t operations_ = 0;
  std::map<uint32_t, int64_t> left_;  // by rank: operations it had finished
  MpiRequest hearing_ = nullptr;
  bool told_ = false;

  // What MPI writes to: kept for the process's life after an error, for operations cannot be called off.
  struct Memory {
    int64_t small[2] = {0, 0};
    std::vector<v1::OpDescriptor> calls;
    std::vector<char> scratch;
    MpiNews heard;
  };
  std::unique_ptr<Memory> memory_ = std::make_unique<Memory>();

  mutable Mutex mutex_;
  std::optional<Failure> failure_ ABSL_GUARDED_BY(mutex_);
  bool is_own_ ABSL_GUARDED_BY(mutex_) = false;  // not heard from a peer, who tells all
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_MPI_MPI_ENGINE_H_

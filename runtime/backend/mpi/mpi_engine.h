// Operations and news over an MpiApi: what the progress thread of the MPI backend does.
#ifndef MUSTER_RUNTIME_BACKEND_MPI_MPI_ENGINE_H_
#define MUSTER_RUNTIME_BACKEND_MPI_MPI_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "runtime/backend/mpi/mpi.h"
#include "runtime/backend/shared/split_members.h"
#include "runtime/base/mutex.h"
#include "runtime/shm/operation.h"

namespace muster {

// What ranks tell each other beside the collectives.
struct MpiNews {
  // kLeftUnended: as kLeft, and the sender will never end MPI, because another communicator of its process has failed.
  enum Kind : uint32_t { kLeft = 1, kFailed = 2, kLeftUnended = 3 };
  uint32_t kind = 0;
  uint32_t sender = 0;
  uint32_t reason = 0;     // of kFailed: v1::AbortReason
  uint32_t blamed = 0;     // of kFailed
  int64_t operations = 0;  // that the sender has finished
  char text[232] = "";
};
static_assert(sizeof(MpiNews) == 256);

// What an operation of kSplit asks for, and what it gets.
struct MpiSplit {
  SplitCall call;
  bool is_full = false;  // this rank cannot have another communicator
  MpiApi* some = nullptr;
  MpiPlace place;
  std::vector<int> job_ranks;
};

// Break and failure() from any thread; all else from one thread at a time.
class MpiEngine {
 public:
  // `place` is what options.api->Start gave; begins to hear news.
  MpiEngine(MpiOptions options, const MpiPlace& place);
  ~MpiEngine();

  // Runs one operation to its end. After the first error every call returns that error. The first failure is told to the peers
  // before this returns. Of kCreateWindow `input` is an int64_t: whether this rank has the memory; the others' answers decide.
  // Of kNone: only tells the peers what Break has said. Of kSplit `output` is an MpiSplit.
  absl::Status Run(const Operation& operation);

  // While another thread runs a kSplit: whether that is within MPI's own split and will not come back in time, because `deadline` has
  // passed or the generation has been over for a while. From then on that thread is lost, and this object must not be destroyed.
  bool GivesUpSplit(int64_t deadline);

  // The first failure stays. A running operation ends with it at its next look.
  void Break(Failure failure);
  std::optional<Failure> failure() const;

  // Waits until all ranks say farewell, and ends MPI; returns early, without ending MPI, when there is a failure or one comes.
  void Leave();
  // Tells the others, without waiting for them and without ending MPI, which with `unended` they will not end either.
  void LeaveAtOnce(bool unended);

  int JobRank(int rank) const { return options_.job_ranks.empty() ? rank : options_.job_ranks[static_cast<size_t>(rank)]; }
  void Pause(int64_t waited) const { options_.pause(waited); }

 private:
  template <typename Runner>
  friend absl::Status MoveData(Runner& runner, const Operation& operation);

  absl::Status Announce(const Operation& operation);
  absl::Status Perform(const Operation& operation);
  absl::Status AllReduce(const Operation& operation);
  absl::Status ReduceScatter(const Operation& operation);
  absl::Status Broadcast(const Operation& operation);
  absl::Status AllGather(const Operation& operation);
  absl::Status AgreeOnWindow(const Operation& operation);
  absl::Status Split(const Operation& operation);

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
  bool unended_ = false;  // some rank has said that it will not end MPI

  // Where a kSplit is: within MPI's own, given up there, or elsewhere.
  enum SplitState { kElsewhere, kWithin, kGivenUp };
  std::atomic<int> split_state_{kElsewhere};
  int64_t over_since_ = 0;  // who waits for a kSplit has seen that the generation is over

  struct SplitWord {
    SplitCall call;
    int32_t is_full = 0;
    int32_t for_several_threads = 0;
  };

  // What MPI writes to: kept for the process's life after an error, for operations cannot be called off.
  struct Memory {
    int64_t small[2] = {0, 0};
    std::vector<v1::OpDescriptor> calls;
    SplitWord own_split;
    std::vector<SplitWord> splits;
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

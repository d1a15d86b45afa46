// Where a trainer's numbers live and what computes on them: the host, or a GPU.
//
// The trainer's rules (shards, buckets, two states and a flip) are written once, over this. host_place.h keeps everything in windows
// and computes in the calling thread; device_place.h keeps parameters, moments and gradients in a GPU's memory and queues its work
// to a stream.
#ifndef MUSTER_RUNTIME_TRAINING_PLACE_H_
#define MUSTER_RUNTIME_TRAINING_PLACE_H_

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/training/update.h"

namespace muster {

// Floats of a place, on a 64-byte boundary, zero at first, and how the host sees them.
class PlaceMemory {
 public:
  virtual ~PlaceMemory() = default;
  PlaceMemory(const PlaceMemory&) = delete;
  PlaceMemory& operator=(const PlaceMemory&) = delete;

  virtual float* data() = 0;  // where passes and updates work

  // The same numbers for the host to read and write: data() itself, or a copy that is up to date only where Fetch says so. A copy
  // begins with zeros, as data() does.
  virtual float* host() = 0;
  // Makes host() hold what data() holds, for `count` floats from `first`. Any thread. Nothing is copied twice.
  virtual absl::Status Fetch(int64_t first, int64_t count) = 0;
  // data() is about to change: what was fetched is old.
  virtual void Touch() = 0;

  virtual void* head() = 0;  // of MakeState: memory of the host alone, zero at first, on a 64-byte boundary

 protected:
  PlaceMemory() = default;
};

// Gradients that are reduced together: this rank's partials, in rows one after another (muster/shards.h).
class Bucket {
 public:
  virtual ~Bucket() = default;
  Bucket(const Bucket&) = delete;
  Bucket& operator=(const Bucket&) = delete;

  virtual float* data() = 0;

  // What was queued until now fills the rows: their all-reduce may begin, behind those of other buckets that were started before.
  virtual absl::Status Start(absl::Time deadline) = 0;
  // Afterwards what is queued finds the sum in the first row.
  virtual absl::Status Wait() = 0;
  // Waits for an all-reduce under way, whatever its result, so that the rows may be filled anew. Nothing started: nothing to do.
  virtual void Abandon() = 0;

  // Of the last all-reduce, once Wait has returned. For traces.
  virtual absl::Time StartTime() const = 0;
  virtual absl::Time EndTime() const = 0;

 protected:
  Bucket() = default;
};

// Work is queued: done in order, at the latest when Finish returns. One thread at a time, apart from what is said otherwise.
class Place {
 public:
  virtual ~Place() = default;
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  // What a pass needs to queue its own work in order: a cudaStream_t; null where it computes in the calling thread.
  virtual void* stream() const = 0;

  // Collective. Before calls that all ranks must make: OK where none has met a failure of its own GPU, else AgreeOnOutcome's error.
  virtual absl::Status Agree(const absl::Status& own, absl::Time deadline) = 0;

  // Collective. `head_bytes` is a multiple of 64.
  virtual absl::StatusOr<std::unique_ptr<PlaceMemory>> MakeState(int64_t head_bytes, int64_t floats) = 0;
  virtual absl::StatusOr<std::unique_ptr<PlaceMemory>> MakeScratch(int64_t floats) = 0;
  // Collective. `rows` partials of `floats` each, of the tree over `shards`.
  virtual absl::StatusOr<std::unique_ptr<Bucket>> MakeBucket(int64_t floats, int32_t rows, int32_t shards) = 0;

  // Collective. Gives the first `count` floats of rank 0's memory.host() to data() and host() of every rank.
  virtual absl::Status Spread(PlaceMemory& memory, int64_t count, absl::Time deadline) = 0;

  virtual absl::Status Zero(float* memory, int64_t count) = 0;
  // As FoldInto.
  virtual absl::Status Fold(float* output, std::span<const float* const> levels, const float* leaf, int64_t count) = 0;
  // As muster::Update.
  virtual absl::Status Update(const UpdateNumbers& numbers, int64_t count, const UpdateInput& input,
                              const UpdateOutput& output) = 0;

  // Blocks until every bucket's all-reduce has been handed to the communicator, which the calling thread may use from then on.
  virtual absl::Status AwaitStarts() = 0;
  // Blocks until everything queued is done, and tells whether it went well.
  virtual absl::Status Finish() = 0;

 protected:
  Place() = default;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_PLACE_H_

// A communicator that hands everything on to another, shows a test when started all-reduces are done, and can be short of memory.
#ifndef MUSTER_TESTS_PROPERTY_TRAINING_WATCHED_H_
#define MUSTER_TESTS_PROPERTY_TRAINING_WATCHED_H_

#include <memory>
#include <utility>
#include <vector>

#include "muster/communicator.h"
#include "runtime/base/mutex.h"

namespace muster::test {

class WatchedCommunicator final : public Communicator {
 public:
  explicit WatchedCommunicator(Communicator& inner) : inner_(inner) {}

  // All-reduces started through StartAllReduceShards so far, and whether the one of that number is done. Any thread.
  size_t started() const {
    MutexLock lock(mutex_);
    return works_.size();
  }
  bool IsDone(size_t number) const {
    MutexLock lock(mutex_);
    return works_[number]->IsDone();
  }
  // Blocks until so many have been started and are done.
  void AwaitDone(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      std::shared_ptr<Work> work;
      {
        MutexLock lock(mutex_);
        while (works_.size() <= i) started_.Wait(mutex_);
        work = works_[i];
      }
      work->Wait().IgnoreError();
    }
  }

  void FailNextWindow() { next_window_fails_ = true; }

  int rank() const override { return inner_.rank(); }
  int world_size() const override { return inner_.world_size(); }
  uint64_t generation() const override { return inner_.generation(); }
  const Capabilities& capabilities() const override { return inner_.capabilities(); }
  absl::Status AllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) override {
    return inner_.AllReduce(buffer, op, deadline);
  }
  absl::Status AllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time deadline) override {
    return inner_.AllReduceShards(partials, op, deadline);
  }
  absl::Status Broadcast(Tensor buffer, int root, absl::Time deadline) override {
    return inner_.Broadcast(buffer, root, deadline);
  }
  absl::Status AllGather(ConstTensor send, Tensor receive, absl::Time deadline) override {
    return inner_.AllGather(send, receive, deadline);
  }
  absl::Status ReduceScatter(Tensor send, Tensor receive, ReduceOp op, absl::Time deadline) override {
    return inner_.ReduceScatter(send, receive, op, deadline);
  }
  absl::Status Barrier(absl::Time deadline) override { return inner_.Barrier(deadline); }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) override {
    return inner_.StartAllReduce(buffer, op, deadline);
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduceShards(ShardedTensor partials, ReduceOp op,
                                                             absl::Time deadline) override {
    auto work = inner_.StartAllReduceShards(partials, op, deadline);
    if (!work.ok()) return work;
    MutexLock lock(mutex_);
    works_.push_back(*std::move(work));
    started_.SignalAll();
    return std::make_unique<Watched>(works_.back());
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBroadcast(Tensor buffer, int root, absl::Time deadline) override {
    return inner_.StartBroadcast(buffer, root, deadline);
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllGather(ConstTensor send, Tensor receive, absl::Time deadline) override {
    return inner_.StartAllGather(send, receive, deadline);
  }
  absl::StatusOr<std::unique_ptr<Work>> StartReduceScatter(Tensor send, Tensor receive, ReduceOp op,
                                                           absl::Time deadline) override {
    return inner_.StartReduceScatter(send, receive, op, deadline);
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBarrier(absl::Time deadline) override { return inner_.StartBarrier(deadline); }
  absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time deadline) override {
    if (std::exchange(next_window_fails_, false)) return absl::ResourceExhaustedError("no memory for a window");
    return inner_.CreateWindow(bytes, deadline);
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, absl::Time deadline) override {
    return inner_.Split(color, key, deadline);
  }
  void Abort(absl::Status reason) override { inner_.Abort(std::move(reason)); }

 private:
  class Watched final : public Work {
   public:
    explicit Watched(std::shared_ptr<Work> work) : work_(std::move(work)) {}
    bool IsDone() const override { return work_->IsDone(); }
    absl::Status Wait() override { return work_->Wait(); }
    absl::Time StartTime() const override { return work_->StartTime(); }
    absl::Time EndTime() const override { return work_->EndTime(); }

   private:
    const std::shared_ptr<Work> work_;
  };

  Communicator& inner_;
  mutable Mutex mutex_;
  CondVar started_;
  std::vector<std::shared_ptr<Work>> works_ ABSL_GUARDED_BY(mutex_);
  bool next_window_fails_ = false;
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_PROPERTY_TRAINING_WATCHED_H_

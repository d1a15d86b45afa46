#include "tests/support/thread_world.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "muster/shards.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "tests/support/reference.h"

namespace muster::test {
namespace {

enum class Kind { kAllReduce, kAllReduceShards, kBroadcast, kAllGather, kReduceScatter, kBarrier };

// One rank's part in one collective.
struct Operation {
  Kind kind = Kind::kBarrier;
  const void* send = nullptr;
  void* receive = nullptr;
  int64_t count = 0;  // elements of `send`; of one partial
  DataType type = DataType::kUint8;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  int64_t stride_bytes = 0;
  int32_t shards = 0;

  int64_t bytes() const { return count * SizeOf(type); }
  bool Matches(const Operation& other) const {
    return kind == other.kind && count == other.count && type == other.type && op == other.op && root == other.root &&
           stride_bytes == other.stride_bytes && shards == other.shards;
  }
};

Bytes Copy(const void* data, int64_t bytes) {
  const auto* first = static_cast<const unsigned char*>(data);
  return Bytes(first, first + bytes);
}

// What every rank receives, by rank.
std::vector<Bytes> Results(const std::vector<const Operation*>& ranks) {
  const Operation& first = *ranks[0];
  const int world_size = static_cast<int>(ranks.size());
  std::vector<Bytes> sent;
  for (const Operation* rank : ranks)
    sent.push_back(Copy(rank->send, first.kind == Kind::kAllReduceShards ? 0 : rank->bytes()));
  switch (first.kind) {
    case Kind::kBarrier:
      return std::vector<Bytes>(world_size);
    case Kind::kBroadcast:
      return std::vector<Bytes>(world_size, sent[first.root]);
    case Kind::kAllGather:
      return std::vector<Bytes>(world_size, ReferenceAllGather(sent));
    case Kind::kAllReduce:
      return std::vector<Bytes>(world_size, ReferenceAllReduce(sent, first.type, first.op));
    case Kind::kReduceScatter: {
      std::vector<Bytes> results;
      for (int rank = 0; rank < world_size; ++rank) results.push_back(ReferenceReduceScatter(sent, first.type, first.op, rank));
      return results;
    }
    case Kind::kAllReduceShards:
      break;
  }
  std::vector<std::vector<Bytes>> partials(world_size);
  for (int rank = 0; rank < world_size; ++rank) {
    for (size_t i = 0; i < OwnedPartials(first.shards, world_size, rank).size(); ++i) {
      const auto* row = static_cast<const unsigned char*>(ranks[rank]->send) + static_cast<int64_t>(i) * first.stride_bytes;
      partials[rank].push_back(Copy(row, first.bytes()));
    }
  }
  return std::vector<Bytes>(world_size, ReferenceAllReduceShards(partials, first.shards, first.type, first.op));
}

// A copy that shares no memory: packaged abseil counts a Status's references out of the thread sanitizer's sight.
absl::Status Unshared(const absl::Status& status) { return absl::Status(status.code(), status.message()); }

class ThreadWork final : public Work {
 public:
  bool IsDone() const override {
    MutexLock lock(mutex_);
    return done_;
  }
  absl::Status Wait() override {
    MutexLock lock(mutex_);
    while (!done_) changed_.Wait(mutex_);
    return Unshared(status_);
  }
  absl::Time StartTime() const override {
    MutexLock lock(mutex_);
    return start_;
  }
  absl::Time EndTime() const override {
    MutexLock lock(mutex_);
    return end_;
  }
  void Begin() {
    MutexLock lock(mutex_);
    start_ = absl::Now();
  }
  void End(absl::Status status) {
    MutexLock lock(mutex_);
    end_ = absl::Now();
    status_ = std::move(status);
    done_ = true;
    changed_.SignalAll();
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  absl::Time start_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Time end_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

// The caller's handle on a ThreadWork that the progress thread holds too.
class WorkHandle final : public Work {
 public:
  explicit WorkHandle(std::shared_ptr<ThreadWork> work) : work_(std::move(work)) {}
  bool IsDone() const override { return work_->IsDone(); }
  absl::Status Wait() override { return work_->Wait(); }
  absl::Time StartTime() const override { return work_->StartTime(); }
  absl::Time EndTime() const override { return work_->EndTime(); }

 private:
  const std::shared_ptr<ThreadWork> work_;
};

class HeapWindow final : public Window {
 public:
  explicit HeapWindow(int64_t bytes) : bytes_(bytes), memory_(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096)) {
    std::memset(memory_, 0, bytes);
  }
  ~HeapWindow() override { std::free(memory_); }
  void* data() override { return memory_; }
  int64_t bytes() const override { return bytes_; }

 private:
  const int64_t bytes_;
  void* const memory_;
};

}  // namespace

struct ThreadWorld::Shared {
  Shared(int world_size, ThreadWorldOptions options);

  // Blocks until every rank has brought its operation; the last one computes.
  absl::Status Meet(int rank, const Operation& operation);
  void Abort(absl::Status reason);

  const int world_size;
  const ThreadWorldOptions options;
  Mutex mutex;
  CondVar changed;
  std::vector<const Operation*> arrived ABSL_GUARDED_BY(mutex);
  int missing ABSL_GUARDED_BY(mutex);
  int64_t round ABSL_GUARDED_BY(mutex) = 0;
  absl::Status result ABSL_GUARDED_BY(mutex);
  absl::Status aborted ABSL_GUARDED_BY(mutex);
  std::vector<std::unique_ptr<Rank>> ranks;
};

class ThreadWorld::Rank final : public Communicator {
 public:
  Rank(Shared& shared, int rank) : shared_(shared), rank_(rank), progress_([this] { Progress(); }) {}
  ~Rank() override {
    {
      MutexLock lock(mutex_);
      stop_ = true;
      changed_.SignalAll();
    }
    progress_.join();
  }

  int rank() const override { return rank_; }
  int world_size() const override { return shared_.world_size; }
  uint64_t generation() const override { return 1; }
  const Capabilities& capabilities() const override { return capabilities_; }

  absl::Status AllReduce(Tensor buffer, ReduceOp op, absl::Time) override { return Start(OfAllReduce(buffer, op))->Wait(); }
  absl::Status AllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time) override {
    return Start(OfAllReduceShards(partials, op))->Wait();
  }
  absl::Status Broadcast(Tensor buffer, int root, absl::Time) override { return Start(OfBroadcast(buffer, root))->Wait(); }
  absl::Status AllGather(ConstTensor send, Tensor receive, absl::Time) override {
    return Start(OfAllGather(send, receive))->Wait();
  }
  absl::Status ReduceScatter(Tensor send, Tensor receive, ReduceOp op, absl::Time) override {
    return Start(OfReduceScatter(send, receive, op))->Wait();
  }
  absl::Status Barrier(absl::Time) override { return Start({})->Wait(); }

  absl::StatusOr<std::unique_ptr<Work>> StartAllReduce(Tensor buffer, ReduceOp op, absl::Time) override {
    return Start(OfAllReduce(buffer, op));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time) override {
    return Start(OfAllReduceShards(partials, op));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBroadcast(Tensor buffer, int root, absl::Time) override {
    return Start(OfBroadcast(buffer, root));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllGather(ConstTensor send, Tensor receive, absl::Time) override {
    return Start(OfAllGather(send, receive));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartReduceScatter(Tensor send, Tensor receive, ReduceOp op, absl::Time) override {
    return Start(OfReduceScatter(send, receive, op));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBarrier(absl::Time) override { return Start({}); }

  absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time) override {
    return std::make_unique<HeapWindow>(bytes);
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int, int, absl::Time) override {
    return absl::UnimplementedError("training has no use for it");
  }
  void Abort(absl::Status reason) override { shared_.Abort(std::move(reason)); }

 private:
  static Operation OfAllReduce(Tensor buffer, ReduceOp op) {
    return {Kind::kAllReduce, buffer.data, buffer.data, buffer.count, buffer.type, op};
  }
  static Operation OfAllReduceShards(ShardedTensor partials, ReduceOp op) {
    return {Kind::kAllReduceShards, partials.data,  partials.data, partials.count, partials.type, op, 0,
            partials.stride_bytes,  partials.shards};
  }
  static Operation OfBroadcast(Tensor buffer, int root) {
    return {Kind::kBroadcast, buffer.data, buffer.data, buffer.count, buffer.type, ReduceOp::kSum, root};
  }
  static Operation OfAllGather(ConstTensor send, Tensor receive) {
    return {Kind::kAllGather, send.data, receive.data, send.count, send.type};
  }
  static Operation OfReduceScatter(Tensor send, Tensor receive, ReduceOp op) {
    return {Kind::kReduceScatter, send.data, receive.data, send.count, send.type, op};
  }

  std::unique_ptr<Work> Start(const Operation& operation) {
    auto work = std::make_shared<ThreadWork>();
    MutexLock lock(mutex_);
    queue_.emplace_back(operation, work);
    changed_.SignalAll();
    return std::make_unique<WorkHandle>(work);
  }

  void Progress() {
    for (int64_t index = 0;; ++index) {
      std::pair<Operation, std::shared_ptr<ThreadWork>> next;
      {
        MutexLock lock(mutex_);
        while (queue_.empty() && !stop_) changed_.Wait(mutex_);
        if (queue_.empty()) return;
        next = std::move(queue_.front());
        queue_.pop_front();
      }
      next.second->Begin();
      absl::Status status;
      if (shared_.options.before_operation) status = shared_.options.before_operation(rank_, index);
      if (status.ok()) status = shared_.Meet(rank_, next.first);
      next.second->End(status);
    }
  }

  const Capabilities capabilities_{"threads", false, true};
  Shared& shared_;
  const int rank_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::pair<Operation, std::shared_ptr<ThreadWork>>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread progress_;  // last: it uses the others
};

ThreadWorld::Shared::Shared(int world_size, ThreadWorldOptions options)
    : world_size(world_size), options(std::move(options)), arrived(world_size), missing(world_size) {}

absl::Status ThreadWorld::Shared::Meet(int rank, const Operation& operation) {
  MutexLock lock(mutex);
  if (!aborted.ok()) return Unshared(aborted);
  arrived[rank] = &operation;
  const int64_t mine = round;
  if (--missing > 0) {
    while (round == mine && aborted.ok()) changed.Wait(mutex);
    return Unshared(round == mine ? aborted : result);
  }
  result = absl::OkStatus();
  for (const Operation* other : arrived) {
    if (!other->Matches(operation)) result = absl::InvalidArgumentError("ranks called different operations");
  }
  if (result.ok()) {
    const std::vector<Bytes> results = Results(arrived);
    for (int i = 0; i < world_size; ++i) {
      if (!results[i].empty()) std::memcpy(arrived[i]->receive, results[i].data(), results[i].size());
    }
  }
  missing = world_size;
  ++round;
  changed.SignalAll();
  return Unshared(result);
}

void ThreadWorld::Shared::Abort(absl::Status reason) {
  MutexLock lock(mutex);
  if (aborted.ok()) aborted = absl::AbortedError(reason.message());
  changed.SignalAll();
}

ThreadWorld::ThreadWorld(int world_size, ThreadWorldOptions options)
    : shared_(std::make_unique<Shared>(world_size, std::move(options))) {
  for (int rank = 0; rank < world_size; ++rank) shared_->ranks.push_back(std::make_unique<Rank>(*shared_, rank));
}

ThreadWorld::~ThreadWorld() = default;

Communicator& ThreadWorld::communicator(int rank) { return *shared_->ranks[rank]; }

void ThreadWorld::Run(const std::function<void(Communicator& communicator)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < shared_->world_size; ++rank) threads.emplace_back([&, rank] { body(communicator(rank)); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace muster::test

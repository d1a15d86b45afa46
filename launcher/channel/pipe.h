// One gRPC stream between gRPC's threads and an event loop.
#ifndef MUSTER_LAUNCHER_CHANNEL_PIPE_H_
#define MUSTER_LAUNCHER_CHANNEL_PIPE_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/mutex.h"

namespace muster {

// Lets gRPC's threads post to a loop until its owner closes the gate, and its owner wait until gRPC has let go of all it was given.
// Threads: any.
class LoopGate {
 public:
  explicit LoopGate(EventLoop* loop) : loop_(loop) {}

  // Dropped once the gate is closed; also what was posted and has not run yet.
  static void Post(const std::shared_ptr<LoopGate>& gate, std::function<void()> call) {
    MutexLock lock(gate->mutex_);
    if (gate->loop_ == nullptr) return;
    gate->loop_->Post([gate, call = std::move(call)] {
      if (gate->open()) call();
    });
  }

  void Close() {
    MutexLock lock(mutex_);
    loop_ = nullptr;
  }
  bool open() {
    MutexLock lock(mutex_);
    return loop_ != nullptr;
  }

  void Enter() {
    MutexLock lock(mutex_);
    ++inside_;
  }
  void Leave() {
    MutexLock lock(mutex_);
    --inside_;
    left_.SignalAll();
  }
  // False when some were still inside after `patience`.
  bool AwaitEmpty(absl::Duration patience) {
    const absl::Time deadline = absl::Now() + patience;
    MutexLock lock(mutex_);
    while (inside_ > 0 && absl::Now() < deadline) left_.WaitFor(mutex_, deadline - absl::Now());
    return inside_ == 0;
  }

 private:
  Mutex mutex_;
  CondVar left_;
  EventLoop* loop_ ABSL_GUARDED_BY(mutex_);
  int inside_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Reads frames into a bounded inbox that the loop empties, and writes queued frames one after the other. `Reactor` is
// grpc::ServerBidiReactor<In, Out> or grpc::ClientBidiReactor<Out, In>; frames that are sent are shared with the session that keeps
// them. Owns itself until gRPC's OnDone. Public methods: any thread.
template <class Reactor, class In, class Out>
class Pipe : public Reactor, public std::enable_shared_from_this<Pipe<Reactor, In, Out>> {
 public:
  // Reading stops while so many frames wait for the loop.
  static constexpr size_t kInboxFramesMax = 64;

  explicit Pipe(std::shared_ptr<LoopGate> gate) : gate_(std::move(gate)) {}

  // Called on the loop's thread when there is something to Take, or the stream has ended. Set before the stream is begun.
  std::function<void()> on_ready;

  struct Taken {
    std::vector<In> frames;
    bool ended = false;  // nothing follows; told once all frames are taken
  };
  Taken Take() {
    MutexLock lock(mutex_);
    Taken taken;
    taken.frames.swap(inbox_);
    taken.ended = ended_;
    posted_ = false;
    if (std::exchange(waiting_for_room_, false) && !ended_ && !closing_) this->StartRead(&incoming_);
    return taken;
  }

  // Queues a frame; dropped once the stream is ending.
  void Write(std::shared_ptr<const Out> frame) {
    MutexLock lock(mutex_);
    if (closing_) return;
    outbox_.push_back(std::move(frame));
    if (!writing_) WriteNext();
  }

 protected:
  // From here on the stream lives until OnDone, whoever else lets go of it, and is inside the gate.
  void HoldSelf() {
    gate_->Enter();
    MutexLock lock(mutex_);
    self_ = this->shared_from_this();
  }
  // Last of all in OnDone.
  void LetGoOfSelf() {
    const std::shared_ptr<LoopGate> gate = gate_;
    std::shared_ptr<Pipe> self;
    {
      MutexLock lock(mutex_);
      self.swap(self_);
    }
    self.reset();
    gate->Leave();
  }

  void BeginReading() {
    MutexLock lock(mutex_);
    this->StartRead(&incoming_);
  }

  // Nothing is read or written from here on; OnQuiet follows, once, when no write is in flight.
  void Stop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (std::exchange(closing_, true)) return;
    if (!writing_) OnQuiet();
  }
  virtual void OnQuiet() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // The other end has sent all it ever will, or the stream is broken.
  virtual void OnReadingOver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // Tells the loop that nothing follows.
  void End() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ended_ = true;
    Tell();
  }

  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;

 private:
  void OnReadDone(bool ok) final {
    MutexLock lock(mutex_);
    if (!ok) {
      Stop();
      OnReadingOver();
      return;
    }
    inbox_.push_back(std::move(incoming_));
    incoming_ = In();
    if (inbox_.size() >= kInboxFramesMax) {
      waiting_for_room_ = true;
    } else if (!closing_) {
      this->StartRead(&incoming_);
    }
    Tell();
  }

  void OnWriteDone(bool ok) final {
    MutexLock lock(mutex_);
    writing_ = false;
    outbox_.pop_front();
    if (closing_) {
      outbox_.clear();
      OnQuiet();
    } else if (!ok) {
      outbox_.clear();
      Stop();
    } else if (!outbox_.empty()) {
      WriteNext();
    }
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    writing_ = true;
    this->StartWrite(outbox_.front().get());
  }
  void Tell() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (std::exchange(posted_, true)) return;
    LoopGate::Post(gate_, [self = this->shared_from_this()] { self->on_ready(); });
  }

  const std::shared_ptr<LoopGate> gate_;
  std::shared_ptr<Pipe> self_ ABSL_GUARDED_BY(mutex_);
  In incoming_;  // gRPC's between StartRead and OnReadDone
  std::vector<In> inbox_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<const Out>> outbox_ ABSL_GUARDED_BY(mutex_);  // the first is being written
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool waiting_for_room_ ABSL_GUARDED_BY(mutex_) = false;
  bool posted_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_PIPE_H_

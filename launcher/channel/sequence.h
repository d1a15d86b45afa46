// One end's share of a session: numbers what is sent, keeps it until it is acknowledged, and takes in each message of the other
// end once and in order, over any number of broken streams. Pure.
#ifndef MUSTER_LAUNCHER_CHANNEL_SEQUENCE_H_
#define MUSTER_LAUNCHER_CHANNEL_SEQUENCE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace muster {

// `Frame` has set_sequence and set_acknowledged (v1::AgentFrame, v1::CoordinatorFrame).
template <class Frame>
class Sequence {
 public:
  enum class Taken {
    kNew,       // the next in order: hand it on
    kRepeated,  // had before: drop it
    kGap,       // one before it is missing: this stream is broken, the next will bring it
  };

  // Numbers `frame`, lets it carry the acknowledgement, and keeps it. Send the result on the stream, if there is one.
  std::shared_ptr<const Frame> Send(Frame frame, size_t bytes) {
    frame.set_sequence(++sent_);
    frame.set_acknowledged(NoteAcknowledging());
    auto kept = std::make_shared<const Frame>(std::move(frame));
    kept_.push_back({kept, bytes});
    kept_bytes_ += bytes;
    return kept;
  }

  // The other end has taken in all up to `sequence`. Errors: InvalidArgument (that was never sent; nothing is changed).
  absl::Status Acknowledge(uint64_t sequence) {
    if (sequence > sent_) {
      return absl::InvalidArgumentError(absl::StrCat("message ", sequence, " acknowledged, but only ", sent_, " were sent"));
    }
    while (acknowledged_ < sequence) {
      kept_bytes_ -= kept_.front().bytes;
      kept_.pop_front();
      ++acknowledged_;
    }
    return absl::OkStatus();
  }

  Taken Take(uint64_t sequence) {
    if (sequence <= received_) return Taken::kRepeated;
    if (sequence != received_ + 1) return Taken::kGap;
    ++received_;
    ++owed_;
    return Taken::kNew;
  }

  // After a new stream has told what the other end has: calls `send` with each kept frame, in order.
  template <class Visitor>
  void ForEachKept(Visitor send) const {
    for (const Kept& kept : kept_) send(kept.frame);
  }

  // The number to acknowledge now; nothing is owed afterwards.
  uint64_t NoteAcknowledging() {
    owed_ = 0;
    return received_;
  }

  uint64_t received() const { return received_; }  // greatest taken in
  uint64_t owed() const { return owed_; }          // taken in and not acknowledged yet
  size_t kept_bytes() const { return kept_bytes_; }
  bool all_acknowledged() const { return kept_.empty(); }

 private:
  struct Kept {
    std::shared_ptr<const Frame> frame;
    size_t bytes;
  };
  std::deque<Kept> kept_;  // sequences acknowledged_ + 1 .. sent_
  size_t kept_bytes_ = 0;
  uint64_t sent_ = 0;
  uint64_t acknowledged_ = 0;
  uint64_t received_ = 0;
  uint64_t owed_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_SEQUENCE_H_

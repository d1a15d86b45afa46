#include "launcher/process/input_relay.h"

namespace muster {

void InputRelay::Offer(v1::Input input) {
  waiting_ = std::move(input);
  Pass();
}

void InputRelay::Pass() {
  if (!running_ || on_its_way_ || !waiting_) return;
  ended_ = ended_ || waiting_->end();
  on_its_way_ = true;
  callbacks_.send(*waiting_);
  waiting_.reset();
}

void InputRelay::Taken(const v1::InputTaken& taken) {
  // Where nobody reads no more is asked for: the command stops reading, as it would with a full pipe. A successor may read again.
  if (!on_its_way_ || taken.closed()) return;
  on_its_way_ = false;
  callbacks_.taken();
  Pass();
}

void InputRelay::Running(uint64_t generation) {
  running_ = true;
  if (generation == generation_) return;
  generation_ = generation;
  if (ended_) {  // the new rank 0 must see the end as well
    v1::Input end;
    end.set_end(true);
    callbacks_.send(end);
  } else if (on_its_way_) {
    on_its_way_ = false;
    callbacks_.taken();
  }
  Pass();
}

}  // namespace muster

#include "launcher/process/input_relay.h"

namespace muster {

std::set<uint32_t> ReaderNodes(const v1::StdinSettings& settings, const v1::Members& members) {
  std::set<uint32_t> nodes;
  for (const v1::Place& place : members.places()) {
    const bool reads = settings.readers() == v1::StdinSettings::ALL ||
                       (settings.readers() == v1::StdinSettings::ONE && place.rank() == settings.rank());
    if (reads) nodes.insert(place.node());
  }
  return nodes;
}

void InputRelay::Offer(v1::Input input) {
  offered_ = std::move(input);
  Pass();
}

void InputRelay::Pass() {
  if (!running_ || on_its_way_ || !offered_ || nodes_.empty()) return;
  ended_ = ended_ || offered_->end();
  on_its_way_ = true;
  waiting_ = nodes_;
  const v1::Input input = std::move(*offered_);
  offered_.reset();
  for (const uint32_t node : waiting_) callbacks_.send(node, input);
}

void InputRelay::Taken(uint32_t node, const v1::InputTaken& taken) {
  if (!on_its_way_ || waiting_.erase(node) == 0) return;
  if (taken.closed()) nodes_.erase(node);
  // Where nobody reads no more is asked for: the command stops reading, as it would with a full pipe. Successors may read again.
  if (!waiting_.empty() || nodes_.empty()) return;
  on_its_way_ = false;
  callbacks_.taken();
  Pass();
}

void InputRelay::Lost(uint32_t node) {
  v1::InputTaken closed;
  closed.set_closed(true);
  if (on_its_way_ && waiting_.contains(node)) return Taken(node, closed);
  nodes_.erase(node);
}

void InputRelay::Running(uint64_t generation, std::set<uint32_t> nodes) {
  running_ = true;
  if (generation == generation_) return;
  generation_ = generation;
  nodes_ = std::move(nodes);
  if (ended_) {  // the new readers must see the end as well
    v1::Input end;
    end.set_end(true);
    waiting_.clear();
    for (const uint32_t node : nodes_) callbacks_.send(node, end);
  } else if (on_its_way_) {
    on_its_way_ = false;
    callbacks_.taken();
  }
  Pass();
}

}  // namespace muster

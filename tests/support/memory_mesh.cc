#include "tests/support/memory_mesh.h"

#include <algorithm>
#include <cstring>

#include "absl/time/clock.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

namespace muster::test {

class MemoryNetwork::MemoryMesh : public Mesh {
 public:
  MemoryMesh(MemoryNetwork& network, int rank, std::vector<int> peers)
      : network_(network), rank_(rank), peers_(std::move(peers)) {}

  ~MemoryMesh() override {
    MutexLock lock(network_.mutex_);
    network_.End(rank_, v1::AbortReason::kPeerLost);
  }

  void Send(int peer, MeshTag tag, const void* data, int64_t bytes, MeshTransfer* transfer) override {
    transfer->moved = 0;
    transfer->done = false;
    sends_.push_back({peer, tag, static_cast<char*>(const_cast<void*>(data)), bytes, transfer, false});
  }

  void Receive(int peer, MeshTag tag, void* data, int64_t bytes, MeshTransfer* transfer) override {
    transfer->moved = 0;
    transfer->done = false;
    receives_.push_back({peer, tag, static_cast<char*>(data), bytes, transfer, false});
  }

  std::optional<MeshFailure> Progress(absl::FunctionRef<bool()> ready, absl::FunctionRef<bool()> interrupted, int64_t deadline,
                                      absl::Duration spin) override {
    if (failure_.has_value()) return failure_;
    const int64_t spin_end = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(spin);
    for (;;) {
      bool moved = false;
      {
        MutexLock lock(network_.mutex_);
        moved = Move();
        if (moved) network_.changed_.SignalAll();
      }
      if (ready()) return std::nullopt;
      if (moved) continue;
      if (interrupted()) return MeshFailure{};
      // Another rank may have moved something since; what is there counts before what cannot come any more.
      const int64_t now = MonotonicNanoseconds();
      MutexLock lock(network_.mutex_);
      if (CanMove()) continue;
      if (const auto told = network_.aborted_.find(rank_); told != network_.aborted_.end()) return failure_ = told->second;
      if (std::optional<MeshFailure> ended = WhatCannotCome(); ended.has_value()) return failure_ = ended;
      if (now >= deadline) return failure_ = MeshFailure{v1::AbortReason::kDeadline};
      if (now >= spin_end) network_.changed_.WaitFor(network_.mutex_, absl::Milliseconds(5));
    }
  }

  void Abort(const MeshFailure& failure) override {
    MutexLock lock(network_.mutex_);
    if (failure.reason == v1::AbortReason::kPeerLeft && failure.rank == static_cast<uint32_t>(rank_)) {
      network_.End(rank_, v1::AbortReason::kPeerLeft);
    } else {
      for (int peer : peers_) network_.aborted_.emplace(peer, failure);
    }
    network_.changed_.SignalAll();
  }

  const std::vector<int>& peers() const override { return peers_; }
  int streams() const override { return network_.streams_; }
  uint64_t refusals() const override { return 0; }
  uint64_t stale_frames() const override { return 0; }
  std::vector<int> descriptors() const override { return {}; }

 private:
  struct Posted {
    int peer;
    MeshTag tag;
    char* data;
    int64_t bytes;
    MeshTransfer* transfer;
    bool begun;  // a send whose message is in the stream
  };

  int StreamOf(const Posted& posted) const {
    return static_cast<int>(posted.tag.segment % static_cast<uint32_t>(network_.streams_));
  }
  Stream& WireTo(const Posted& send) ABSL_EXCLUSIVE_LOCKS_REQUIRED(network_.mutex_) {
    return network_.wires_[{rank_, send.peer, StreamOf(send)}];
  }
  Stream& WireFrom(const Posted& receive) ABSL_EXCLUSIVE_LOCKS_REQUIRED(network_.mutex_) {
    return network_.wires_[{receive.peer, rank_, StreamOf(receive)}];
  }
  bool IsGone(int peer) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(network_.mutex_) {
    return network_.ended_.count(peer) != 0 || network_.ended_.count(rank_) != 0;
  }

  bool Move() ABSL_EXCLUSIVE_LOCKS_REQUIRED(network_.mutex_) {
    bool moved = false;
    std::vector<std::pair<int, int>> held;  // streams whose first message is not off yet
    for (Posted& send : sends_) {
      const std::pair<int, int> stream(send.peer, StreamOf(send));
      if (std::find(held.begin(), held.end(), stream) != held.end()) continue;
      moved |= Push(send);
      if (!send.transfer->done) held.push_back(stream);
    }
    std::erase_if(sends_, [](const Posted& send) { return send.transfer->done; });
    for (Posted& receive : receives_) moved |= Take(receive);
    std::erase_if(receives_, [](const Posted& receive) { return receive.transfer->done; });
    return moved;
  }

  bool Push(Posted& send) ABSL_EXCLUSIVE_LOCKS_REQUIRED(network_.mutex_) {
    if (IsGone(send.peer)) return false;
    Stream& wire = WireTo(send);
    const int64_t room = network_.buffer_bytes_ - wire.buffered;
    if (room <= 0) return false;
    if (!send.begun) wire.messages.push_back({send.tag, send.bytes});
    const bool begins = !send.begun;
    send.begun = true;
    const int64_t bytes = std::min(room, send.bytes - send.transfer->moved);
    Message& message = wire.messages.back();
    message.bytes.append(send.data + send.transfer->moved, static_cast<size_t>(bytes));
    message.arrived += bytes;
    wire.buffered += bytes;
    network_.sent_[rank_] += bytes;
    send.transfer->moved += bytes;
    send.transfer->done = send.transfer->moved == send.bytes;
    return begins || bytes > 0;
  }

  bool Take(Posted& receive) ABSL_EXCLUSIVE_LOCKS_REQUIRED(network_.mutex_) {
    Stream& wire = WireFrom(receive);
    if (wire.messages.empty()) return false;
    Message& message = wire.messages.front();
    if (message.tag.op_seq != receive.tag.op_seq || message.tag.segment != receive.tag.segment) return false;
    if (message.length != receive.bytes) {
      network_.aborted_.emplace(rank_, MeshFailure{v1::AbortReason::kMismatch, static_cast<uint32_t>(receive.peer), 0,
                                                   "a message of another length"});
      return false;
    }
    const auto bytes = static_cast<int64_t>(message.bytes.size());
    std::memcpy(receive.data + receive.transfer->moved, message.bytes.data(), message.bytes.size());
    message.bytes.clear();
    wire.buffered -= bytes;
    receive.transfer->moved += bytes;
    receive.transfer->done = receive.transfer->moved == receive.bytes;
    if (receive.transfer->done) wire.messages.pop_front();
    return bytes > 0 || receive.transfer->done;
  }

  bool CanMove() ABSL_EXCLUSIVE_LOCKS_REQUIRED(network_.mutex_) {
    for (const Posted& send : sends_) {
      if (!IsGone(send.peer) && WireTo(send).buffered < network_.buffer_bytes_) return true;
    }
    for (const Posted& receive : receives_) {
      const Stream& wire = WireFrom(receive);
      if (!wire.messages.empty() && wire.messages.front().tag.segment == receive.tag.segment &&
          wire.messages.front().tag.op_seq == receive.tag.op_seq && !wire.messages.front().bytes.empty()) {
        return true;
      }
    }
    return false;
  }

  std::optional<MeshFailure> WhatCannotCome() ABSL_EXCLUSIVE_LOCKS_REQUIRED(network_.mutex_) {
    for (const std::vector<Posted>* posted : {&receives_, &sends_}) {
      for (const Posted& one : *posted) {
        const auto ended = network_.ended_.find(one.peer);
        if (ended != network_.ended_.end()) return MeshFailure{ended->second, static_cast<uint32_t>(one.peer)};
      }
    }
    return std::nullopt;
  }

  MemoryNetwork& network_;
  const int rank_;
  const std::vector<int> peers_;
  std::vector<Posted> sends_;
  std::vector<Posted> receives_;
  std::optional<MeshFailure> failure_;
};

std::unique_ptr<Mesh> MemoryNetwork::Join(int rank, std::vector<int> peers) {
  if (peers.empty()) return nullptr;
  return std::make_unique<MemoryMesh>(*this, rank, std::move(peers));
}

void MemoryNetwork::Kill(int rank) {
  MutexLock lock(mutex_);
  End(rank, v1::AbortReason::kPeerLost);
}

void MemoryNetwork::End(int rank, v1::AbortReason reason) {
  ended_.emplace(rank, reason);
  changed_.SignalAll();
}

int64_t MemoryNetwork::bytes_sent(int rank) const {
  MutexLock lock(mutex_);
  const auto found = sent_.find(rank);
  return found == sent_.end() ? 0 : found->second;
}

}  // namespace muster::test

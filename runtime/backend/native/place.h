// What one rank's native communicator consists of, before and while it runs.
#ifndef MUSTER_RUNTIME_BACKEND_NATIVE_PLACE_H_
#define MUSTER_RUNTIME_BACKEND_NATIVE_PLACE_H_

#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/backend/native/local_control.h"
#include "runtime/backend/native/node_link.h"
#include "runtime/shm/member.h"
#include "runtime/shm/node_memory.h"
#include "runtime/shm/window_map.h"
#include "runtime/transport/mesh.h"

namespace muster {

// What all native communicators of a rank share. Any thread.
struct NativeFamily {
  std::vector<int> node_of_rank;  // by rank of the job; empty: all are on one node
  std::atomic<int> children{0};   // communicators made by Split that live
  std::atomic<uint64_t> records{0};  // v1::RankArea::split_flight: those that a communicator has, by bit
  std::atomic<int64_t> window_bytes{0};
  int64_t outer_wait_nanoseconds = 0;  // network.h
};

// Counts one communicator made by Split, for its life, and gives it a place in the flight record.
class ChildCount {
 public:
  explicit ChildCount(std::shared_ptr<NativeFamily> family)
      : family_(std::move(family)), before_(family_->children++), record_(TakeRecord()) {}
  ~ChildCount() {
    if (record_ >= 0) family_->records.fetch_and(~(uint64_t{1} << record_));
    --family_->children;
  }
  ChildCount(const ChildCount&) = delete;
  ChildCount& operator=(const ChildCount&) = delete;

  int before() const { return before_; }  // others that lived when this one was counted
  int record() const { return record_; }  // -1: all were taken

 private:
  int TakeRecord() {
    uint64_t taken = family_->records.load();
    while (~taken != 0) {
      const int free = std::countr_one(taken);
      if (family_->records.compare_exchange_weak(taken, taken | uint64_t{1} << free)) return free;
    }
    return -1;
  }

  const std::shared_ptr<NativeFamily> family_;
  const int before_;
  const int record_;
};

struct NativePlace {
  std::shared_ptr<NativeFamily> family;
  uint64_t number = 0;  // 0: of all ranks; else the same on all its ranks, and no other of the generation's has it
  uint64_t generation = 0;
  std::string host;

  // Of a communicator made by Split; destroyed from the last to the first, after everything that uses them.
  std::unique_ptr<ChildCount> count;
  std::unique_ptr<NodeLink> own_link;
  std::unique_ptr<LocalControl> own_control;  // alone on its node
  Mapping shared_control;                     // with others

  NodeLink* link = nullptr;  // null in a world of one
  NodeMemory memory;
  int local_rank = 0;
  int first_rank = 0;  // of this node's
  int world_size = 1;
  std::vector<int> job_ranks;  // by rank; empty: the same
  std::vector<int>
      node_of_rank;  // as in NativeOptions; of a communicator made by Split each run of a node's ranks counts as a node
  std::unique_ptr<Mesh> mesh;

  int rank() const { return first_rank + local_rank; }
  SplitRecord record() const {
    if (count == nullptr || count->record() < 0) return {};
    return {&memory.seat_area(local_rank).split_flight[count->record()], number};
  }
  bool is_on_several_nodes() const { return !node_of_rank.empty() && node_of_rank.back() > 0; }
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NATIVE_PLACE_H_

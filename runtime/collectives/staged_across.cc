#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/collectives/across_nodes.h"
#include "runtime/collectives/lane_exchange.h"

namespace muster {
namespace {

// Every local rank's part. A chunk of the wire plan is worked on in sub-chunks that fit the staging memory: sub-chunk u takes
// elements [u * grain, (u + 1) * grain) of every piece. Round t of the pipeline, with sub-chunk i of all counted through:
//
//   t      copy in    each rank, its vector's share of every piece        -> its staging, inputs, by parity of i
//   t + 1  reduce     each lane, all ranks' shares of its pieces          -> the exchange; posted after a chunk's last
//   t + 1 + depth     publish: each lane waits for the chunk and copies   -> its staging, results, by parity of i
//   t + 2 + depth     copy out: each rank from all lanes
//
// with a step after each round. `depth` is the exchange's chunks in flight, in sub-chunks: chunk k + kInFlight is posted no
// earlier than k is finished, as LaneExchange asks. A rank that waits in a step has nothing left to send of what it finished,
// and what the others still wait for was posted before: so the ranks of different lanes do not hold each other up for ever.
class StagedLane {
 public:
  StagedLane(Member& member, Network& network, const Operation& operation, const Traffic& traffic)
      : member_(member),
        nodes_(network.nodes()),
        operation_(operation),
        traffic_(traffic),
        size_(traffic.element_bytes()),
        plan_(nodes_, WireCallOf(traffic, nodes_)) {
    for (int owner : plan_.owners()) {
      if (plan_.Gives(nodes_.node, owner)) given_.push_back(owner);
      if (plan_.Wants(nodes_.node, owner)) wanted_.push_back(owner);
    }
    for (int r = 0; r < member.ranks(); ++r) {
      const auto world_rank = static_cast<size_t>(member.first_rank() + r);
      rows_.push_back(operation.what.kind == v1::OpKind::kAllReduceShards ? operation.leaves->rows[world_rank] : 1);
    }
    ChooseGrain();
    if (member.rank() < nodes_.lanes) {
      exchange_ = std::make_unique<LaneExchange>(member, network, plan_, traffic.partials, traffic.type, traffic.op);
    }
  }

  absl::Status Run() {
    const int64_t depth = LaneExchange::kInFlight * sub_chunks_;
    const int64_t total = plan_.chunks() * sub_chunks_;
    for (int64_t round = 0; round < total + depth + 2; ++round) {
      if (exchange_ != nullptr) {
        MUSTER_RETURN_IF_ERROR(Publish(round - 1 - depth, total));
        Reduce(round - 1, total);
        if (round % sub_chunks_ != 0) MUSTER_RETURN_IF_ERROR(exchange_->Poll());
      }
      if (round < total) CopyIn(round);
      if (const int64_t i = round - 2 - depth; i >= 0 && i < total) CopyOut(i);
      if (round + 1 < total + depth + 2) MUSTER_RETURN_IF_ERROR(Step());
    }
    return absl::OkStatus();
  }

 private:
  // A lane that waits for the others of its node goes on serving its own streams: they are waiting for theirs.
  absl::Status Step() {
    if (exchange_ == nullptr) return member_.Step();
    absl::Status served;
    const auto serve = [&, this] {
      if (served.ok()) served = exchange_->Poll();
    };
    const absl::Status stepped = member_.Step(serve);
    return served.ok() ? stepped : served;
  }

  // The staging memory of a rank holds two sub-chunks of inputs and two of results.
  void ChooseGrain() {
    const int64_t rows_max = *std::max_element(rows_.begin(), rows_.end());
    const int64_t inputs = rows_max * nodes_.lanes * static_cast<int64_t>(given_.size());
    const int64_t results = static_cast<int64_t>(wanted_.size());
    const int64_t bytes = 3 * member_.staging_bytes() / (2 * (inputs + results));
    grain_ = std::max<int64_t>((bytes >= 64 ? bytes / 64 * 64 : bytes) / size_, 1);
    grain_ = std::min(grain_, std::max<int64_t>(plan_.piece_elements_max(), 1));
    sub_chunks_ = std::max<int64_t>((plan_.piece_elements_max() + grain_ - 1) / grain_, 1);
    input_bytes_ = inputs * grain_ * size_;
    result_bytes_ = results * grain_ * size_;
  }

  int64_t ChunkOf(int64_t i) const { return i / sub_chunks_; }
  int64_t BeginOf(int64_t i) const { return i % sub_chunks_ * grain_; }
  int64_t CountOf(int64_t i, int lane, int owner) const {
    return std::clamp<int64_t>(plan_.PieceElements(ChunkOf(i), lane, owner) - BeginOf(i), 0, grain_);
  }

  char* InputOf(int64_t i, int r, int row, int lane, size_t given) const {
    return member_.staging(r, 0) + i % 2 * input_bytes_ +
           ((row * nodes_.lanes + lane) * static_cast<int64_t>(given_.size()) + static_cast<int64_t>(given)) * grain_ * size_;
  }
  char* ResultOf(int64_t i, int lane, size_t wanted) const {
    return member_.staging(lane, 0) + 2 * input_bytes_ + i % 2 * result_bytes_ + static_cast<int64_t>(wanted) * grain_ * size_;
  }

  // Whether this rank holds elements that begin at `first` of the vector; where they are in `own`, which holds its part only if
  // the operation says so.
  bool HoldsInput(int64_t first) const {
    if (traffic_.kind == Exchange::kBroadcast) return member_.world_rank() == traffic_.root;
    return traffic_.kind != Exchange::kAllGather || first / traffic_.count == member_.world_rank();
  }
  bool WantsOutput(int64_t first) const {
    if (traffic_.kind == Exchange::kBroadcast) return member_.world_rank() != traffic_.root;
    return traffic_.kind != Exchange::kReduceScatter || first / traffic_.count == member_.world_rank();
  }
  int64_t OwnPart() const { return member_.world_rank() * traffic_.count; }

  void CopyIn(int64_t i) {
    const int64_t shift = traffic_.kind == Exchange::kAllGather ? OwnPart() : 0;
    for (int lane = 0; lane < nodes_.lanes; ++lane) {
      for (size_t g = 0; g < given_.size(); ++g) {
        plan_.ForEachRun(
            ChunkOf(i), lane, given_[g], BeginOf(i), BeginOf(i) + grain_, [&](int64_t first, int64_t count, int64_t offset) {
              if (!HoldsInput(first)) return;
              for (int row = 0; row < rows_[static_cast<size_t>(member_.rank())]; ++row) {
                std::memcpy(
                    InputOf(i, member_.rank(), row, lane, g) + (offset - BeginOf(i)) * size_,
                    static_cast<const char*>(operation_.input) + row * operation_.stride_bytes + (first - shift) * size_,
                    static_cast<size_t>(count * size_));
              }
            });
      }
    }
  }

  void Reduce(int64_t i, int64_t total) {
    if (i < 0 || i >= total) return;
    const int64_t chunk = ChunkOf(i);
    if (BeginOf(i) == 0) exchange_->Start(chunk);
    for (size_t g = 0; g < given_.size(); ++g) {
      const int64_t count = CountOf(i, member_.rank(), given_[g]);
      if (count == 0) continue;
      char* const own = exchange_->Own(chunk, given_[g]);
      if (traffic_.partials != nullptr) {
        sources_.clear();
        for (int r = 0; r < member_.ranks(); ++r) {
          for (int row = 0; row < rows_[static_cast<size_t>(r)]; ++row)
            sources_.push_back(InputOf(i, r, row, member_.rank(), g));
        }
        traffic_.partials->ReduceOwn(sources_, count, traffic_.type, traffic_.op, own + BeginOf(i) * plan_.call().wire_bytes,
                                     exchange_->RowBytes(chunk, given_[g]));
        continue;
      }
      plan_.ForEachRun(chunk, member_.rank(), given_[g], BeginOf(i), BeginOf(i) + grain_,
                       [&](int64_t first, int64_t n, int64_t offset) {
                         const int64_t giver = traffic_.kind == Exchange::kBroadcast ? traffic_.root : first / traffic_.count;
                         const int r = static_cast<int>(giver) - member_.first_rank();
                         std::memcpy(own + offset * size_, InputOf(i, r, 0, member_.rank(), g) + (offset - BeginOf(i)) * size_,
                                     static_cast<size_t>(n * size_));
                       });
    }
    if (i % sub_chunks_ == sub_chunks_ - 1) exchange_->Post(chunk);
  }

  absl::Status Publish(int64_t i, int64_t total) {
    if (i < 0 || i >= total) return absl::OkStatus();
    const int64_t chunk = ChunkOf(i);
    if (BeginOf(i) == 0) MUSTER_RETURN_IF_ERROR(exchange_->Finish(chunk));
    for (size_t w = 0; w < wanted_.size(); ++w) {
      const int64_t count = CountOf(i, member_.rank(), wanted_[w]);
      if (count == 0) continue;
      std::memcpy(ResultOf(i, member_.rank(), w), exchange_->Result(chunk, wanted_[w]) + BeginOf(i) * size_,
                  static_cast<size_t>(count * size_));
    }
    return absl::OkStatus();
  }

  void CopyOut(int64_t i) {
    const int64_t shift = traffic_.kind == Exchange::kReduceScatter ? OwnPart() : 0;
    for (int lane = 0; lane < nodes_.lanes; ++lane) {
      for (size_t w = 0; w < wanted_.size(); ++w) {
        plan_.ForEachRun(
            ChunkOf(i), lane, wanted_[w], BeginOf(i), BeginOf(i) + grain_, [&](int64_t first, int64_t count, int64_t offset) {
              if (!WantsOutput(first)) return;
              std::memcpy(static_cast<char*>(operation_.output) + (first - shift) * size_,
                          ResultOf(i, lane, w) + (offset - BeginOf(i)) * size_, static_cast<size_t>(count * size_));
            });
      }
    }
  }

  Member& member_;
  const Nodes& nodes_;
  const Operation& operation_;
  const Traffic& traffic_;
  const int64_t size_;
  const WirePlan plan_;
  std::vector<int> given_;   // owners to whose pieces this node gives
  std::vector<int> wanted_;  // owners whose results this node wants
  std::vector<int> rows_;    // by local rank
  int64_t grain_ = 1;        // elements
  int64_t sub_chunks_ = 1;
  int64_t input_bytes_ = 0;  // one of the two buffers
  int64_t result_bytes_ = 0;
  std::unique_ptr<LaneExchange> exchange_;  // null beyond the lanes
  std::vector<const void*> sources_;
};

}  // namespace

absl::Status RunStagedAcross(Member& member, Network& network, const Operation& operation, const Traffic& traffic) {
  return StagedLane(member, network, operation, traffic).Run();
}

}  // namespace muster

#include <algorithm>
#include <cstring>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/collectives/across_nodes.h"
#include "runtime/collectives/lane_exchange.h"

namespace muster {
namespace {

// One lane that reads and writes the vectors of all local ranks itself.
class DirectLane {
 public:
  DirectLane(Member& member, Network& network, const Operation& operation, const Traffic& traffic)
      : member_(member),
        nodes_(network.nodes()),
        operation_(operation),
        traffic_(traffic),
        size_(traffic.element_bytes()),
        plan_(nodes_, WireCallOf(traffic, nodes_)),
        exchange_(member, network, plan_, traffic.partials, traffic.type, traffic.op) {
    FindVectors();
  }

  absl::Status Run() {
    constexpr int64_t kInFlight = LaneExchange::kInFlight;
    for (int64_t chunk = 0; chunk < plan_.chunks() + kInFlight; ++chunk) {
      if (chunk >= kInFlight && chunk - kInFlight < plan_.chunks()) {
        MUSTER_RETURN_IF_ERROR(exchange_.Finish(chunk - kInFlight));
        Store(chunk - kInFlight);
      }
      if (chunk >= plan_.chunks()) continue;
      exchange_.Start(chunk);
      Fill(chunk);
      exchange_.Post(chunk);
    }
    return absl::OkStatus();
  }

 private:
  // Where element 0 of the whole vector lies, or would, for each local rank that has it or wants it.
  void FindVectors() {
    if (member_.ranks() > 1) {
      inputs_ = member_.windows().Bases(member_.announced(member_.rank()).window);
      for (int r = 0; r < member_.ranks(); ++r) inputs_[static_cast<size_t>(r)] += member_.announced(r).offset;
      outputs_ = inputs_;
    } else {
      const int64_t own_part = traffic_.by_parts() ? member_.world_rank() * traffic_.bytes() : 0;
      char* const input = static_cast<char*>(const_cast<void*>(operation_.input));
      char* const output = static_cast<char*>(operation_.output);
      inputs_ = {traffic_.kind == Exchange::kAllGather ? input - own_part : input};
      outputs_ = {traffic_.kind == Exchange::kReduceScatter ? output - own_part : output};
    }
    for (int r = 0; r < member_.ranks(); ++r) {
      const auto world_rank = static_cast<size_t>(member_.first_rank() + r);
      const int rows = operation_.what.kind == v1::OpKind::kAllReduceShards ? operation_.leaves->rows[world_rank] : 1;
      for (int row = 0; row < rows; ++row) sources_.push_back(inputs_[static_cast<size_t>(r)] + row * operation_.stride_bytes);
    }
  }

  void Fill(int64_t chunk) {
    std::vector<const void*> from;
    for (int owner : plan_.owners()) {
      if (!plan_.Gives(nodes_.node, owner)) continue;
      char* const own = exchange_.Own(chunk, owner);
      const int64_t row_bytes = exchange_.RowBytes(chunk, owner);
      plan_.ForEachRun(chunk, member_.rank(), owner, 0, INT64_MAX, [&](int64_t first, int64_t count, int64_t offset) {
        if (traffic_.partials == nullptr) {
          const int giver = traffic_.kind == Exchange::kBroadcast ? traffic_.root - member_.first_rank() : 0;
          std::memcpy(own + offset * size_, inputs_[static_cast<size_t>(giver)] + first * size_,
                      static_cast<size_t>(count * size_));
          return;
        }
        from.clear();
        for (const char* source : sources_) from.push_back(source + first * size_);
        traffic_.partials->ReduceOwn(from, count, traffic_.type, traffic_.op, own + offset * plan_.call().wire_bytes,
                                     row_bytes);
      });
    }
  }

  void Store(int64_t chunk) {
    const int root = traffic_.kind == Exchange::kBroadcast ? traffic_.root - member_.first_rank() : -1;
    for (int owner : plan_.owners()) {
      if (!plan_.Wants(nodes_.node, owner)) continue;
      const char* const result = exchange_.Result(chunk, owner);
      plan_.ForEachRun(chunk, member_.rank(), owner, 0, INT64_MAX, [&](int64_t first, int64_t count, int64_t offset) {
        for (int r = 0; r < member_.ranks(); ++r) {
          if (r == root) continue;
          std::memcpy(outputs_[static_cast<size_t>(r)] + first * size_, result + offset * size_,
                      static_cast<size_t>(count * size_));
        }
      });
    }
  }

  Member& member_;
  const Nodes& nodes_;
  const Operation& operation_;
  const Traffic& traffic_;
  const int64_t size_;
  const WirePlan plan_;
  LaneExchange exchange_;
  std::vector<char*> inputs_;
  std::vector<char*> outputs_;
  std::vector<const char*> sources_;  // the rows of all local ranks
};

}  // namespace

absl::Status RunDirect(Member& member, Network& network, const Operation& operation, const Traffic& traffic) {
  if (member.rank() < network.nodes().lanes) {
    MUSTER_RETURN_IF_ERROR(DirectLane(member, network, operation, traffic).Run());
  }
  return member.Step();
}

}  // namespace muster

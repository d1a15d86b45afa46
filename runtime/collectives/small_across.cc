#include <cstring>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/collectives/across_nodes.h"

namespace muster {
namespace {

int RowsOf(const Operation& operation, int world_rank) {
  return operation.what.kind == v1::OpKind::kAllReduceShards ? operation.leaves->rows[static_cast<size_t>(world_rank)] : 1;
}

// Local rank 0's part: between the slots of its node and its own staging memory.
class SmallExchange {
 public:
  SmallExchange(Member& member, Network& network, const Operation& operation, const Traffic& traffic)
      : member_(member), network_(network), nodes_(network.nodes()), operation_(operation), traffic_(traffic) {}

  absl::Status Run() {
    LayOut();
    network_.PostCalls(member_);
    Fill();
    // On the stream of the calls, behind them.
    const MeshTag tag = {member_.op_seq(), static_cast<uint32_t>(network_.mesh()->streams())};
    for (int n = 0; n < nodes_.count(); ++n) {
      if (n == nodes_.node || SendBytes(nodes_.node, n) == 0) continue;
      network_.mesh()->Send(network_.PeerOn(n, member_), tag, SendBuffer(n), SendBytes(nodes_.node, n), &sent(n));
    }
    MUSTER_RETURN_IF_ERROR(network_.Progress(
        member_, [this] { return network_.CallsAreHere(); }, [this] { return network_.AwaitedCalls(member_); }));
    MUSTER_RETURN_IF_ERROR(network_.CheckCalls(member_));
    for (int n = 0; n < nodes_.count(); ++n) {
      if (n == nodes_.node || SendBytes(n, nodes_.node) == 0) continue;
      network_.mesh()->Receive(network_.PeerOn(n, member_), tag, ReceiveBuffer(n), SendBytes(n, nodes_.node), &received(n));
    }
    MUSTER_RETURN_IF_ERROR(network_.Progress(
        member_, [this] { return Missing() < 0; }, [this] { return Missing(); }));
    Combine();
    return absl::OkStatus();
  }

 private:
  MeshTransfer& sent(int n) { return network_.transfers[static_cast<size_t>(n)]; }
  MeshTransfer& received(int n) { return network_.transfers[static_cast<size_t>(nodes_.count() + n)]; }

  // A peer with which something is still to be exchanged.
  int Missing() {
    for (int n = 0; n < nodes_.count(); ++n) {
      if (!received(n).done) return network_.PeerOn(n, member_);
    }
    for (int n = 0; n < nodes_.count(); ++n) {
      if (!sent(n).done) return network_.PeerOn(n, member_);
    }
    return -1;
  }

  int64_t wire_bytes() const { return SizeOf(WireType(traffic_.type)); }

  // Elements of a row of what goes to node `to`.
  int64_t Elements(int to) const {
    return traffic_.kind == Exchange::kReduceScatter ? traffic_.count * nodes_.ranks(to) : traffic_.count;
  }

  int64_t SendBytes(int from, int to) const {
    switch (traffic_.kind) {
      case Exchange::kAllReduce:
      case Exchange::kReduceScatter:
        return traffic_.partials->rows(from) * Elements(to) * wire_bytes();
      case Exchange::kAllGather:
        return traffic_.bytes() * nodes_.ranks(from);
      case Exchange::kBroadcast:
        return from == nodes_.node_of(traffic_.root) ? traffic_.bytes() : 0;
    }
    return 0;
  }

  // For all but a reduce_scatter every node gets the same.
  char* SendBuffer(int to) {
    const bool each = traffic_.kind == Exchange::kReduceScatter;
    return own_ + (each ? traffic_.partials->rows(nodes_.node) * nodes_.first_rank(to) * traffic_.count * wire_bytes() : 0);
  }
  char* ReceiveBuffer(int from) {
    // What is not reduced is received where it stays.
    if (traffic_.kind == Exchange::kAllGather) return result() + nodes_.first_rank(from) * traffic_.bytes();
    if (traffic_.kind == Exchange::kBroadcast) return result();
    return received_ + received_offset_[static_cast<size_t>(from)];
  }
  char* result() { return member_.staging(0, 0); }

  void LayOut() {
    const auto nodes = static_cast<size_t>(nodes_.count());
    network_.transfers.assign(2 * nodes, {});
    int64_t own = 0;
    int64_t received = 0;
    received_offset_.assign(nodes, 0);
    for (int n = 0; n < nodes_.count(); ++n) {
      received_offset_[static_cast<size_t>(n)] = received;
      sent(n).done = n == nodes_.node || SendBytes(nodes_.node, n) == 0;
      this->received(n).done = n == nodes_.node || SendBytes(n, nodes_.node) == 0;
      if (traffic_.partials == nullptr) continue;
      received += n == nodes_.node ? 0 : SendBytes(n, nodes_.node);
      own = traffic_.kind == Exchange::kReduceScatter ? own + SendBytes(nodes_.node, n) : SendBytes(nodes_.node, n);
    }
    char* const memory = network_.memory.Take(own + received + 64);
    own_ = memory;
    received_ = memory + own;
  }

  void Fill() {
    if (traffic_.bytes() == 0) return;
    switch (traffic_.kind) {
      case Exchange::kAllReduce:
        ReduceOwn(0, traffic_.count, own_);
        break;
      case Exchange::kReduceScatter:
        for (int n = 0; n < nodes_.count(); ++n) {
          ReduceOwn(nodes_.first_rank(n) * traffic_.count, Elements(n), SendBuffer(n));
        }
        break;
      case Exchange::kAllGather:
        own_ = result() + member_.first_rank() * traffic_.bytes();
        for (int r = 0; r < member_.ranks(); ++r) {
          std::memcpy(own_ + r * traffic_.bytes(), member_.slot(r), static_cast<size_t>(traffic_.bytes()));
        }
        break;
      case Exchange::kBroadcast:
        if (nodes_.node_of(traffic_.root) != nodes_.node) break;
        own_ = result();
        std::memcpy(own_, member_.slot(traffic_.root - member_.first_rank()), static_cast<size_t>(traffic_.bytes()));
        break;
    }
  }

  // Elements [first, first + count) of what the ranks of this node brought, into rows one after another.
  void ReduceOwn(int64_t first, int64_t count, char* rows) {
    std::vector<const void*> sources;
    const int64_t row_bytes = InputElements(traffic_, nodes_) * traffic_.element_bytes();
    for (int r = 0; r < member_.ranks(); ++r) {
      for (int row = 0; row < RowsOf(operation_, member_.first_rank() + r); ++row) {
        sources.push_back(member_.slot(r) + row * row_bytes + first * traffic_.element_bytes());
      }
    }
    traffic_.partials->ReduceOwn(sources, count, traffic_.type, traffic_.op, rows, count * wire_bytes());
  }

  void Combine() {
    if (traffic_.partials == nullptr || traffic_.bytes() == 0) return;
    const int64_t elements = Elements(nodes_.node);
    std::vector<const void*> sources;
    for (int n = 0; n < nodes_.count(); ++n) {
      const char* const first = n == nodes_.node ? SendBuffer(n) : ReceiveBuffer(n);
      for (int row = 0; row < traffic_.partials->rows(n); ++row) sources.push_back(first + row * elements * wire_bytes());
    }
    traffic_.partials->ReduceAll(sources, elements, traffic_.type, traffic_.op, result());
  }

  Member& member_;
  Network& network_;
  const Nodes& nodes_;
  const Operation& operation_;
  const Traffic& traffic_;
  char* own_ = nullptr;
  char* received_ = nullptr;
  std::vector<int64_t> received_offset_;
};

void CopyOut(Member& member, const Nodes& nodes, const Operation& operation, const Traffic& traffic) {
  const char* from = member.staging(0, 0);
  int64_t bytes = traffic.bytes();
  if (bytes == 0) return;
  if (traffic.kind == Exchange::kBroadcast && member.world_rank() == traffic.root) return;
  if (traffic.kind == Exchange::kReduceScatter) from += member.rank() * bytes;
  if (traffic.kind == Exchange::kAllGather) bytes *= nodes.world_size();
  std::memcpy(operation.output, from, static_cast<size_t>(bytes));
}

}  // namespace

void BringSmall(Member& member, const Operation& operation, const Traffic& traffic) {
  if (traffic.bytes() == 0) return;
  if (traffic.kind == Exchange::kBroadcast && member.world_rank() != traffic.root) return;
  const int64_t row_bytes = traffic.kind == Exchange::kReduceScatter ? traffic.bytes() * member.world_size() : traffic.bytes();
  for (int row = 0; row < RowsOf(operation, member.world_rank()); ++row) {
    std::memcpy(member.slot(member.rank()) + row * row_bytes,
                static_cast<const char*>(operation.input) + row * operation.stride_bytes, static_cast<size_t>(row_bytes));
  }
}

absl::Status RunSmall(Member& member, Network& network, const Operation& operation, const Traffic& traffic) {
  if (member.rank() == 0) MUSTER_RETURN_IF_ERROR(SmallExchange(member, network, operation, traffic).Run());
  MUSTER_RETURN_IF_ERROR(member.Step());
  CopyOut(member, network.nodes(), operation, traffic);
  return absl::OkStatus();
}

}  // namespace muster

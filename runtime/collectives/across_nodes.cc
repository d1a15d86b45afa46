#include "runtime/collectives/across_nodes.h"

#include "runtime/base/status.h"

namespace muster {
namespace {

// What a node may send in one small operation: beyond it pieces over all lanes are faster than the vector to every node.
constexpr int64_t kSmallSendBytesMax = 256 * 1024;

Traffic TrafficOf(const Operation& operation, Network& network) {
  Traffic traffic;
  traffic.type = operation.type();
  traffic.op = operation.op();
  traffic.count = operation.what.count;
  switch (operation.what.kind) {
    case v1::OpKind::kAllReduce:
      traffic.partials = &network.partials(0);
      break;
    case v1::OpKind::kAllReduceShards:
      traffic.partials = &network.partials(operation.what.root);
      break;
    case v1::OpKind::kReduceScatter:
      traffic.kind = Exchange::kReduceScatter;
      traffic.count /= network.nodes().world_size();
      traffic.partials = &network.partials(0);
      break;
    case v1::OpKind::kBroadcast:
      traffic.kind = Exchange::kBroadcast;
      traffic.root = operation.what.root;
      break;
    case v1::OpKind::kAllGather:
      traffic.kind = Exchange::kAllGather;
      break;
    case v1::OpKind::kCreateWindow:
    case v1::OpKind::kSplit:
      traffic.kind = Exchange::kAllGather;
      traffic.type = DataType::kUint8;
      traffic.count = kWordBytes;
      break;
    case v1::OpKind::kBarrier:
    case v1::OpKind::kNone:
      traffic.kind = Exchange::kBroadcast;
      traffic.count = 0;
      break;
  }
  return traffic;
}

bool IsSmall(const Member& member, const Network& network, const Operation& operation, const Traffic& traffic) {
  const Nodes& nodes = network.nodes();
  const int64_t contribution = traffic.kind == Exchange::kAllGather ? traffic.bytes() : ContributionBytes(operation);
  if (contribution > member.slot_bytes()) return false;
  if (contribution == 0) return true;
  int64_t sent = traffic.bytes();  // to each other node
  int64_t received = traffic.bytes();
  if (traffic.partials != nullptr) {
    sent = InputElements(traffic, nodes) * SizeOf(WireType(traffic.type)) * traffic.partials->rows_max();
  } else if (traffic.kind == Exchange::kAllGather) {
    received = traffic.bytes() * nodes.world_size();
    sent = received;
  }
  return received <= member.staging_bytes() && sent * (nodes.count() - 1) <= kSmallSendBytesMax;
}

// Ranks of this node, perhaps of others too, make different calls: local rank 0 hears what all ranks called and says so.
absl::Status NameMismatch(Member& member, Network& network) {
  if (member.rank() != 0) return member.Step();  // ends with the verdict
  network.PostCalls(member);
  MUSTER_RETURN_IF_ERROR(network.Progress(
      member, [&network] { return network.CallsAreHere(); }, [&] { return network.AwaitedCalls(member); }));
  return network.CheckCalls(member);
}

absl::Status Run(Member& member, Network& network, const Operation& operation, const std::atomic<int>* callers_inside) {
  MUSTER_RETURN_IF_ERROR(member.Begin(operation, callers_inside));
  const Traffic traffic = TrafficOf(operation, network);
  const bool small = IsSmall(member, network, operation, traffic);
  if (small) BringSmall(member, operation, traffic);
  MUSTER_RETURN_IF_ERROR(member.Arrive());
  member.AllowMoreTime(2 * network.outer_wait_nanoseconds());
  if (!member.CallsAgree()) return NameMismatch(member, network);
  if (small) {
    MUSTER_RETURN_IF_ERROR(RunSmall(member, network, operation, traffic));
  } else if (member.ranks() == 1 || (!traffic.by_parts() && member.InputsInOneWindow())) {
    MUSTER_RETURN_IF_ERROR(RunDirect(member, network, operation, traffic));
  } else {
    MUSTER_RETURN_IF_ERROR(RunStagedAcross(member, network, operation, traffic));
  }
  member.Finish(/*timed=*/true);
  return absl::OkStatus();
}

}  // namespace

int64_t InputElements(const Traffic& traffic, const Nodes& nodes) {
  return traffic.kind == Exchange::kReduceScatter ? traffic.count * nodes.world_size() : traffic.count;
}

WireCall WireCallOf(const Traffic& traffic, const Nodes& nodes) {
  WireCall call;
  call.kind = traffic.kind;
  call.count = traffic.count;
  call.element_bytes = traffic.element_bytes();
  call.wire_bytes = traffic.partials == nullptr ? call.element_bytes : SizeOf(WireType(traffic.type));
  for (int n = 0; n < nodes.count(); ++n) call.rows.push_back(traffic.partials == nullptr ? 1 : traffic.partials->rows(n));
  call.root_node = nodes.node_of(traffic.root);
  return call;
}

absl::Status RunAcrossNodes(Member& member, Network& network, const Operation& operation,
                            const std::atomic<int>* callers_inside) {
  absl::Status status = Run(member, network, operation, callers_inside);
  if (!status.ok() && member.failure().has_value()) {
    network.Tell(*member.failure(), static_cast<uint32_t>(member.JobRank(member.world_rank())));
  }
  return status;
}

}  // namespace muster

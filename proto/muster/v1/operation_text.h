// An announced operation in words, the same in a rank's errors and in what the agent says of a dead rank.
#ifndef MUSTER_PROTO_V1_OPERATION_TEXT_H_
#define MUSTER_PROTO_V1_OPERATION_TEXT_H_

#include <string>

#include "muster/tensor.h"
#include "proto/muster/v1/control_memory.h"

namespace muster::v1 {

constexpr const char* Name(OpKind kind) {
  switch (kind) {
    case OpKind::kNone:
      return "nothing";
    case OpKind::kAllReduce:
      return "all_reduce";
    case OpKind::kAllReduceShards:
      return "all_reduce_shards";
    case OpKind::kBroadcast:
      return "broadcast";
    case OpKind::kAllGather:
      return "all_gather";
    case OpKind::kReduceScatter:
      return "reduce_scatter";
    case OpKind::kBarrier:
      return "barrier";
    case OpKind::kCreateWindow:
      return "create_window";
    case OpKind::kSplit:
      return "split";
  }
  return "an unknown operation";
}

enum class Detail {
  kBrief,  // "all_reduce of 4096 f32"
  kFull,   // "all_reduce of 4096 f32, sum"
};

inline std::string Describe(const OpDescriptor& what, Detail detail) {
  std::string text = Name(what.kind);
  if (what.kind == OpKind::kBarrier || what.kind == OpKind::kSplit || what.kind == OpKind::kNone) return text;
  text += " of " + std::to_string(what.count) + " ";
  if (what.kind == OpKind::kCreateWindow) return text + "bytes";
  text += muster::Name(static_cast<DataType>(what.type));
  if (detail == Detail::kBrief) return text;
  if (what.kind == OpKind::kAllReduce || what.kind == OpKind::kAllReduceShards || what.kind == OpKind::kReduceScatter) {
    text += std::string(", ") + muster::Name(static_cast<ReduceOp>(what.op));
  }
  if (what.kind == OpKind::kBroadcast) text += " from root " + std::to_string(what.root);
  if (what.kind == OpKind::kAllReduceShards) {
    text += " over " + std::to_string(what.root) + " shards, stride " + std::to_string(what.stride) + " bytes";
  }
  return text;
}

}  // namespace muster::v1

#endif  // MUSTER_PROTO_V1_OPERATION_TEXT_H_

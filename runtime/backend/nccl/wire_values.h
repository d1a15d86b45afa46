// How values travel through NCCL where they pass the host, so that the result is that of muster/tensor.h.
//
// NCCL rounds 16-bit floats at every hop: they travel as float32. Its minimum and maximum pass NaN by and do not tell -0 from +0: floats
// travel as integers in the order that is wanted. Its average multiplies by 1/n first: sums travel, and are divided once.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_WIRE_VALUES_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_WIRE_VALUES_H_

#include <cstdint>

#include "muster/tensor.h"

namespace muster {

struct Wire {
  DataType type = DataType::kFloat32;  // what NCCL sees
  ReduceOp op = ReduceOp::kSum;
};
Wire WireOf(DataType type, ReduceOp op);

// The type that values are computed in on the host: 16-bit floats as float32, all others as themselves.
DataType HostType(DataType type);

// Turns `count` values of HostType(type) into WireOf(type, op).type, of the same size, in place. Any alignment.
void EncodeForWire(DataType type, ReduceOp op, void* values, int64_t count);
// Back again; kAvg is divided by `leaves`, and every NaN is the one quiet NaN.
void DecodeFromWire(DataType type, ReduceOp op, int64_t leaves, void* values, int64_t count);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_WIRE_VALUES_H_

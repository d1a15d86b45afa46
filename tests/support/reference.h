// Plain loops that say what every collective must give, and vectors on which a wrong order shows.
//
// Written apart from runtime/kernels on purpose: scalar, recursive, through long double and ldexp; slow and easy to check.
#ifndef MUSTER_TESTS_SUPPORT_REFERENCE_H_
#define MUSTER_TESTS_SUPPORT_REFERENCE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "muster/shards.h"
#include "muster/tensor.h"

namespace muster::test {

// One rank's vector, element 0 first, native byte order.
using Bytes = std::vector<unsigned char>;

// `count` elements of `rank`. Sums cancel: of each element some ranks hold a large value of either sign (equal in size on all
// ranks) and the others a small one with all its bits in use, so that the order of additions changes bits. kProd gets values
// near one. Integers use their whole range. The same arguments give the same bytes.
Bytes TestVector(uint64_t seed, int rank, DataType type, ReduceOp op, int64_t count);

// As TestVector, with NaNs (quiet, signalling, with sign and payload), infinities, denormals, zeros of both signs and the
// largest values strewn in. Integers: the type's limits.
Bytes SpecialVector(uint64_t seed, int rank, DataType type, int64_t count);

// The element-wise `op` over Tree(leaves.size()); what AllReduce leaves on every rank.
Bytes ReferenceAllReduce(std::span<const Bytes> leaves, DataType type, ReduceOp op);

// The same, summed from left to right: for 4 or more float leaves of TestVector this must differ from ReferenceAllReduce.
Bytes LeftToRightAllReduce(std::span<const Bytes> leaves, DataType type, ReduceOp op);

// Part `rank` of ReferenceAllReduce, cut into vectors.size() equal parts.
Bytes ReferenceReduceScatter(std::span<const Bytes> vectors, DataType type, ReduceOp op, int rank);

// All vectors one after another.
Bytes ReferenceAllGather(std::span<const Bytes> vectors);

// The partials that `rank` hands to AllReduceShards: its shards summed along the tree (kAvg: summed, not yet divided).
std::vector<Bytes> ReferencePartials(std::span<const Bytes> shards, int world_size, int rank, DataType type, ReduceOp op);

// What AllReduceShards leaves in partial 0: the tree over `shards` leaves, given every rank's partials in shard order.
Bytes ReferenceAllReduceShards(std::span<const std::vector<Bytes>> partials_by_rank, int32_t shards, DataType type,
                               ReduceOp op);

// Empty when equal; else "element 17: expected 0x3f800001, got 0x3f800000 (2 of 64 differ)" for a test's message.
std::string Difference(const Bytes& expected, const void* actual, DataType type);

// For messages: "f32 sum".
std::string Describe(DataType type, ReduceOp op);

// One scalar, through exact arithmetic: NaN becomes the quiet NaN with a zero payload.
float WidenScalar(DataType type, uint16_t bits);
uint16_t RoundScalar(DataType type, float value);

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_REFERENCE_H_

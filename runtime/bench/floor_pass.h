// The floor's inner loop, in a file of its own because it is compiled for several processors.
#ifndef MUSTER_RUNTIME_BENCH_FLOOR_PASS_H_
#define MUSTER_RUNTIME_BENCH_FLOOR_PASS_H_

#include <cstdint>

namespace muster::bench {

// Writes the sums, as 64-bit words, of bytes [begin, end) of all `count` vectors into each of them. Multiples of 64.
void FloorPass(char* const* vectors, int count, int64_t begin, int64_t end);

}  // namespace muster::bench

#endif  // MUSTER_RUNTIME_BENCH_FLOOR_PASS_H_

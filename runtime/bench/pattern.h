// Vectors whose reduction is known without computing it.
#ifndef MUSTER_RUNTIME_BENCH_PATTERN_H_
#define MUSTER_RUNTIME_BENCH_PATTERN_H_

#include <cstdint>
#include <vector>

#include "muster/tensor.h"

namespace muster::bench {

// What one rank contributes and what all must get. Values are small integers, so every order of additions gives the same
// result; they repeat after a while, so writing and comparing run at the speed of memory.
class Pattern {
 public:
  Pattern(DataType type, ReduceOp op, int rank, int world_size);

  // Writes this rank's values over `buffer`.
  void Fill(Tensor buffer) const;

  // Elements of `buffer` that are not the reduction over all ranks.
  int64_t CountWrong(ConstTensor buffer) const;

 private:
  int64_t element_bytes_;
  std::vector<unsigned char> own_;     // some whole periods
  std::vector<unsigned char> result_;  // as long
};

}  // namespace muster::bench

#endif  // MUSTER_RUNTIME_BENCH_PATTERN_H_

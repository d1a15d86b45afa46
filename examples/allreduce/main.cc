// The smallest program: every rank adds its number to the others', and all see the sum.
#include <cstdio>
#include <vector>

#include "muster/muster.h"

int main() {
  auto session = muster::Session::Create();
  if (!session.ok()) return std::fprintf(stderr, "allreduce: %s\n", session.status().ToString().c_str()), 1;
  const int rank = (*session)->rank();
  const int world_size = (*session)->world_size();

  std::vector<float> values(4096, static_cast<float>(rank + 1));
  const absl::Status status = (*session)->world().AllReduce(muster::MakeTensor(values.data(), 4096), muster::ReduceOp::kSum);
  if (!status.ok()) return std::fprintf(stderr, "rank %d: %s\n", rank, status.ToString().c_str()), 1;

  const float expected = static_cast<float>(world_size) * static_cast<float>(world_size + 1) / 2;
  for (const float value : values) {
    if (value != expected) return std::fprintf(stderr, "rank %d: %g, not %g\n", rank, value, expected), 1;
  }
  std::printf("rank %d of %d: the sum is %g\n", rank, world_size, expected);
}

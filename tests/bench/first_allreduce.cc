// The shortest libmuster program with a collective; rank 0 prints what time it is after it. Beside first_allreduce.c.
#include <time.h>

#include <cstdio>

#include "muster/muster.h"

int main() {
  auto session = muster::Session::Create();
  if (!session.ok()) {
    std::fprintf(stderr, "%s\n", session.status().ToString().c_str());
    return 1;
  }
  muster::Communicator& world = (*session)->world();
  double sum = 1;
  const absl::Status status = world.AllReduce(muster::MakeTensor(&sum, 1), muster::ReduceOp::kSum);
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (!status.ok() || sum != world.world_size()) {
    std::fprintf(stderr, "sum %g: %s\n", sum, status.ToString().c_str());
    return 1;
  }
  if (world.rank() == 0) std::printf("%lld.%09ld\n", static_cast<long long>(now.tv_sec), now.tv_nsec);
}

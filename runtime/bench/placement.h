// Where a benchmark's ranks run.
#ifndef MUSTER_RUNTIME_BENCH_PLACEMENT_H_
#define MUSTER_RUNTIME_BENCH_PLACEMENT_H_

namespace muster::bench {

struct Setting {
  int ranks = 1;
  bool crowded = false;  // more ranks than cores
  bool bound = false;    // each rank has a core of its own
};

// Cores the calling thread may use.
int UsableCores();

// Binds the calling thread to one core of its own when there is one for each of `ranks`: the core number `rank` of those it may
// use, which must be the same on all ranks. Returns whether it did. Left alone, the scheduler may keep two ranks on one core
// for tens of milliseconds beside an idle one, and a benchmark would measure that.
bool BindToOwnCore(int rank, int ranks);

}  // namespace muster::bench

#endif  // MUSTER_RUNTIME_BENCH_PLACEMENT_H_

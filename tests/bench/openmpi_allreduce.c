/*
 * Open MPI's all-reduce, timed as `muster bench allreduce` times muster's: in place, float32 sum, per call the slowest rank's time.
 *
 *   mpirun -np N openmpi_allreduce BYTES CALLS WARMUP fresh|back-to-back
 *
 * fresh: before every call each rank rewrites its vector and all meet on one line of shared memory a rank.
 */
#define _GNU_SOURCE
#include <mpi.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "statistics.h"

typedef struct {
  _Alignas(64) _Atomic uint64_t arrived;
} Line;

static int rank, ranks, crowded;
static Line* lines[1024];
static uint64_t meetings;

static void Fail(const char* what) {
  fprintf(stderr, "openmpi_allreduce: %s\n", what);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

/* As muster's worker does: a core for each rank when there are enough. */
static void BindToOwnCore(void) {
  cpu_set_t cores, own;
  int core = 0;
  crowded = sched_getaffinity(0, sizeof(cores), &cores) != 0 || CPU_COUNT(&cores) < ranks;
  if (crowded) return;
  for (int seen = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &cores) && seen++ == rank) break;
  }
  CPU_ZERO(&own);
  CPU_SET(core, &own);
  sched_setaffinity(0, sizeof(own), &own);
}

static void FindLines(void) {
  MPI_Win window;
  void* own;
  if (MPI_Win_allocate_shared(sizeof(Line), 64, MPI_INFO_NULL, MPI_COMM_WORLD, &own, &window) != MPI_SUCCESS) Fail("no shared memory");
  memset(own, 0, sizeof(Line));
  for (int i = 0; i < ranks; ++i) {
    MPI_Aint bytes;
    int unit;
    MPI_Win_shared_query(window, i, &bytes, &unit, &lines[i]);
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

static void Meet(void) {
  ++meetings;
  atomic_store_explicit(&lines[rank]->arrived, meetings, memory_order_release);
  for (int i = 0; i < ranks; ++i) {
    for (long looks = 1; atomic_load_explicit(&lines[i]->arrived, memory_order_acquire) < meetings; ++looks) {
      if (crowded || looks % 4096 == 0) sched_yield();
    }
  }
}

static void Call(float* vector, int count) {
  if (MPI_Allreduce(MPI_IN_PLACE, vector, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) != MPI_SUCCESS) Fail("MPI_Allreduce");
}

static void FreshCalls(float* vector, int count, int64_t calls, double* microseconds) {
  for (int64_t i = 0; i < calls; ++i) {
    for (int j = 0; j < count; ++j) vector[j] = (float)(rank + 1);
    Meet();
    const int64_t start = Nanoseconds();
    Call(vector, count);
    microseconds[i] = (double)(Nanoseconds() - start) / 1e3;
    const float expected = (float)(ranks * (ranks + 1) / 2);
    if (vector[0] != expected || vector[count - 1] != expected) Fail("wrong sum");
  }
}

static void BackToBack(float* vector, int count, int64_t calls, double* microseconds) {
  int64_t start = Nanoseconds();
  for (int64_t i = 0; i < calls; ++i) {
    Call(vector, count);
    const int64_t end = Nanoseconds();
    microseconds[i] = (double)(end - start) / 1e3;
    start = end;
  }
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (argc != 5 || ranks > 1024) Fail("usage: openmpi_allreduce BYTES CALLS WARMUP fresh|back-to-back");
  BindToOwnCore();
  const int count = (int)(atoll(argv[1]) / 4);
  const int64_t calls = atoll(argv[2]), warmup = atoll(argv[3]);
  void (*const run)(float*, int, int64_t, double*) = strcmp(argv[4], "fresh") == 0 ? FreshCalls : BackToBack;
  float* const vector = aligned_alloc(4096, ((size_t)count * 4 + 4095) / 4096 * 4096);
  double* const microseconds = calloc((size_t)(calls > warmup ? calls : warmup), sizeof(double));
  if (vector == NULL || microseconds == NULL || count < 1 || calls < 1) Fail("bad size or count, or no memory");
  memset(vector, 0, (size_t)count * 4);
  FindLines();
  run(vector, count, warmup, microseconds);
  MPI_Barrier(MPI_COMM_WORLD);
  run(vector, count, calls, microseconds);
  MPI_Allreduce(MPI_IN_PLACE, microseconds, (int)calls, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  if (rank == 0) PrintSummary(microseconds, calls);
  MPI_Finalize();
  return 0;
}

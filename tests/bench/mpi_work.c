// An MPI program that does something: argv[1] steps, each some milliseconds of arithmetic and an all-reduce of 64 KiB.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { kCount = 8192, kPasses = 400 };

int main(int argc, char** argv) {
  static double mine[kCount], sum[kCount];
  int steps = argc > 1 ? atoi(argv[1]) : 0;
  MPI_Init(&argc, &argv);
  for (int step = 0; step < steps; ++step) {
    for (int pass = 0; pass < kPasses; ++pass) {
      for (int i = 0; i < kCount; ++i) mine[i] = mine[i] * 0.999 + (i ^ pass);
    }
    MPI_Allreduce(mine, sum, kCount, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  }
  if (sum[0] < 0) printf("%g\n", sum[0]);
  MPI_Finalize();
  return 0;
}

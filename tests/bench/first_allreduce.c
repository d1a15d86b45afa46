// The shortest MPI program with a collective; rank 0 prints what time it is after it.
#include <mpi.h>
#include <stdio.h>
#include <time.h>

int main(int argc, char** argv) {
  int rank = 0;
  double one = 1, sum = 0;
  struct timespec now;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Allreduce(&one, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  clock_gettime(CLOCK_REALTIME, &now);
  if (rank == 0) printf("%lld.%09ld\n", (long long)now.tv_sec, now.tv_nsec);
  MPI_Finalize();
  return 0;
}

/* One MPI world: mpi_world WHAT [ARGUMENT]
 *
 *   ring                what each rank says of itself and its peers, on one line
 *   wait                the same, then waits for ever, in a barrier that rank 0 never enters
 *   abort CODE          rank 1 calls MPI_Abort(CODE), the others wait
 *   leave               rank 1 ends with 0 and without MPI_Finalize, the others wait
 *   absent [RANK]       RANK (1) ends with 0 and without MPI_Init
 *   window              ranks of a node share memory of MPI's, then wait for ever
 *   busy SECONDS        all-reduces for that long
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void say(const char* what, int rank, int size) {
  int left = (rank + size - 1) % size, right = (rank + 1) % size, token = -1, sum = 0, application = -1, has_application = 0;
  int *attribute, node_size, node_rank, half_size, half_sum, mine = rank + 1;
  MPI_Comm node, half;
  /* A ring: everybody's number goes once round. */
  int passed = rank;
  for (int i = 0; i < size; ++i) {
    MPI_Sendrecv(&passed, 1, MPI_INT, right, 0, &token, 1, MPI_INT, left, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    passed = token;
  }
  MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
  MPI_Comm_size(node, &node_size);
  MPI_Comm_rank(node, &node_rank);
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &half);
  MPI_Comm_size(half, &half_size);
  MPI_Allreduce(&mine, &half_sum, 1, MPI_INT, MPI_SUM, half);
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_APPNUM, &attribute, &has_application);
  if (has_application) application = *attribute;
  printf("%s rank=%d size=%d ring=%d sum=%d node=%d/%d half=%d:%d app=%d pid=%d\n", what, rank, size, passed, sum, node_rank,
         node_size, half_size, half_sum, application, (int)getpid());
  fflush(stdout);
  MPI_Comm_free(&node);
  MPI_Comm_free(&half);
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "ring";
  const char* argument = argc > 2 ? argv[2] : "0";
  int rank, size;
  if (strcmp(what, "absent") == 0 && strcmp(getenv("RANK"), argc > 2 ? argument : "1") == 0) return 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (strcmp(what, "abort") == 0 && rank == 1) MPI_Abort(MPI_COMM_WORLD, atoi(argument));
  if (strcmp(what, "leave") == 0 && rank == 1) _exit(0);
  if (strcmp(what, "busy") == 0) {
    double end = MPI_Wtime() + atof(argument), now = MPI_Wtime(), all;
    do {
      MPI_Allreduce(&now, &all, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
      now = MPI_Wtime();
    } while (all < end);
  } else if (strcmp(what, "window") == 0) {
    MPI_Comm node;
    MPI_Win window;
    double* memory;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
    MPI_Win_allocate_shared(1 << 20, 1, MPI_INFO_NULL, node, &memory, &window);
    memory[0] = rank;
    say(what, rank, size);
    pause();
  } else {
    say(what, rank, size);
  }
  if (strcmp(what, "ring") != 0 && strcmp(what, "busy") != 0) {
    if (rank == 0) pause();
    MPI_Barrier(MPI_COMM_WORLD);
  }
  MPI_Finalize();
  return 0;
}

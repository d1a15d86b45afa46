/*
 * The control for waiting: PROCESSES that do nothing but hand one token round by sched_yield. What share of rounds the scheduler
 * alone stretches beyond 2 ms is what no library on this machine can do better than by sleeping.
 *
 *   yield_ring PROCESSES ROUNDS
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "statistics.h"

/* Waits until the token is `mine`, and passes it on. */
static void Turn(_Atomic uint64_t* token, uint64_t mine) {
  while (atomic_load_explicit(token, memory_order_acquire) != mine) sched_yield();
  atomic_store_explicit(token, mine + 1, memory_order_release);
}

int main(int argc, char** argv) {
  const uint64_t processes = argc == 3 ? strtoull(argv[1], NULL, 10) : 0, rounds = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
  if (processes < 2 || rounds < 1) {
    fprintf(stderr, "usage: yield_ring PROCESSES ROUNDS\n");
    return 64;
  }
  _Atomic uint64_t* const token = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  double* const microseconds = malloc(rounds * sizeof(double));
  if (token == MAP_FAILED || microseconds == NULL) return 1;
  for (uint64_t process = 1; process < processes; ++process) {
    const pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (uint64_t round = 0; round < rounds; ++round) Turn(token, round * processes + process);
      _exit(0);
    }
  }
  for (uint64_t round = 0; round < rounds; ++round) {
    const int64_t start = Nanoseconds();
    Turn(token, round * processes);
    while (atomic_load_explicit(token, memory_order_acquire) != (round + 1) * processes) sched_yield();
    microseconds[round] = (double)(Nanoseconds() - start) / 1e3;
  }
  while (wait(NULL) > 0) {
  }
  PrintSummary(microseconds, (int64_t)rounds);
  return 0;
}

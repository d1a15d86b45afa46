/* What the peer programs print: the same figures as `muster bench --json`, one object on one line. */
#ifndef MUSTER_TESTS_BENCH_STATISTICS_H_
#define MUSTER_TESTS_BENCH_STATISTICS_H_

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t Nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int Compare(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

/* Nearest-rank, of `count` sorted values. */
static double Percentile(const double* sorted, int64_t count, double share) {
  const int64_t rank = (int64_t)ceil(share * (double)count);
  return sorted[rank < 1 ? 0 : rank - 1];
}

static void PrintSummary(double* microseconds, int64_t count) {
  double sum = 0;
  int64_t over = 0;
  qsort(microseconds, (size_t)count, sizeof(double), Compare);
  for (int64_t i = 0; i < count; ++i) {
    sum += microseconds[i];
    over += microseconds[i] > 2000;
  }
  printf("{\"calls\": %lld, \"mean_us\": %.3f, \"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, \"over_2ms\": %.6f}\n",
         (long long)count, sum / (double)count, Percentile(microseconds, count, 0.5), Percentile(microseconds, count, 0.99),
         microseconds[count - 1], (double)over / (double)count);
}

#endif

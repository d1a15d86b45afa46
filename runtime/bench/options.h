// What the benchmark worker was asked to measure.
#ifndef MUSTER_RUNTIME_BENCH_OPTIONS_H_
#define MUSTER_RUNTIME_BENCH_OPTIONS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "muster/tensor.h"

namespace muster::bench {

struct Options {
  bool window = true;  // buffers in windows; else private memory
  int64_t bytes_min = 8;
  int64_t bytes_max = int64_t{16} << 20;
  int64_t factor = 2;  // from one size to the next
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  int64_t iterations = 0;  // timed calls a size; 0: chosen by size
  int64_t warmup = 5;      // untimed calls before them
  bool check = false;      // compare every fresh call's result
  bool fresh = true;       // rewrite the vector and meet the others before every call; else call after call
  bool floor = true;       // measure the floor, too
  std::string json_file;   // rank 0 writes all figures there; empty: nowhere
  bool bind = true;        // each rank to a core of its own when there is one for each
  bool help = false;
};

// Reads the words after the benchmark's name.
// Errors: InvalidArgument with the flag and the remedy.
absl::StatusOr<Options> ParseOptions(std::span<const std::string> words);

// The text of --help.
std::string Help();

// Bytes of the vectors to measure, ascending; whole elements.
std::vector<int64_t> Sizes(const Options& options);

// Timed calls for vectors of `bytes`: the same on every rank.
int64_t Iterations(const Options& options, int64_t bytes);

}  // namespace muster::bench

#endif  // MUSTER_RUNTIME_BENCH_OPTIONS_H_

// The command line of train_words.
#ifndef TRAIN_WORDS_OPTIONS_H_
#define TRAIN_WORDS_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

struct Options {
  std::string data = "/usr/share/dict/words";
  int64_t steps = 500;
  int64_t batch = 64;
  int32_t shards = 8;
  int32_t accumulate = 1;
  int32_t context = 8;
  int32_t embed = 32;
  int32_t hidden = 128;
  std::string optimizer = "adamw";
  std::string device = "auto";
  double learning_rate = 0;  // 0: a good one for the optimizer
  uint64_t seed = 1;
  int64_t bucket_bytes = int64_t{25} << 20;
  int32_t flip_gradient_bit = -1;  // a rank, or -1
  std::string checkpoint_dir;      // empty: the job's, if it has one
  int64_t checkpoint_every = 0;    // 0: the job's, else 100
  int32_t checkpoint_keep = 0;     // 0: the job's, else 3
  bool resume = false;
  std::string result;
  std::string weights;
  std::string trace;
  bool help = false;
};

// What --help prints.
extern const char kUsage[];

// Errors: InvalidArgument names the flag, its value and what it takes.
absl::StatusOr<Options> ParseOptions(int argc, const char* const* argv);

#endif  // TRAIN_WORDS_OPTIONS_H_

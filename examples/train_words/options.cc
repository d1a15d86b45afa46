#include "options.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

const char kUsage[] = R"(train_words: learns to spell from a list of words, on one rank or many.

  muster run -np 4 train_words                         the system's word list
  muster run -np 4 train_words --data names.txt        any text file of lines, UTF-8
  muster run -np 8 train_words --shards 8 --result r.json --weights w.bin
  muster run -np 4 --max-restarts 3 train_words --checkpoint-dir words --checkpoint-every 50
  muster run -np 2 train_words --checkpoint-dir words --resume        go on where that one stopped

A character-level language model (embedding, two hidden layers, softmax) guesses each character from those before it. One word
in ten is held out; at the end the model's loss on these is compared with that of a bigram model, and it invents twenty words.
The trained weights are the same, bit for bit, whatever the number of ranks: they depend on the flags in the first block below
and on the data.

  --data FILE          one word a line                                   [/usr/share/dict/words]
  --steps N            optimizer steps                                   [500]
  --batch N            words a step, over all ranks                      [64]
  --shards N           parts a batch is cut into; at most so many ranks  [8]
  --accumulate N       passes a shard is cut into, to save memory        [1]
  --context N          characters the model looks back                   [8]
  --embed N            numbers a character is turned into                [32]
  --hidden N           units in each hidden layer                        [128]
  --optimizer NAME     adamw or sgd                                      [adamw]
  --lr X               learning rate                                     [0.01, sgd 0.2]
  --seed N             of initial weights and the order of words         [1]

  --device NAME        auto, cpu, or cuda: an NVIDIA GPU for each rank, the one of its local rank (auto: cuda where every rank has
                       one). A GPU's bits are its own, not the processor's                                                [auto]

  --checkpoint-dir DIR   where checkpoints are kept, shared by all nodes [the job's --checkpoint-path]
  --checkpoint-every N   steps between two of them                       [the job's, else 100]
  --checkpoint-keep N    the newest so many stay                         [the job's, else 3]
  --resume             go on from the newest whole checkpoint in DIR, if there is one; a restarted job always does

  --bucket-bytes N     gradients reduced together, with K, M or G        [25M]
  --result FILE        one JSON object about the run
  --weights FILE       the weights, little-endian float32 in order of registration
  --trace FILE         where the time went, for https://ui.perfetto.dev
  --flip-gradient-bit RANK   fault injection: in the first step, flips one bit of one gradient of that rank

Exit codes: 0; 64 wrong flag, more ranks than shards, or a DIR with another run's checkpoints; 65 data, or checkpoints, that
cannot be used; 66 data that cannot be read; 73 a result or checkpoint that cannot be written; 1 anything else.
)";

namespace {

absl::Status Bad(absl::string_view flag, absl::string_view value, absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrFormat("%s %s: must be %s", flag, value, wanted));
}

template <typename Integer>
absl::Status SetInteger(absl::string_view flag, absl::string_view value, Integer least, Integer& target) {
  Integer number = 0;
  if (!absl::SimpleAtoi(value, &number) || number < least)
    return Bad(flag, value, absl::StrCat("a whole number, at least ", least));
  target = number;
  return absl::OkStatus();
}

absl::Status SetBytes(absl::string_view flag, absl::string_view value, int64_t& target) {
  absl::string_view digits = value;
  int shift = 0;
  if (!digits.empty()) {
    switch (absl::ascii_toupper(digits.back())) {
      case 'K':
        shift = 10;
        break;
      case 'M':
        shift = 20;
        break;
      case 'G':
        shift = 30;
        break;
    }
  }
  if (shift > 0) digits.remove_suffix(1);
  int64_t number = 0;
  if (!absl::SimpleAtoi(digits, &number) || number < 1 || number > (std::numeric_limits<int64_t>::max() >> shift) ||
      number << shift < 4) {
    return Bad(flag, value, "at least 4 bytes, as in 65536, 64K or 25M");
  }
  target = number << shift;
  return absl::OkStatus();
}

absl::Status SetFlag(absl::string_view flag, const std::string& value, Options& options) {
  if (flag == "--data") return options.data = value, absl::OkStatus();
  if (flag == "--result") return options.result = value, absl::OkStatus();
  if (flag == "--weights") return options.weights = value, absl::OkStatus();
  if (flag == "--trace") return options.trace = value, absl::OkStatus();
  if (flag == "--checkpoint-dir") return options.checkpoint_dir = value, absl::OkStatus();
  if (flag == "--checkpoint-every") return SetInteger<int64_t>(flag, value, 1, options.checkpoint_every);
  if (flag == "--checkpoint-keep") return SetInteger<int32_t>(flag, value, 1, options.checkpoint_keep);
  if (flag == "--steps") return SetInteger<int64_t>(flag, value, 1, options.steps);
  if (flag == "--batch") return SetInteger<int64_t>(flag, value, 1, options.batch);
  if (flag == "--shards") return SetInteger<int32_t>(flag, value, 1, options.shards);
  if (flag == "--accumulate") return SetInteger<int32_t>(flag, value, 1, options.accumulate);
  if (flag == "--context") return SetInteger<int32_t>(flag, value, 1, options.context);
  if (flag == "--embed") return SetInteger<int32_t>(flag, value, 1, options.embed);
  if (flag == "--hidden") return SetInteger<int32_t>(flag, value, 1, options.hidden);
  if (flag == "--seed") return SetInteger<uint64_t>(flag, value, 0, options.seed);
  if (flag == "--flip-gradient-bit") return SetInteger<int32_t>(flag, value, 0, options.flip_gradient_bit);
  if (flag == "--bucket-bytes") return SetBytes(flag, value, options.bucket_bytes);
  if (flag == "--lr") {
    double rate = 0;
    if (!absl::SimpleAtod(value, &rate) || !std::isfinite(rate) || rate <= 0) return Bad(flag, value, "a number above 0");
    return options.learning_rate = rate, absl::OkStatus();
  }
  if (flag == "--device") {
    if (value != "auto" && value != "cpu" && value != "cuda") return Bad(flag, value, "auto, cpu or cuda");
    return options.device = value, absl::OkStatus();
  }
  if (flag == "--optimizer") {
    if (value != "adamw" && value != "sgd") return Bad(flag, value, "adamw or sgd");
    return options.optimizer = value, absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown flag ", flag));
}

}  // namespace

absl::StatusOr<Options> ParseOptions(int argc, const char* const* argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string flag = argv[i];
    if (flag == "--help" || flag == "-h") {
      options.help = true;
      return options;
    }
    if (flag == "--resume") {
      options.resume = true;
      continue;
    }
    std::string value;
    if (const size_t equals = flag.find('='); equals != std::string::npos) {
      value = flag.substr(equals + 1);
      flag.resize(equals);
    } else if (i + 1 < argc) {
      value = argv[++i];
    } else {
      const absl::Status known = SetFlag(flag, "1", options);
      if (!known.ok() && absl::StrContains(known.message(), "unknown")) return known;
      return absl::InvalidArgumentError(absl::StrCat(flag, " needs a value"));
    }
    if (const absl::Status status = SetFlag(flag, value, options); !status.ok()) return status;
  }
  if (options.learning_rate == 0) options.learning_rate = options.optimizer == "sgd" ? 0.2 : 0.01;
  return options;
}

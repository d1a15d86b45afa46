#include "runtime/bench/options.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/status.h"

namespace muster::bench {
namespace {

// Our own names and those of nccl-tests.
constexpr std::pair<const char*, DataType> kTypeNames[] = {
    {"f32", DataType::kFloat32},    {"float", DataType::kFloat32},     {"f64", DataType::kFloat64},
    {"double", DataType::kFloat64}, {"bf16", DataType::kBFloat16},     {"f16", DataType::kFloat16},
    {"half", DataType::kFloat16},   {"bfloat16", DataType::kBFloat16}, {"i32", DataType::kInt32},
    {"int32", DataType::kInt32},    {"i64", DataType::kInt64},         {"int64", DataType::kInt64},
    {"u8", DataType::kUint8},       {"uint8", DataType::kUint8}};

absl::StatusOr<DataType> ParseType(const std::string& text) {
  for (const auto& [name, type] : kTypeNames) {
    if (text == name) return type;
  }
  return absl::InvalidArgumentError(absl::StrCat("-d ", text, ": the types are f32 f64 bf16 f16 i32 i64 u8"));
}

absl::StatusOr<ReduceOp> ParseOp(const std::string& text) {
  for (int op = 0; op < kReduceOps; ++op) {
    if (text == Name(static_cast<ReduceOp>(op))) return static_cast<ReduceOp>(op);
  }
  return absl::InvalidArgumentError(absl::StrCat("-o ", text, ": the operations are sum avg min max prod"));
}

// "64", "64K", "16M", "1G".
absl::StatusOr<int64_t> ParseBytes(const std::string& flag, absl::string_view text) {
  int shift = 0;
  absl::string_view digits = text;
  if (!digits.empty()) {
    const size_t suffix = absl::string_view("KMG").find(static_cast<char>(digits.back() & ~0x20));
    if (suffix != absl::string_view::npos) {
      shift = 10 * (static_cast<int>(suffix) + 1);
      digits.remove_suffix(1);
    }
  }
  int64_t value = 0;
  if (!absl::SimpleAtoi(digits, &value) || value <= 0 || value > (int64_t{1} << 40 >> shift)) {
    return absl::InvalidArgumentError(absl::StrCat(flag, " ", text, ": not a size; write bytes, as in 4096, 64K or 16M"));
  }
  return value << shift;
}

absl::StatusOr<int64_t> ParseCount(const std::string& flag, const std::string& text, int64_t least) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < least || value > 1'000'000'000) {
    return absl::InvalidArgumentError(absl::StrCat(flag, " ", text, ": write a whole number of at least ", least));
  }
  return value;
}

// True when `word` is a switch that stands alone.
bool ApplySwitch(const std::string& word, Options& options) {
  if (word == "--window") return options.window = true;
  if (word == "--private") return !(options.window = false);
  if (word == "--check" || word == "-c") return options.check = true;
  if (word == "--back-to-back") return !(options.fresh = false);
  if (word == "--no-floor") return !(options.floor = false);
  if (word == "--no-bind") return !(options.bind = false);
  if (word == "--help" || word == "-h") return options.help = true;
  return false;
}

absl::Status ApplyValue(const std::string& flag, const std::string& value, Options& options) {
  if (flag == "-d") {
    MUSTER_ASSIGN_OR_RETURN(options.type, ParseType(value));
  } else if (flag == "-o") {
    MUSTER_ASSIGN_OR_RETURN(options.op, ParseOp(value));
  } else if (flag == "-b") {
    MUSTER_ASSIGN_OR_RETURN(options.bytes_min, ParseBytes(flag, value));
  } else if (flag == "-e") {
    MUSTER_ASSIGN_OR_RETURN(options.bytes_max, ParseBytes(flag, value));
  } else if (flag == "-f") {
    MUSTER_ASSIGN_OR_RETURN(options.factor, ParseCount(flag, value, 2));
  } else if (flag == "-n") {
    MUSTER_ASSIGN_OR_RETURN(options.iterations, ParseCount(flag, value, 1));
  } else if (flag == "-w") {
    MUSTER_ASSIGN_OR_RETURN(options.warmup, ParseCount(flag, value, 0));
  } else {
    options.json_file = value;
  }
  return absl::OkStatus();
}

absl::Status CheckTogether(const Options& options) {
  if (options.op == ReduceOp::kAvg && IsInteger(options.type)) {
    return absl::InvalidArgumentError(absl::StrCat("-o avg does not go with -d ", Name(options.type),
                                                   ": there is no average of integers; take sum or a float type"));
  }
  if (options.bytes_min > options.bytes_max) {
    return absl::InvalidArgumentError(absl::StrCat("-b ", options.bytes_min, " is above -e ", options.bytes_max));
  }
  if (options.bytes_min < SizeOf(options.type)) {
    return absl::InvalidArgumentError(
        absl::StrCat("-b ", options.bytes_min, ": one ", Name(options.type), " takes ", SizeOf(options.type), " bytes"));
  }
  if (options.check && !options.fresh) {
    return absl::InvalidArgumentError("--check needs fresh vectors; leave out --back-to-back");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Options> ParseOptions(std::span<const std::string> words) {
  constexpr absl::string_view kValued[] = {"-b", "-e", "-f", "-d", "-o", "-n", "-w", "--json"};
  Options options;
  for (size_t i = 0; i < words.size(); ++i) {
    if (ApplySwitch(words[i], options)) continue;
    if (std::find(std::begin(kValued), std::end(kValued), absl::string_view(words[i])) == std::end(kValued)) {
      return absl::InvalidArgumentError(absl::StrCat("no option ", words[i], "; --help lists them"));
    }
    if (i + 1 == words.size()) return absl::InvalidArgumentError(absl::StrCat(words[i], " needs a value after it"));
    MUSTER_RETURN_IF_ERROR(ApplyValue(words[i], words[i + 1], options));
    ++i;
  }
  MUSTER_RETURN_IF_ERROR(CheckTogether(options));
  return options;
}

std::string Help() {
  return R"(muster bench allreduce -np N [options]: time all-reduce on N ranks, and the least that memory allows.

  muster bench allreduce -np 2                          8 B to 16 MiB in shared windows, beside the floor
  muster bench allreduce -np 4 --private -b 64K -e 1M   private buffers, which muster has to copy
  muster bench allreduce -np 2 -d bf16 -o avg --check   another type and operation; results compared
  muster bench allreduce -np 4 -b 8 -e 8 -n 100000 --back-to-back

  --window          buffers in windows: shared memory that all ranks map (the default)
  --private         buffers in each rank's own memory
  -b, -e SIZE       smallest and largest vector in bytes; K, M, G are powers of 1024 (8, 16M)
  -f FACTOR         from one size to the next (2)
  -d TYPE           f32 f64 bf16 f16 i32 i64 u8 (f32)
  -o OP             sum avg min max prod (sum)
  -n COUNT          timed calls a size (by size: 20 to 1000)
  -w COUNT          untimed calls before them (5)
  --check           compare the result of every call; #wrong counts elements over all ranks
  --back-to-back    call after call on zeros, without rewriting vectors or meeting between calls; no floor
  --no-floor        do not measure the floor
  --no-bind         leave ranks to the scheduler; else each gets a core of its own when there is one for each
  --json FILE       write all figures to FILE

Before every timed call each rank rewrites its vector and all meet, so that a call finds what a training step leaves: every vector
last written by its own core. A call takes as long as it takes its slowest rank; time is the median over calls.
algbw = size / time; busbw = algbw * 2(N-1)/N. floor: the same processes load each byte of all N vectors once and store each result
once with plain vector loops, then meet; nothing else. ratio = floor / time: 1 is what memory allows.
)";
}

std::vector<int64_t> Sizes(const Options& options) {
  std::vector<int64_t> sizes;
  for (int64_t bytes = options.bytes_min; bytes <= options.bytes_max; bytes *= options.factor) {
    const int64_t whole = bytes - bytes % SizeOf(options.type);
    if (sizes.empty() || sizes.back() != whole) sizes.push_back(whole);
  }
  return sizes;
}

int64_t Iterations(const Options& options, int64_t bytes) {
  if (options.iterations > 0) return options.iterations;
  return std::clamp((int64_t{64} << 20) / bytes, int64_t{20}, int64_t{1000});
}

}  // namespace muster::bench

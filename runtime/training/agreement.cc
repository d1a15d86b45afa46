#include "runtime/training/agreement.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status.h"
#include "runtime/training/digest.h"

namespace muster {
namespace {

struct Field {
  const char* name;
  int64_t value;
};

int64_t FirstBytes(const Digest& digest) {
  int64_t value;
  std::memcpy(&value, digest.data(), sizeof(value));
  return value;
}

int64_t Fingerprint(std::span<const ParameterSpec> parameters) {
  Sha256 hash;
  for (const ParameterSpec& parameter : parameters) {
    const std::string text = absl::StrCat(parameter.name, "\n", parameter.shape.size(), "\n");
    hash.Update(text.data(), text.size());
    hash.Update(parameter.shape.data(), parameter.shape.size() * sizeof(int64_t));
  }
  return FirstBytes(hash.Finish());
}

int64_t Fingerprint(const OptimizerOptions& optimizer) {
  const std::array<double, 7> numbers = {static_cast<double>(optimizer.kind),
                                         optimizer.learning_rate,
                                         optimizer.momentum,
                                         optimizer.beta1,
                                         optimizer.beta2,
                                         optimizer.epsilon,
                                         optimizer.weight_decay};
  Sha256 hash;
  hash.Update(numbers.data(), sizeof(numbers));
  return FirstBytes(hash.Finish());
}

absl::Status OutOfRange(absl::string_view name, int64_t value, absl::string_view range) {
  return absl::InvalidArgumentError(absl::StrFormat("%s is %d; it must be %s", name, value, range));
}

}  // namespace

absl::Status CheckOptions(std::span<const ParameterSpec> parameters, const TrainerOptions& options, int world_size) {
  constexpr int64_t kSamplesMax = int64_t{1} << 40;
  if (options.samples < 1 || options.samples > kSamplesMax) return OutOfRange("samples", options.samples, "in [1, 2^40]");
  if (options.batch < 1 || options.batch > kSamplesMax) return OutOfRange("batch", options.batch, "in [1, 2^40]");
  if (options.shards < 1 || options.shards > kShardsMax) {
    return OutOfRange("shards", options.shards, absl::StrCat("in [1, ", kShardsMax, "]"));
  }
  if (options.accumulate < 1) return OutOfRange("accumulate", options.accumulate, "at least 1");
  if (options.bucket_bytes < 4) return OutOfRange("bucket_bytes", options.bucket_bytes, "at least 4");
  if (options.first_bucket_bytes < 4) return OutOfRange("first_bucket_bytes", options.first_bucket_bytes, "at least 4");
  if (options.checkpoint.every_steps < 0)
    return OutOfRange("checkpoint.every_steps", options.checkpoint.every_steps, "at least 0");
  if (options.checkpoint.keep < 1) return OutOfRange("checkpoint.keep", options.checkpoint.keep, "at least 1");
  if (options.checkpoint.folder.empty() && options.checkpoint.every_steps > 0) {
    return absl::InvalidArgumentError("checkpoint.every_steps is set, but checkpoint.folder is not");
  }
  if (parameters.empty()) return absl::InvalidArgumentError("a trainer needs at least one parameter");
  for (const ParameterSpec& parameter : parameters) {
    for (const int64_t extent : parameter.shape) {
      if (extent < 1) return OutOfRange(absl::StrCat("an extent of parameter \"", parameter.name, "\""), extent, "at least 1");
    }
  }
  std::set<std::string> names;
  for (const ParameterSpec& parameter : parameters) {
    if (options.checkpoint.folder.empty() || names.insert(parameter.name).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("two parameters are called \"", parameter.name, "\": in a checkpoint each needs a name of its own"));
  }
  if (world_size > options.shards) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d ranks but only %d shards: a rank needs a shard of each batch. Start at most %d ranks, or pass --shards %d",
        world_size, options.shards, options.shards, std::bit_ceil(static_cast<unsigned>(world_size))));
  }
  return absl::OkStatus();
}

absl::Status CheckAgreement(Communicator& communicator, std::span<const ParameterSpec> parameters,
                            const TrainerOptions& options) {
  const std::array<Field, 14> fields = {{{"samples", options.samples},
                                         {"batch", options.batch},
                                         {"shards", options.shards},
                                         {"accumulate", options.accumulate},
                                         {"seed", static_cast<int64_t>(options.seed)},
                                         {"first_bucket_bytes", options.first_bucket_bytes},
                                         {"bucket_bytes", options.bucket_bytes},
                                         {"trace", options.trace.empty() ? 0 : 1},
                                         {"having a checkpoint folder", options.checkpoint.folder.empty() ? 0 : 1},
                                         {"checkpoint.every_steps", options.checkpoint.every_steps},
                                         {"checkpoint.resume", options.checkpoint.resume ? 1 : 0},
                                         {"device", static_cast<int64_t>(options.device)},
                                         {"the parameters' fingerprint", Fingerprint(parameters)},
                                         {"the optimizer's fingerprint", Fingerprint(options.optimizer)}}};
  std::vector<int64_t> mine;
  for (const Field& field : fields) mine.push_back(field.value);
  const int64_t count = static_cast<int64_t>(mine.size());
  std::vector<int64_t> all(count * communicator.world_size());
  MUSTER_RETURN_IF_ERROR(communicator.AllGather(
      MakeTensor(mine.data(), count), MakeTensor(all.data(), static_cast<int64_t>(all.size())), absl::Now() + options.timeout));
  for (int rank = 1; rank < communicator.world_size(); ++rank) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t value = all[rank * count + i];
      if (value == all[i]) continue;
      return absl::InvalidArgumentError(
          absl::StrFormat("ranks disagree on %s: %d on rank %d, %d on rank 0", fields[i].name, value, rank, all[i]));
    }
  }
  return absl::OkStatus();
}

absl::Status AgreeOnOutcome(Communicator& communicator, const absl::Status& own, absl::Time deadline) {
  if (communicator.world_size() == 1) return own;
  int64_t lowest = own.ok() ? communicator.world_size() : communicator.rank();
  const absl::Status told = communicator.AllReduce(MakeTensor(&lowest, 1), ReduceOp::kMin, deadline);
  if (!told.ok()) return own.ok() ? told : own;
  if (lowest == communicator.world_size()) return absl::OkStatus();
  struct {
    int32_t code = 0;
    char text[508] = "";
  } words;
  words.code = static_cast<int32_t>(own.code());
  words.text[std::string(own.message()).copy(words.text, sizeof words.text - 1)] = '\0';
  const absl::Status heard =
      communicator.Broadcast({&words, sizeof words, DataType::kUint8}, static_cast<int>(lowest), deadline);
  if (!own.ok()) return own;
  MUSTER_RETURN_IF_ERROR(heard);
  return absl::Status(static_cast<absl::StatusCode>(words.code), absl::StrCat("rank ", lowest, ": ", words.text));
}

}  // namespace muster

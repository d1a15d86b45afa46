// Where a run stands, as words beside the tensors of a checkpoint.
#ifndef MUSTER_RUNTIME_TRAINING_RUN_PLACE_H_
#define MUSTER_RUNTIME_TRAINING_RUN_PLACE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "muster/trainer.h"
#include "runtime/training/digest.h"

namespace muster {

struct RunPlace {
  int64_t cursor = 0;
  int64_t weight = 0;
  uint64_t random_state = 0;
  Digest samples_digest = {};
  std::vector<int32_t> bucket_order;  // a permutation of the parameters
};

std::map<std::string, std::string> AttributesOf(const RunPlace& place);

// Nothing if they cannot be read, or are of another number of parameters.
std::optional<RunPlace> RunPlaceOf(const std::map<std::string, std::string>& attributes, int parameters);

// What a run may only resume with when it is equal. The device is not among it: a run may go on on another.
std::map<std::string, std::string> FixedAttributes(const TrainerOptions& options);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_RUN_PLACE_H_

#include "runtime/checkpoint/content.h"

namespace muster {

int64_t CheckpointTensor::bytes() const {
  int64_t bytes = SizeOf(type);
  for (const int64_t extent : shape) bytes *= extent;
  return bytes;
}

}  // namespace muster

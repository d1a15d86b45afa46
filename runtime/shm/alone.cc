#include <cstring>
#include <vector>

#include "runtime/kernels/reduce.h"
#include "runtime/shm/algorithms.h"

namespace muster {

// A reduction over one rank still runs the kernel: NaNs are normalised and shards added up as everywhere.
absl::Status RunAlone(Member&, const Operation& operation) {
  if (operation.row_bytes() == 0) return absl::OkStatus();
  if (operation.leaves != nullptr) {
    std::vector<const void*> sources;
    for (int row = 0; row < operation.leaves->rows[0]; ++row) {
      sources.push_back(static_cast<const char*>(operation.input) + row * operation.stride_bytes);
    }
    void* const destination = operation.output;
    Reduce(operation.leaves->plan, sources, operation.what.count, operation.type(), operation.op(), {&destination, 1});
  } else if (operation.what.kind == v1::OpKind::kAllGather && operation.input != operation.output) {
    std::memcpy(operation.output, operation.input, static_cast<size_t>(operation.row_bytes()));
  }
  return absl::OkStatus();
}

}  // namespace muster

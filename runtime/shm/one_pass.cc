#include <algorithm>
#include <cstring>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/kernels/reduce.h"
#include "runtime/shm/algorithms.h"
#include "runtime/shm/split.h"

namespace muster {
namespace {

// Smaller pieces would cost more in claims and cache misses at their ends than an idle core is worth.
constexpr int64_t kChunkBytesMin = 64 * 1024;

// Each rank's input, in this rank's mappings.
std::vector<char*> Inputs(Member& member) {
  std::vector<char*> inputs = member.windows().Bases(member.announced(member.rank()).window);
  for (int r = 0; r < member.ranks(); ++r) inputs[static_cast<size_t>(r)] += member.announced(r).offset;
  return inputs;
}

std::vector<const void*> Sources(const Operation& operation, const std::vector<char*>& inputs) {
  std::vector<const void*> sources;
  for (size_t r = 0; r < inputs.size(); ++r) {
    for (int row = 0; row < operation.leaves->rows[r]; ++row) sources.push_back(inputs[r] + row * operation.stride_bytes);
  }
  return sources;
}

// All-reduce in place. The vector is cut into p parts, a part into chunks; a chunk is reduced by whoever claims it, and stored
// to row 0 of every rank.
class ChunkedAllReduce {
 public:
  ChunkedAllReduce(Member& member, const Operation& operation)
      : member_(member),
        operation_(operation),
        inputs_(Inputs(member)),
        sources_(Sources(operation, inputs_)),
        part_(PartElements(operation.what.count, member.ranks(), operation.element_bytes())),
        chunks_(std::clamp<int64_t>(part_ * operation.element_bytes() / kChunkBytesMin, 1, v1::RankArea::kClaims)),
        chunk_(PartElements(part_, chunks_, operation.element_bytes())) {}

  absl::Status Run() {
    ReducePartOf(member_.rank());
    for (int i = 1; i < member_.ranks() && member_.oversubscribed(); ++i) {
      ReducePartOf((member_.rank() + i) % member_.ranks());
    }
    return member_.FinishChunks(finished_, chunks_ * member_.ranks());
  }

 private:
  void ReducePartOf(int owner) {
    const Range part = PartOf(operation_.what.count, part_, owner);
    for (int chunk = 0; chunk < chunks_; ++chunk) {
      if (!member_.Claim(owner, chunk)) continue;
      const Range range = PartOf(part.count, chunk_, chunk);
      if (range.count > 0) ReduceRange(part.first + range.first, range.count);
      ++finished_;
    }
  }

  void ReduceRange(int64_t first, int64_t count) {
    const int64_t offset = first * operation_.element_bytes();
    from_.clear();
    to_.clear();
    for (const void* source : sources_) from_.push_back(static_cast<const char*>(source) + offset);
    for (char* input : inputs_) to_.push_back(input + offset);
    Reduce(operation_.leaves->plan, from_, count, operation_.type(), operation_.op(), to_);
  }

  Member& member_;
  const Operation& operation_;
  const std::vector<char*> inputs_;
  const std::vector<const void*> sources_;
  const int64_t part_;    // elements
  const int64_t chunks_;  // in each part
  const int64_t chunk_;   // elements
  int64_t finished_ = 0;
  std::vector<const void*> from_;
  std::vector<void*> to_;
};

void ReduceOwnPart(Member& member, const Operation& operation) {
  const int64_t part = operation.what.count / member.ranks();
  std::vector<const void*> sources = Sources(operation, Inputs(member));
  for (const void*& source : sources) {
    source = static_cast<const char*>(source) + member.rank() * part * operation.element_bytes();
  }
  void* const destination = operation.output;
  Reduce(operation.leaves->plan, sources, part, operation.type(), operation.op(), {&destination, 1});
}

void Gather(Member& member, const Operation& operation) {
  const std::vector<char*> inputs = Inputs(member);
  const int64_t bytes = operation.row_bytes();
  for (int i = 0; i < member.ranks(); ++i) {
    const int r = (member.rank() + i) % member.ranks();  // so that not all read the same rank's memory at once
    char* const to = static_cast<char*>(operation.output) + r * bytes;
    const char* const from = inputs[static_cast<size_t>(r)];
    if (to != from) std::memcpy(to, from, static_cast<size_t>(bytes));
  }
}

}  // namespace

absl::Status RunInWindows(Member& member, const Operation& operation) {
  switch (operation.what.kind) {
    case v1::OpKind::kAllReduce:
    case v1::OpKind::kAllReduceShards:
      return ChunkedAllReduce(member, operation).Run();
    case v1::OpKind::kReduceScatter:
      ReduceOwnPart(member, operation);
      break;
    case v1::OpKind::kAllGather:
      Gather(member, operation);
      break;
    case v1::OpKind::kBroadcast:
      if (member.rank() != operation.what.root) {
        std::memcpy(operation.output, Inputs(member)[static_cast<size_t>(operation.what.root)],
                    static_cast<size_t>(operation.row_bytes()));
      }
      break;
    default:
      break;
  }
  return member.Step();  // nobody reads this rank's input any more
}

}  // namespace muster

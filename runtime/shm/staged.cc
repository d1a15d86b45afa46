#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/base/status.h"
#include "runtime/kernels/reduce.h"
#include "runtime/shm/algorithms.h"
#include "runtime/shm/split.h"

namespace muster {
namespace {

using Stage = absl::FunctionRef<void(int64_t chunk)>;

// Runs `stages` as a pipeline over `chunks`: in round t stage s handles chunk t - s, on all ranks; a step ends each round but
// the last. With up to three stages and three staging buffers used in turn, a buffer is filled again only after a step that
// every rank reached by emptying it.
absl::Status Pipeline(Member& member, int64_t chunks, std::initializer_list<Stage> stages) {
  const int64_t depth = static_cast<int64_t>(stages.size());
  for (int64_t round = 0; round < chunks + depth - 1; ++round) {
    int64_t chunk = round;
    for (Stage stage : stages) {
      if (chunk >= 0 && chunk < chunks) stage(chunk);
      --chunk;
    }
    if (round + 1 < chunks + depth - 1) MUSTER_RETURN_IF_ERROR(member.Step());
  }
  return absl::OkStatus();
}

int64_t Chunks(int64_t count, int64_t chunk) { return (count + chunk - 1) / chunk; }

void Copy(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

// Elements of a row that fit when `rows` of them share a staging buffer, in whole cache lines.
int64_t ElementsThatFit(const Member& member, const Operation& operation, int64_t rows) {
  return member.staging_bytes() / rows / 64 * 64 / operation.element_bytes();
}

// Copy in all rows; rank r reduces part r of the chunk into its own staging buffer; copy out the p parts.
absl::Status StagedAllReduce(Member& member, const Operation& operation) {
  const int64_t size = operation.element_bytes();
  const int64_t count = operation.what.count;
  const int64_t chunk_elements = ElementsThatFit(member, operation, operation.leaves->rows_max);
  const auto& rows = operation.leaves->rows;
  std::vector<const void*> sources;
  auto part_of = [&](int64_t chunk, int r) {
    const int64_t elements = PartOf(count, chunk_elements, chunk).count;
    return PartOf(elements, PartElements(elements, member.ranks(), size), r);
  };
  auto copy_in = [&](int64_t chunk) {
    const Range range = PartOf(count, chunk_elements, chunk);
    for (int row = 0; row < rows[static_cast<size_t>(member.rank())]; ++row) {
      Copy(member.staging(member.rank(), chunk) + row * chunk_elements * size,
           static_cast<const char*>(operation.input) + row * operation.stride_bytes + range.first * size, range.count * size);
    }
  };
  auto reduce = [&](int64_t chunk) {
    const Range part = part_of(chunk, member.rank());
    if (part.count == 0) return;
    sources.clear();
    for (int r = 0; r < member.ranks(); ++r) {
      for (int row = 0; row < rows[static_cast<size_t>(r)]; ++row) {
        sources.push_back(member.staging(r, chunk) + (row * chunk_elements + part.first) * size);
      }
    }
    void* const destination = member.staging(member.rank(), chunk) + part.first * size;
    Reduce(operation.leaves->plan, sources, part.count, operation.type(), operation.op(), {&destination, 1});
  };
  auto copy_out = [&](int64_t chunk) {
    char* const output = static_cast<char*>(operation.output) + chunk * chunk_elements * size;
    for (int r = 0; r < member.ranks(); ++r) {
      const Range part = part_of(chunk, r);
      Copy(output + part.first * size, member.staging(r, chunk) + part.first * size, part.count * size);
    }
  };
  return Pipeline(member, Chunks(count, chunk_elements), {copy_in, reduce, copy_out});
}

// Copy in the same piece of each of the p parts; rank r reduces the pieces of part r straight into its output.
absl::Status StagedReduceScatter(Member& member, const Operation& operation) {
  const int64_t size = operation.element_bytes();
  const int64_t part = operation.what.count / member.ranks();
  const int64_t piece_elements = ElementsThatFit(member, operation, member.ranks());
  std::vector<const void*> sources;
  auto copy_in = [&](int64_t chunk) {
    const Range piece = PartOf(part, piece_elements, chunk);
    for (int r = 0; r < member.ranks(); ++r) {
      Copy(member.staging(member.rank(), chunk) + r * piece_elements * size,
           static_cast<const char*>(operation.input) + (r * part + piece.first) * size, piece.count * size);
    }
  };
  auto reduce = [&](int64_t chunk) {
    const Range piece = PartOf(part, piece_elements, chunk);
    sources.clear();
    for (int r = 0; r < member.ranks(); ++r)
      sources.push_back(member.staging(r, chunk) + member.rank() * piece_elements * size);
    void* const destination = static_cast<char*>(operation.output) + piece.first * size;
    Reduce(operation.leaves->plan, sources, piece.count, operation.type(), operation.op(), {&destination, 1});
  };
  return Pipeline(member, Chunks(part, piece_elements), {copy_in, reduce});
}

absl::Status StagedAllGather(Member& member, const Operation& operation) {
  const int64_t bytes = operation.row_bytes();
  const int64_t chunk_bytes = member.staging_bytes();
  auto copy_in = [&](int64_t chunk) {
    const Range range = PartOf(bytes, chunk_bytes, chunk);
    Copy(member.staging(member.rank(), chunk), static_cast<const char*>(operation.input) + range.first, range.count);
  };
  auto copy_out = [&](int64_t chunk) {
    const Range range = PartOf(bytes, chunk_bytes, chunk);
    for (int i = 0; i < member.ranks(); ++i) {
      const int r = (member.rank() + i) % member.ranks();
      Copy(static_cast<char*>(operation.output) + r * bytes + range.first, member.staging(r, chunk), range.count);
    }
  };
  return Pipeline(member, Chunks(bytes, chunk_bytes), {copy_in, copy_out});
}

absl::Status StagedBroadcast(Member& member, const Operation& operation) {
  const int root = operation.what.root;
  const int64_t bytes = operation.row_bytes();
  const int64_t chunk_bytes = member.staging_bytes();
  auto copy_in = [&](int64_t chunk) {
    if (member.rank() != root) return;
    const Range range = PartOf(bytes, chunk_bytes, chunk);
    Copy(member.staging(root, chunk), static_cast<const char*>(operation.input) + range.first, range.count);
  };
  auto copy_out = [&](int64_t chunk) {
    if (member.rank() == root) return;
    const Range range = PartOf(bytes, chunk_bytes, chunk);
    Copy(static_cast<char*>(operation.output) + range.first, member.staging(root, chunk), range.count);
  };
  return Pipeline(member, Chunks(bytes, chunk_bytes), {copy_in, copy_out});
}

}  // namespace

absl::Status RunStaged(Member& member, const Operation& operation) {
  switch (operation.what.kind) {
    case v1::OpKind::kAllReduce:
    case v1::OpKind::kAllReduceShards:
      return StagedAllReduce(member, operation);
    case v1::OpKind::kReduceScatter:
      return StagedReduceScatter(member, operation);
    case v1::OpKind::kAllGather:
      return StagedAllGather(member, operation);
    case v1::OpKind::kBroadcast:
      return StagedBroadcast(member, operation);
    default:
      return absl::OkStatus();
  }
}

}  // namespace muster

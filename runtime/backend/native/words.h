// What ranks tell each other while they make something together: a window, a communicator.
#ifndef MUSTER_RUNTIME_BACKEND_NATIVE_WORDS_H_
#define MUSTER_RUNTIME_BACKEND_NATIVE_WORDS_H_

#include <cstdint>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/collectives/across_nodes.h"
#include "runtime/collectives/network.h"
#include "runtime/shm/member.h"

namespace muster {

// A small all-gather of kWordBytes a rank, by rank of the world, announced as `kind` with `count`. `network` null: all are on this
// node.
absl::Status ExchangeBytes(Member& member, Network* network, v1::OpKind kind, int64_t count, const void* own, void* all,
                           absl::Time deadline);

template <typename Word>
absl::StatusOr<std::vector<Word>> ExchangeWords(Member& member, Network* network, v1::OpKind kind, int64_t count,
                                                const Word& own, absl::Time deadline) {
  static_assert(sizeof(Word) == kWordBytes && std::is_trivially_copyable_v<Word>);
  std::vector<Word> words(static_cast<size_t>(member.world_size()));
  const absl::Status exchanged = ExchangeBytes(member, network, kind, count, &own, words.data(), deadline);
  if (!exchanged.ok()) return exchanged;
  return words;
}

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NATIVE_WORDS_H_

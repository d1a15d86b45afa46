#include "runtime/data/permutation.h"

#include <bit>

#include "runtime/base/log.h"
#include "runtime/data/mix.h"

namespace muster {

KeyedPermutation::KeyedPermutation(uint64_t size, uint64_t key) : size_(size) {
  MUSTER_CHECK(size >= 1 && size <= uint64_t{1} << 62, "a permutation needs a size in [1, 2^62]");
  half_bits_ = (std::bit_width(size - 1) + 1) / 2;
  for (size_t round = 0; round < round_keys_.size(); ++round) round_keys_[round] = Mix(key, round);
}

uint64_t KeyedPermutation::At(uint64_t index) const {
  MUSTER_CHECK(index < size_, "index beyond the permutation");
  if (size_ == 1) return 0;
  uint64_t value = index;
  do {
    value = Encrypt(value);
  } while (value >= size_);
  return value;
}

uint64_t KeyedPermutation::Encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_;
  uint64_t right = value & mask;
  for (const uint64_t round_key : round_keys_) {
    const uint64_t next = left ^ (Mix(right ^ round_key) & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

}  // namespace muster

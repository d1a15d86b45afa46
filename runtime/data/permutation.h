// A random order of 0..size-1 that needs no table: each place is computed from a key.
#ifndef MUSTER_RUNTIME_DATA_PERMUTATION_H_
#define MUSTER_RUNTIME_DATA_PERMUTATION_H_

#include <array>
#include <cstdint>

namespace muster {

// A bijection of [0, size) chosen by `key`; O(1) memory, a few dozen instructions a place. Immutable, so any thread.
//
// A balanced Feistel network over the smallest even number of bits that holds `size`; results outside [0, size) go round again
// until one falls inside (fewer than four rounds on average, because the domain is less than four times `size`).
// Source: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002 (cycle walking, generalised Feistel).
class KeyedPermutation {
 public:
  // size in [1, 2^62].
  KeyedPermutation(uint64_t size, uint64_t key);

  // The element at place `index`, index < size.
  uint64_t At(uint64_t index) const;
  uint64_t size() const { return size_; }

 private:
  uint64_t Encrypt(uint64_t value) const;

  uint64_t size_;
  int half_bits_;
  std::array<uint64_t, 8> round_keys_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_DATA_PERMUTATION_H_

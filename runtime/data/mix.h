// A 64-bit mixing function: nearby inputs give unrelated outputs, and no two inputs give the same.
#ifndef MUSTER_RUNTIME_DATA_MIX_H_
#define MUSTER_RUNTIME_DATA_MIX_H_

#include <cstdint>

namespace muster {

// Source: the output function of SplitMix64; Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
constexpr uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// For keys made of several numbers; the order matters.
constexpr uint64_t Mix(uint64_t a, uint64_t b) { return Mix(Mix(a) ^ (b * 0xd6e8feb86659fd93u + 0x2545f4914f6cdd1du)); }

}  // namespace muster

#endif  // MUSTER_RUNTIME_DATA_MIX_H_

// Whole numbers at fixed places of a message, little-endian whatever the processor.
#ifndef MUSTER_RUNTIME_TRANSPORT_WIRE_H_
#define MUSTER_RUNTIME_TRANSPORT_WIRE_H_

#include <cstddef>
#include <type_traits>

namespace muster {

// `at` has sizeof(T) bytes.
template <typename T>
void StoreWire(T value, char* at) {
  static_assert(std::is_unsigned_v<T>);
  for (size_t i = 0; i < sizeof(T); ++i) at[i] = static_cast<char>(value >> (8 * i) & 0xff);
}

template <typename T>
T LoadWire(const char* at) {
  static_assert(std::is_unsigned_v<T>);
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>(value | static_cast<T>(static_cast<unsigned char>(at[i])) << (8 * i));
  return value;
}

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_WIRE_H_

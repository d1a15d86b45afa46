// Whether two declarations of a C function let the same call through, though one of them knows the library's types and the other not.
#ifndef MUSTER_TESTS_SUPPORT_SAME_CALL_H_
#define MUSTER_TESTS_SUPPORT_SAME_CALL_H_

#include <type_traits>

namespace muster::test {

// Pointers are alike; numbers and enumerations where they have one size, and structures as well.
template <typename A, typename B>
constexpr bool Alike() {
  if constexpr (std::is_void_v<A> || std::is_void_v<B>) {
    return std::is_void_v<A> && std::is_void_v<B>;
  } else {
    constexpr bool number_a = std::is_integral_v<A> || std::is_enum_v<A>;
    constexpr bool number_b = std::is_integral_v<B> || std::is_enum_v<B>;
    return std::is_pointer_v<A> == std::is_pointer_v<B> && number_a == number_b && std::is_class_v<A> == std::is_class_v<B> &&
           sizeof(A) == sizeof(B);
  }
}

template <typename R1, typename... A1, typename R2, typename... A2>
constexpr bool SameCall(R1 (*)(A1...), R2 (*)(A2...)) {
  if constexpr (sizeof...(A1) != sizeof...(A2)) {
    return false;
  } else {
    return Alike<R1, R2>() && (Alike<A1, A2>() && ...);
  }
}

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_SAME_CALL_H_

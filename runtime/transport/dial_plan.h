// Whom a rank dials, in which order, and how many at once. Pure.
//
// A thousand ranks begin together. Were all to dial rank 0 first, its kernel's queue would drop what it cannot hold, and each dropped try
// waits a second; so each begins with its neighbour below, and has only so many tries on the way.
#ifndef MUSTER_RUNTIME_TRANSPORT_DIAL_PLAN_H_
#define MUSTER_RUNTIME_TRANSPORT_DIAL_PLAN_H_

#include <cstddef>
#include <vector>

namespace muster {

// Tries that a rank has on the way at once; who answers late is not counted among them (Dial::IsYoung).
inline constexpr int kDialsYoungMax = 32;

// Places in `peers` (ranks that differ, none of them `rank`, in any order) of those to be dialled: of two ranks the higher dials, so those
// below, the nearest first.
std::vector<size_t> DialOrder(int rank, const std::vector<int>& peers);

// How many tries may begin beside `young` ones.
class DialBudget {
 public:
  explicit DialBudget(int young) : left_(kDialsYoungMax - young) {}
  bool is_spent() const { return left_ <= 0; }
  // Whether one more may begin, which counts it.
  bool Take() { return !is_spent() && left_-- > 0; }

 private:
  int left_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_DIAL_PLAN_H_

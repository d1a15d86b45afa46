// Fault injection: one bit of one gradient is wrong.
#ifndef TRAIN_WORDS_FLIP_H_
#define TRAIN_WORDS_FLIP_H_

#include <algorithm>
#include <cmath>
#include <cstring>

#include "muster/trainer.h"

// Hands a pass on, and flips the top bit of the mantissa of the largest number in parameter 0's gradient as it becomes ready.
class FlippingPass final : public muster::Pass {
 public:
  explicit FlippingPass(muster::Pass& pass) : pass_(pass) {}

  std::span<const int64_t> samples() const override { return pass_.samples(); }
  std::span<const float> value(int parameter) const override { return pass_.value(parameter); }
  std::span<float> gradient(int parameter) override { return pass_.gradient(parameter); }
  void GradientReady(int parameter) override {
    if (parameter == 0) Flip(pass_.gradient(0));
    pass_.GradientReady(parameter);
  }
  void* stream() const override { return pass_.stream(); }
  void BackwardBegins() override { pass_.BackwardBegins(); }
  uint64_t random_seed() const override { return pass_.random_seed(); }
  int64_t step() const override { return pass_.step(); }
  int32_t shard() const override { return pass_.shard(); }

 private:
  static void Flip(std::span<float> gradient) {
    const auto smaller = [](float a, float b) { return std::abs(a) < std::abs(b); };
    float& largest = *std::max_element(gradient.begin(), gradient.end(), smaller);
    uint32_t bits;
    std::memcpy(&bits, &largest, sizeof(bits));
    bits ^= uint32_t{1} << 22;
    std::memcpy(&largest, &bits, sizeof(bits));
  }

  muster::Pass& pass_;
};

#endif  // TRAIN_WORDS_FLIP_H_

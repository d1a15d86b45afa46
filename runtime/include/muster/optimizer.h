// How parameters follow their gradients.
#ifndef MUSTER_OPTIMIZER_H_
#define MUSTER_OPTIMIZER_H_

#include <cstdint>
#include <functional>

namespace muster {

enum class OptimizerKind {
  kSgd,    // m' = momentum*m + g + decay*w;  w' = w - rate*m'
  kAdamW,  // Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2
};

// Element-wise and pure: the same numbers give the same bits on every machine with IEEE arithmetic. g is the gradient of the
// mean loss over the global batch.
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double learning_rate = 1e-3;
  double momentum = 0.9;       // kSgd
  double beta1 = 0.9;          // kAdamW
  double beta2 = 0.999;        // kAdamW
  double epsilon = 1e-8;       // kAdamW
  double weight_decay = 0.01;  // the same for all parameters

  // If set, learning_rate is multiplied by rate_factor(step), steps counted from 0. Must be a pure function of the step.
  std::function<double(int64_t step)> rate_factor;
};

}  // namespace muster

#endif  // MUSTER_OPTIMIZER_H_

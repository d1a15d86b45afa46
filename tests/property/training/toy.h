// A model small enough to reason about, trained on ranks of either kind.
#ifndef MUSTER_TESTS_PROPERTY_TRAINING_TOY_H_
#define MUSTER_TESTS_PROPERTY_TRAINING_TOY_H_

#include <cmath>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "muster/trainer.h"
#include "tests/support/fake_node.h"
#include "tests/support/thread_world.h"

namespace muster::test {

enum class Ranks { kThreadWorld, kNative };
inline std::ostream& operator<<(std::ostream& out, Ranks kind) {
  return out << (kind == Ranks::kNative ? "native" : "plain loops");
}

inline void RunOn(Ranks kind, int world_size, const std::function<void(Communicator&)>& body) {
  if (kind == Ranks::kNative) return RunRanks(world_size, body);
  ThreadWorld(world_size).Run(body);
}

inline std::vector<ParameterSpec> ToyParameters() {
  return {{"a", {33}, 0.5f}, {"b", {7, 5}, 0.5f}, {"c", {1}, 0.5f}, {"d", {64}, 0.5f}, {"e", {3}}};
}

// What sample `sample` adds to element `i` of a parameter's gradient: large numbers of either sign and small ones, so that the
// order of additions shows in the bits.
inline float ToyGradient(int64_t sample, int parameter, int64_t i, float value) {
  const uint64_t mixed =
      (static_cast<uint64_t>(sample) * 1000003u + static_cast<uint64_t>(parameter) * 10007u + static_cast<uint64_t>(i)) *
      0x9e3779b97f4a7c15u;
  const float small = static_cast<float>(mixed >> 40) * 0x1p-24f - 0.5f;
  const float large = (mixed & 7) == 0 ? 3000.0f : (mixed & 7) == 1 ? -3000.0f : 0.0f;
  return value + small + large;
}

inline absl::StatusOr<Loss> ToyPass(Pass& pass) {
  Loss loss;
  for (int parameter = static_cast<int>(ToyParameters().size()) - 1; parameter >= 0; --parameter) {
    const std::span<const float> value = pass.value(parameter);
    const std::span<float> gradient = pass.gradient(parameter);
    for (const int64_t sample : pass.samples()) {
      for (size_t i = 0; i < value.size(); ++i) {
        gradient[i] += ToyGradient(sample, parameter, static_cast<int64_t>(i), value[i]);
        loss.sum += value[i] * 0.1 + static_cast<double>(sample);
      }
    }
    pass.GradientReady(parameter);
  }
  loss.weight = 3 * static_cast<int64_t>(pass.samples().size());
  return loss;
}

// What must not depend on the world size.
struct ToyResult {
  std::string weights;
  std::string samples;
  std::vector<double> losses;
  int64_t cursor = 0;
  double evaluated = 0;
  friend bool operator==(const ToyResult&, const ToyResult&) = default;
  friend std::ostream& operator<<(std::ostream& out, const ToyResult& result) {
    out << result.weights << " " << result.samples << " " << result.cursor << " " << result.evaluated << " losses";
    for (const double loss : result.losses) out << " " << loss;
    return out;
  }
};

inline TrainerOptions ToyOptions() {
  TrainerOptions options;
  options.samples = 100;
  options.batch = 61;
  options.seed = 5;
  options.optimizer.learning_rate = 0.01;
  return options;
}

inline absl::StatusOr<ToyResult> TrainToy(Trainer& trainer, int steps, const Trainer::PassFunction& pass) {
  ToyResult result;
  while (trainer.step() < steps) {
    auto step = trainer.Step(pass);
    if (!step.ok()) return step.status();
    result.losses.push_back(step->loss);
  }
  auto evaluated = trainer.Evaluate(1000, [](int64_t begin, int64_t end) -> absl::StatusOr<Loss> {
    double sum = 0;
    for (; begin < end; ++begin) sum += std::sin(static_cast<double>(begin)) * 1e6;
    return Loss{sum, 1};
  });
  if (!evaluated.ok()) return evaluated.status();
  result.evaluated = evaluated->sum;
  if (absl::Status finished = trainer.Finish(); !finished.ok()) return finished;
  result.weights = trainer.ParametersSha256();
  result.samples = trainer.SamplesSha256();
  result.cursor = trainer.cursor();
  return result;
}

inline absl::StatusOr<ToyResult> TrainToy(Communicator& communicator, const TrainerOptions& options, int steps,
                                          const Trainer::PassFunction& pass = ToyPass) {
  auto trainer = Trainer::Create(communicator, ToyParameters(), options);
  if (!trainer.ok()) return trainer.status();
  return TrainToy(**trainer, steps, pass);
}

// Trains on `world_size` ranks; every rank must have the same result, which is returned. An error is a test's failure.
ToyResult TrainOn(Ranks kind, int world_size, const TrainerOptions& options, int steps,
                  const Trainer::PassFunction& pass = ToyPass);

}  // namespace muster::test

#endif  // MUSTER_TESTS_PROPERTY_TRAINING_TOY_H_

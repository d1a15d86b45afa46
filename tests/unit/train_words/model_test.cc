#include "examples/train_words/model.h"

#include <gtest/gtest.h>

#include <random>

#include "examples/train_words/bigram.h"
#include "examples/train_words/invent.h"
#include "examples/train_words/words.h"
#include "tests/support/thread_world.h"

namespace {

// A pass over plain vectors.
class PlainPass final : public muster::Pass {
 public:
  explicit PlainPass(const std::vector<muster::ParameterSpec>& parameters) {
    std::mt19937 random(7);
    for (const muster::ParameterSpec& parameter : parameters) {
      size_t count = 1;
      for (const int64_t extent : parameter.shape) count *= static_cast<size_t>(extent);
      values_.emplace_back(Padded(count), count);
      gradients_.emplace_back(Padded(count), count);
      std::uniform_real_distribution<float> uniform(-0.5f, 0.5f);
      for (float& value : Span(values_.back())) value = uniform(random);
    }
  }
  std::span<const int64_t> samples() const override { return {}; }
  std::span<const float> value(int i) const override { return Span(const_cast<Tensor&>(values_[i])); }
  std::span<float> gradient(int i) override { return Span(gradients_[i]); }
  void GradientReady(int i) override { ready_.push_back(i); }
  void* stream() const override { return nullptr; }
  void BackwardBegins() override {}
  uint64_t random_seed() const override { return 0; }
  int64_t step() const override { return 0; }
  int32_t shard() const override { return 0; }

  std::span<float> mutable_value(int i) { return Span(values_[i]); }
  const std::vector<int>& ready() const { return ready_; }

 private:
  struct alignas(64) Line {
    float floats[16] = {};
  };
  using Tensor = std::pair<std::vector<Line>, size_t>;
  static std::vector<Line> Padded(size_t count) { return std::vector<Line>((count + 15) / 16); }
  static std::span<float> Span(Tensor& tensor) { return {tensor.first[0].floats, tensor.second}; }

  std::vector<Tensor> values_;
  std::vector<Tensor> gradients_;
  std::vector<int> ready_;
};

TEST(Model, GradientsMatchFiniteDifferences) {
  const ModelShape shape{5, 3, 4, 6};
  Model model(shape);
  PlainPass pass(model.Parameters());
  const Word words[] = {{1, 2, 3}, {4}, {2, 2, 1, 4, 3}};
  const std::vector<const Word*> batch = {&words[0], &words[1], &words[2]};
  const muster::Loss loss = model.Train(pass, batch);
  EXPECT_EQ(loss.weight, 4 + 2 + 6);
  EXPECT_EQ(pass.ready(), (std::vector<int>{6, 5, 4, 3, 2, 1, 0}));
  Model::Values values;
  const int parameters = static_cast<int>(model.Parameters().size());
  for (int i = 0; i < parameters; ++i) values.push_back(pass.value(i));
  constexpr float kStep = 1.0f / 256;
  for (int i = 0; i < parameters; ++i) {
    for (size_t j = 0; j < pass.value(i).size(); ++j) {
      const float before = pass.value(i)[j];
      pass.mutable_value(i)[j] = before + kStep;
      const double above = model.Evaluate(values, batch).sum;
      pass.mutable_value(i)[j] = before - kStep;
      const double below = model.Evaluate(values, batch).sum;
      pass.mutable_value(i)[j] = before;
      EXPECT_NEAR((above - below) / (2 * kStep), pass.gradient(i)[j], 2e-3) << "parameter " << i << " element " << j;
    }
  }
}

TEST(Model, NextIsADistributionAndLossIsItsLogarithm) {
  Model model({5, 3, 4, 6});
  PlainPass pass(model.Parameters());
  Model::Values values;
  for (size_t i = 0; i < model.Parameters().size(); ++i) values.push_back(pass.value(static_cast<int>(i)));
  const Word word = {3, 1};
  const std::vector<float> first = model.Next(values, {}), second = model.Next(values, {3}), third = model.Next(values, {3, 1});
  double sum = 0;
  for (const float probability : first) sum += probability;
  EXPECT_NEAR(sum, 1, 1e-6);
  const std::vector<const Word*> batch = {&word};
  EXPECT_NEAR(model.Evaluate(values, batch).sum, -std::log(first[3]) - std::log(second[1]) - std::log(third[0]), 1e-5);
}

// A language with long memory (a vowel follows the same consonant always), which a bigram model cannot learn.
WordList RepeatingWords() {
  WordList words;
  words.characters = {U'a', U'b', U'c', U'd', U'e', U'f'};
  std::mt19937 random(3);
  for (int i = 0; i < 440; ++i) {
    const auto a = static_cast<int32_t>(random() % 6 + 1), b = static_cast<int32_t>(random() % 6 + 1);
    (i % 10 == 9 ? words.heldout : words.training).push_back({a, b, a, b, a, b});
  }
  return words;
}

TEST(Model, LearnsWhatABigramCannot) {
  const WordList words = RepeatingWords();
  Model model({words.symbols(), 4, 8, 24});
  muster::test::ThreadWorld world(1);
  muster::TrainerOptions options;
  options.samples = static_cast<int64_t>(words.training.size());
  options.batch = 32;
  options.optimizer.learning_rate = 0.01;
  auto trainer = muster::Trainer::Create(world.communicator(0), model.Parameters(), options);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  while ((*trainer)->step() < 150) {
    auto result = (*trainer)->Step([&](muster::Pass& pass) -> absl::StatusOr<muster::Loss> {
      std::vector<const Word*> batch;
      for (const int64_t sample : pass.samples()) batch.push_back(&words.training[sample]);
      return model.Train(pass, batch);
    });
    ASSERT_TRUE(result.ok()) << result.status();
  }
  Model::Values values;
  for (int i = 0; i < (*trainer)->parameters(); ++i) values.push_back((*trainer)->value(i));
  std::vector<const Word*> heldout;
  for (const Word& word : words.heldout) heldout.push_back(&word);
  const muster::Loss loss = model.Evaluate(values, heldout);
  const double bigram = BigramLoss(words.training, words.heldout, words.symbols());
  EXPECT_LT(loss.sum / static_cast<double>(loss.weight), bigram - 0.1) << "bigram " << bigram;

  const std::vector<std::string> invented = InventWords(model, values, words, 5, 1);
  EXPECT_EQ(invented, InventWords(model, values, words, 5, 1));
  for (const std::string& word : invented) EXPECT_GE(word.size(), 3u);
}

}  // namespace

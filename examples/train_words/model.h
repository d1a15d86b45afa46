// A character-level language model: embeddings of the characters before, two hidden layers, softmax over the next.
#ifndef TRAIN_WORDS_MODEL_H_
#define TRAIN_WORDS_MODEL_H_

#include <memory>
#include <span>
#include <vector>

#include "muster/trainer.h"
#include "positions.h"
#include "words.h"

struct ModelShape {
  int symbols = 0;   // kinds of characters, the end of a word included
  int context = 8;   // characters before the one to guess
  int embed = 32;    // numbers a character
  int hidden = 128;  // units in each of the two layers
};

// Bengio, Ducharme, Vincent, Jauvin, "A neural probabilistic language model", JMLR 3 (2003) 1137-1155, over characters and with
// tanh units. Holds the activations of the words it saw last; the parameters are the trainer's. One thread.
class Model {
 public:
  using Values = std::vector<std::span<const float>>;  // one for each of Parameters()

  explicit Model(const ModelShape& shape);
  ~Model();

  std::vector<muster::ParameterSpec> Parameters() const;

  // The summed loss of `words`, whose gradients it adds to the pass; weight: characters, ends of words included.
  muster::Loss Train(muster::Pass& pass, std::span<const Word* const> words);

  // The summed loss alone.
  muster::Loss Evaluate(const Values& values, std::span<const Word* const> words);

  // Probabilities of the symbol that follows `prefix`.
  std::vector<float> Next(const Values& values, const Word& prefix);

 private:
  struct Activations;
  muster::Loss Forward(const Values& values);
  void Backward(const Values& values, muster::Pass& pass);

  const ModelShape shape_;
  Positions positions_;
  std::unique_ptr<Activations> at_;
};

#endif  // TRAIN_WORDS_MODEL_H_

#include "invent.h"

#include <random>
#include <set>

namespace {

constexpr size_t kLengthMax = 24;

// Symbols until the end of the word, or until it is too long.
Word Draw(Model& model, const Model::Values& values, std::mt19937_64& random) {
  Word word;
  while (word.size() < kLengthMax) {
    const std::vector<float> probabilities = model.Next(values, word);
    double rest = static_cast<double>(random() >> 11) * 0x1p-53;
    size_t symbol = 0;
    while (symbol + 1 < probabilities.size() && (rest -= probabilities[symbol]) >= 0) ++symbol;
    if (symbol == 0) break;
    word.push_back(static_cast<int32_t>(symbol));
  }
  return word;
}

}  // namespace

std::vector<std::string> InventWords(Model& model, const Model::Values& values, const WordList& words, int count,
                                     uint64_t seed) {
  std::set<Word> known(words.training.begin(), words.training.end());
  known.insert(words.heldout.begin(), words.heldout.end());
  std::mt19937_64 random(seed);
  std::vector<std::string> invented;
  for (int tries = 0; tries < 100 * count && invented.size() < static_cast<size_t>(count); ++tries) {
    Word word = Draw(model, values, random);
    if (word.size() < 3 || word.size() == kLengthMax || !known.insert(word).second) continue;
    invented.push_back(Spell(words, word));
  }
  return invented;
}

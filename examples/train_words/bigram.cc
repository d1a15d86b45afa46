#include "bigram.h"

#include <cmath>
#include <cstdint>

namespace {

// `counts` turned into probabilities in which `prior` has the weight of the kinds seen.
std::vector<double> Smooth(const std::vector<int64_t>& counts, const std::vector<double>& prior) {
  double seen = 0, kinds = 0;
  for (const int64_t count : counts) seen += static_cast<double>(count), kinds += count > 0;
  std::vector<double> probabilities(prior);
  if (seen == 0) return probabilities;
  for (size_t i = 0; i < counts.size(); ++i)
    probabilities[i] = (static_cast<double>(counts[i]) + kinds * prior[i]) / (seen + kinds);
  return probabilities;
}

template <typename Visit>
void ForEachPair(const std::vector<Word>& words, const Visit& visit) {
  for (const Word& word : words) {
    int32_t before = 0;
    for (const int32_t symbol : word) visit(before, symbol), before = symbol;
    visit(before, 0);
  }
}

}  // namespace

double BigramLoss(const std::vector<Word>& training, const std::vector<Word>& heldout, int symbols) {
  std::vector<int64_t> singles(symbols);
  std::vector<std::vector<int64_t>> pairs(symbols, std::vector<int64_t>(symbols));
  ForEachPair(training, [&](int32_t before, int32_t symbol) { ++singles[symbol], ++pairs[before][symbol]; });
  const std::vector<double> single = Smooth(singles, std::vector<double>(symbols, 1.0 / symbols));
  std::vector<std::vector<double>> pair;
  for (const std::vector<int64_t>& counts : pairs) pair.push_back(Smooth(counts, single));
  double sum = 0, characters = 0;
  ForEachPair(heldout, [&](int32_t before, int32_t symbol) { sum -= std::log(pair[before][symbol]), ++characters; });
  return sum / characters;
}

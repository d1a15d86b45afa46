// What the model learns from: each character of a word, guessed from those before it.
#ifndef TRAIN_WORDS_POSITIONS_H_
#define TRAIN_WORDS_POSITIONS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "words.h"

struct Positions {
  std::vector<int32_t> contexts;  // positions x `context` symbols, the farthest first; 0 before the word's beginning
  std::vector<int32_t> targets;   // by position: the symbol to guess; 0, the end, after the last character

  // Of all characters of `words`, ends included.
  static Positions Of(std::span<const Word* const> words, int context) {
    Positions positions;
    for (const Word* word : words) {
      for (size_t i = 0; i < word->size(); ++i) positions.Add(*word, i, (*word)[i], context);
      positions.Add(*word, word->size(), 0, context);
    }
    return positions;
  }

  void Add(const Word& word, size_t position, int32_t target, int context) {
    for (int back = context; back > 0; --back) {
      contexts.push_back(static_cast<size_t>(back) <= position ? word[position - static_cast<size_t>(back)] : 0);
    }
    targets.push_back(target);
  }
};

#endif  // TRAIN_WORDS_POSITIONS_H_

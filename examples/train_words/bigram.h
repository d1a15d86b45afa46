// The model to beat: the next symbol depends on the one before, and on nothing else.
#ifndef TRAIN_WORDS_BIGRAM_H_
#define TRAIN_WORDS_BIGRAM_H_

#include <vector>

#include "words.h"

// Nats per character, ends of words included, of a bigram model that counts `training` and is asked for `heldout`. Counts are
// interpolated with those of single symbols (Witten and Bell, IEEE Trans. Inf. Theory 37(4), 1991, method C), and these with
// the uniform distribution, so that nothing has probability zero.
double BigramLoss(const std::vector<Word>& training, const std::vector<Word>& heldout, int symbols);

#endif  // TRAIN_WORDS_BIGRAM_H_

// Words that are not in the list, made by the model.
#ifndef TRAIN_WORDS_INVENT_H_
#define TRAIN_WORDS_INVENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "model.h"
#include "words.h"

// `count` different words of three letters or more, drawn symbol by symbol from the model; fewer if it knows no more after many
// tries. The same arguments give the same words.
std::vector<std::string> InventWords(Model& model, const Model::Values& values, const WordList& words, int count,
                                     uint64_t seed);

#endif  // TRAIN_WORDS_INVENT_H_

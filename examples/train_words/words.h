// A text file of lines as a list of words, split into words to train on and words held out.
#ifndef TRAIN_WORDS_WORDS_H_
#define TRAIN_WORDS_WORDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// A word's characters as symbols: 0 is the end of a word (and stands before its beginning), symbol s > 0 is characters[s - 1].
using Word = std::vector<int32_t>;

struct WordList {
  std::vector<char32_t> characters;  // every code point of the file, ascending
  std::vector<Word> training;        // in the order of the file
  std::vector<Word> heldout;         // every tenth line that is not empty
  uint64_t fingerprint = 0;          // of the file's bytes

  int symbols() const { return static_cast<int>(characters.size()) + 1; }
};

// One word a line, UTF-8; empty lines are skipped, a carriage return at the end of a line too.
// Errors: NotFound for a file that cannot be read; InvalidArgument for no word at all, fewer
// than ten, or a byte that is not UTF-8 (with its line). All name `path`.
absl::StatusOr<WordList> ReadWords(const std::string& path);

// The same from memory; `name` stands for the path in errors.
absl::StatusOr<WordList> ParseWords(absl::string_view text, absl::string_view name);

// UTF-8.
std::string Spell(const WordList& words, const Word& word);

#endif  // TRAIN_WORDS_WORDS_H_

#include "words.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace {

constexpr int kHoldOutEvery = 10;

// The code point at the start of `text`, which it consumes; false if there is none (RFC 3629: no overlong form, no surrogate).
bool DecodeCharacter(absl::string_view& text, char32_t& character) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0);
  size_t length = 0;
  char32_t smallest = 0;
  if (first < 0x80) {
    length = 1, character = first;
  } else if ((first & 0xe0) == 0xc0) {
    length = 2, character = first & 0x1f, smallest = 0x80;
  } else if ((first & 0xf0) == 0xe0) {
    length = 3, character = first & 0x0f, smallest = 0x800;
  } else if ((first & 0xf8) == 0xf0) {
    length = 4, character = first & 0x07, smallest = 0x10000;
  } else {
    return false;
  }
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return false;
    character = character << 6 | (byte(i) & 0x3f);
  }
  if (character < smallest || character > 0x10ffff || (character >= 0xd800 && character <= 0xdfff)) return false;
  text.remove_prefix(length);
  return true;
}

void AppendCharacter(char32_t c, std::string& text) {
  const auto tail = [&](int shift) { text.push_back(static_cast<char>(0x80 | ((c >> shift) & 0x3f))); };
  if (c < 0x80) {
    text.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    text.push_back(static_cast<char>(0xc0 | c >> 6)), tail(0);
  } else if (c < 0x10000) {
    text.push_back(static_cast<char>(0xe0 | c >> 12)), tail(6), tail(0);
  } else {
    text.push_back(static_cast<char>(0xf0 | c >> 18)), tail(12), tail(6), tail(0);
  }
}

// FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/
uint64_t FingerprintOf(absl::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

absl::StatusOr<std::vector<std::u32string>> DecodeLines(absl::string_view text, absl::string_view name) {
  std::vector<std::u32string> lines;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (absl::EndsWith(line, "\r")) line.remove_suffix(1);
    std::u32string word;
    const size_t size = line.size();
    while (!line.empty()) {
      char32_t character = 0;
      if (!DecodeCharacter(line, character)) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%s, line %d: byte %d (0x%02x) is not UTF-8; convert the file, for "
                            "example with iconv -f latin1 -t utf8",
                            name, number, size - line.size() + 1, static_cast<unsigned char>(line[0])));
      }
      word.push_back(character);
    }
    if (!word.empty()) lines.push_back(std::move(word));
  }
  return lines;
}

}  // namespace

absl::StatusOr<WordList> ParseWords(absl::string_view text, absl::string_view name) {
  absl::StatusOr<std::vector<std::u32string>> lines = DecodeLines(text, name);
  if (!lines.ok()) return lines.status();
  if (lines->size() < kHoldOutEvery) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s holds %d words; one in %d is held out, so at least %d are needed (one word "
                        "a line)",
                        name, lines->size(), kHoldOutEvery, kHoldOutEvery));
  }
  WordList words;
  words.fingerprint = FingerprintOf(text);
  std::set<char32_t> characters;
  for (const std::u32string& line : *lines) characters.insert(line.begin(), line.end());
  words.characters.assign(characters.begin(), characters.end());
  std::map<char32_t, int32_t> symbols;
  for (const char32_t c : words.characters) symbols.emplace(c, static_cast<int32_t>(symbols.size()) + 1);
  for (size_t i = 0; i < lines->size(); ++i) {
    Word word;
    for (const char32_t c : (*lines)[i]) word.push_back(symbols[c]);
    (i % kHoldOutEvery == kHoldOutEvery - 1 ? words.heldout : words.training).push_back(std::move(word));
  }
  return words;
}

absl::StatusOr<WordList> ReadWords(const std::string& path) {
  std::string text;
  errno = 0;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  char block[1 << 16];
  while (file != nullptr) {
    const size_t size = std::fread(block, 1, sizeof(block), file.get());
    if (size == 0) break;
    text.append(block, size);
  }
  if (file == nullptr || std::ferror(file.get())) {
    return absl::NotFoundError(absl::StrFormat("cannot read %s: %s", path, std::strerror(errno)));
  }
  return ParseWords(text, path);
}

std::string Spell(const WordList& words, const Word& word) {
  std::string text;
  for (const int32_t symbol : word) AppendCharacter(words.characters[symbol - 1], text);
  return text;
}

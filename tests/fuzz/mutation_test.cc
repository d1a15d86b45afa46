// Runs a fuzz target over its corpus and over random mutations of it, without libFuzzer.
//
// MUSTER_TEST_SEED replays a run; MUSTER_TEST_INPUTS says how many inputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace muster {
namespace {

constexpr size_t kInputBytesMax = 8192;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

std::vector<std::string> Corpus() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(MUSTER_FUZZ_CORPUS)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> inputs;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

void RunInput(const std::string& input) { LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size()); }

void Mutate(std::string* input, const std::vector<std::string>& corpus, std::mt19937_64& random) {
  const auto below = [&random](size_t limit) { return limit == 0 ? size_t{0} : static_cast<size_t>(random() % limit); };
  const size_t at = below(input->size() + 1);
  const size_t length = std::min(below(40), input->size() - at);
  switch (random() % 8) {
    case 0:
      if (at < input->size()) (*input)[at] = static_cast<char>((*input)[at] ^ (1 << below(8)));
      break;
    case 1:
      if (at < input->size()) (*input)[at] = static_cast<char>(random());
      break;
    case 2: {  // a number at an edge
      const uint64_t edges[] = {
          0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, uint64_t{1} << 48, ~uint64_t{0} >> 1, ~uint64_t{0}};
      const uint64_t value = edges[below(std::size(edges))];
      for (size_t i = 0; i < (size_t{1} << below(4)) && at + i < input->size(); ++i) {
        (*input)[at + i] = static_cast<char>(value >> (8 * i));
      }
      break;
    }
    case 3:
      input->erase(at, length);
      break;
    case 4:
      input->insert(at, input->substr(at, length));
      break;
    case 5:
      for (size_t i = below(20); i > 0; --i) input->insert(at, 1, static_cast<char>(random()));
      break;
    case 6:
      input->resize(at);
      break;
    default: {  // the rest of another
      const std::string& other = corpus[below(corpus.size())];
      input->resize(at);
      input->append(other, below(other.size()));
    }
  }
  if (input->size() > kInputBytesMax) input->resize(kInputBytesMax);
}

TEST(Fuzz, MutationsOfTheCorpusBreakNoPromise) {
  const std::vector<std::string> corpus = Corpus();
  ASSERT_FALSE(corpus.empty()) << "no corpus in " << MUSTER_FUZZ_CORPUS;
  for (const std::string& input : corpus) RunInput(input);
  const uint64_t seed = FromEnvironment("MUSTER_TEST_SEED", std::random_device()());
  // Said first: a broken promise ends the process.
  std::printf("replay: MUSTER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  std::mt19937_64 random(seed);
  for (uint64_t i = FromEnvironment("MUSTER_TEST_INPUTS", 20'000); i > 0; --i) {
    std::string input = corpus[random() % corpus.size()];
    for (uint64_t mutations = 1 + random() % 6; mutations > 0; --mutations) Mutate(&input, corpus, random);
    RunInput(input);
  }
}

}  // namespace
}  // namespace muster

// The example's model, whose arithmetic is Eigen's, has the same bits at every world size.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "examples/train_words/flip.h"
#include "examples/train_words/model.h"
#include "muster/trainer.h"
#include "runtime/base/mutex.h"
#include "tests/support/fake_node.h"

namespace muster::test {
namespace {

WordList SomeWords() {
  std::string text;
  for (int i = 0; i < 300; ++i) {
    for (int j = i * 7 % 11; j >= 0; --j) text.push_back(static_cast<char>('a' + (i * 13 + j * j * 5) % 26));
    text.push_back('\n');
  }
  auto words = ParseWords(text, "text");
  EXPECT_TRUE(words.ok()) << words.status();
  return *words;
}

// The weights' hash after a few steps, the same on all ranks; `flip`: a rank whose gradient has one wrong bit, or -1.
std::string Train(int world_size, const WordList& words, const TrainerOptions& options, int flip = -1) {
  Mutex mutex;
  std::map<std::string, int> hashes;
  RunRanks(world_size, [&](Communicator& communicator) {
    Model model({words.symbols(), 5, 12, 40});
    auto trainer = Trainer::Create(communicator, model.Parameters(), options);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    bool once = flip == communicator.rank();
    while ((*trainer)->step() < 6) {
      auto result = (*trainer)->Step([&](Pass& pass) -> absl::StatusOr<Loss> {
        std::vector<const Word*> batch;
        for (const int64_t sample : pass.samples()) batch.push_back(&words.training[sample]);
        if (!std::exchange(once, false)) return model.Train(pass, batch);
        FlippingPass flipping(pass);
        return model.Train(flipping, batch);
      });
      ASSERT_TRUE(result.ok()) << result.status();
    }
    MutexLock lock(mutex);
    ++hashes[(*trainer)->ParametersSha256()];
  });
  EXPECT_EQ(hashes.size(), 1u);
  return hashes.empty() ? "" : hashes.begin()->first;
}

TEST(TrainWords, HasTheSameBitsAtEveryWorldSize) {
  const WordList words = SomeWords();
  for (const int32_t accumulate : {1, 2}) {
    TrainerOptions options;
    options.samples = static_cast<int64_t>(words.training.size());
    options.batch = 37;
    options.accumulate = accumulate;
    const std::string alone = Train(1, words, options);
    for (const int world_size : {2, 3, 4, 5, 8}) {
      for (const int64_t bucket_bytes : {1 << 10, 1 << 20}) {
        options.bucket_bytes = bucket_bytes;
        EXPECT_EQ(Train(world_size, words, options), alone) << absl::StrCat(world_size, " ranks, buckets of ", bucket_bytes);
      }
    }
  }
}

TEST(TrainWords, OneWrongBitOnAnyRankShows) {
  const WordList words = SomeWords();
  TrainerOptions options;
  options.samples = static_cast<int64_t>(words.training.size());
  options.batch = 37;
  const std::string right = Train(1, words, options);
  for (int rank = 0; rank < 3; ++rank) EXPECT_NE(Train(3, words, options, rank), right) << rank;
}

}  // namespace
}  // namespace muster::test

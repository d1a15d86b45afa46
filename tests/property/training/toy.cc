#include "tests/property/training/toy.h"

#include "gtest/gtest.h"
#include "runtime/base/mutex.h"

namespace muster::test {

ToyResult TrainOn(Ranks kind, int world_size, const TrainerOptions& options, int steps, const Trainer::PassFunction& pass) {
  Mutex mutex;
  std::vector<ToyResult> results;
  RunOn(kind, world_size, [&](Communicator& communicator) {
    auto result = TrainToy(communicator, options, steps, pass);
    MutexLock lock(mutex);
    EXPECT_TRUE(result.ok()) << result.status();
    if (result.ok()) results.push_back(*result);
  });
  EXPECT_EQ(static_cast<int>(results.size()), world_size);
  for (const ToyResult& result : results) EXPECT_EQ(result, results[0]) << "ranks differ";
  return results.empty() ? ToyResult{} : results[0];
}

}  // namespace muster::test

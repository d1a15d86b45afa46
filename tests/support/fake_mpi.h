// An MPI library in memory: ranks are threads. Can fail, hang, and be started badly.
#ifndef MUSTER_TESTS_SUPPORT_FAKE_MPI_H_
#define MUSTER_TESTS_SUPPORT_FAKE_MPI_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "muster/communicator.h"
#include "runtime/backend/mpi/mpi.h"
#include "runtime/base/mutex.h"

namespace muster::test {

struct FakeMpiOptions {
  int ranks = 1;
  int start_code = 0;  // what Start returns
  // Asked at each look at a collective, counted from 0 on each rank: its code, kMpiOk to go on, kHangs to look as if it were not done.
  std::function<int(int rank, int64_t collective)> look;
  // Asked when a rank comes to a Split: true when its process ends there, once the others are in theirs, where they stay for ever.
  std::function<bool(int rank)> dies_in_split;
  bool for_several_threads = true;
};
inline constexpr int kHangs = -100;

// As a real library does, it writes to a rank's buffers only while that rank looks. Outlives the communicators.
class FakeMpi {
 public:
  explicit FakeMpi(FakeMpiOptions options);
  ~FakeMpi();

  MpiApi& api(int rank);
  bool ended(int rank) const;           // MPI_Finalize has been called
  int64_t collectives(int rank) const;  // that `rank` has begun

 private:
  class Rank;
  struct Collective {
    std::vector<std::string> inputs;  // by rank
    int arrived = 0;
    std::string result;  // reductions: over all ranks
  };
  struct Splitting {
    std::vector<std::pair<int, int>> asked;  // color and key, by rank
    int arrived = 0;
    bool is_done = false;
    std::vector<Rank*> some;  // by rank
  };
  // The ranks of one communicator.
  struct Group {
    int number = 0;               // 0: all ranks
    std::vector<int> world_rank;  // by rank
    std::map<int64_t, Collective> collectives;
    std::map<int64_t, Splitting> splits;
    int farewells = 0;
    std::map<int, std::deque<std::string>> news;  // by who is told

    int ranks() const { return static_cast<int>(world_rank.size()); }
  };

  const FakeMpiOptions options_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Group> groups_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Rank>> ranks_ ABSL_GUARDED_BY(mutex_);  // of all groups; first those of all ranks
  std::vector<char> ended_ ABSL_GUARDED_BY(mutex_);
};

// Runs `body` on a thread for each rank, with options changed by `change`; a rank leaves when its body returns.
void RunRanks(FakeMpi& mpi, int ranks, const std::function<void(Communicator&)>& body,
              const std::function<void(int rank, MpiOptions&)>& change = nullptr);

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_FAKE_MPI_H_

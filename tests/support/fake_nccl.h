// NCCL in memory, on the streams of a FakeCuda: ranks are threads. Can refuse, hang and fail, and lack what older libraries lack.
#ifndef MUSTER_TESTS_SUPPORT_FAKE_NCCL_H_
#define MUSTER_TESTS_SUPPORT_FAKE_NCCL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "muster/communicator.h"
#include "runtime/backend/nccl/nccl.h"
#include "runtime/base/mutex.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/fake_node.h"

namespace muster::test {

inline constexpr int kNcclHangs = -100;

struct FakeNcclOptions {
  NcclPowers powers = {true, true, true, true, true, true};
  // What making a communicator comes to on `rank`: kNcclOk, an error, or kNcclHangs.
  std::function<int(int rank)> start;
  // The same of a collective, counted from 0 on each communicator, on the stream of `rank`: an error is an asynchronous one, and what
  // runs hangs after it. Its peers then wait for it.
  std::function<int(int rank, int64_t collective)> runs;
  std::function<bool(int rank)> abort_hangs;  // until the FakeNccl is destroyed
  std::function<bool(int rank)> revoke_fails;
  std::function<void(int rank)> is_asked_for_words;  // of an error
};

// As NCCL's, its collectives run only once all ranks have put theirs on a stream, hang where one never does, and write nothing after
// they were aborted; the calls of a non-blocking communicator are in progress at first, and what they put on the stream comes when
// AsyncError has been asked; 16-bit floats are rounded at each hop, and minima and maxima pass NaN by. What would hang or corrupt memory
// in NCCL without a word ends the test: calls that differ, a communicator used after its end, a kernel's communicator destroyed.
class FakeNccl {
 public:
  FakeNccl(FakeCuda& cuda, FakeNcclOptions options = {});
  ~FakeNccl();

  // Of `rank` of the world, which names it in the options.
  std::shared_ptr<NcclApi> api(int rank);
  // What `rank` has called, by the names of NcclApi's methods; the collectives' own left out.
  std::vector<std::string> calls(int rank) const;
  int64_t communicators() const;  // not yet aborted or destroyed
  int64_t registered() const;     // memory

 private:
  class Rank;
  struct Comm;
  struct Clique;
  struct Collective;
  struct Shared;

  const std::shared_ptr<Shared> shared_;
};

// Runs `body` on a thread for each rank of `node`, with options changed by `change`; rank r has GPU r of `cuda`. A rank leaves when its
// body returns. `failed` gets the Status of a rank that has no communicator.
void RunNcclRanks(FakeCuda& cuda, FakeNccl& nccl, FakeNode& node, const std::function<void(Communicator&)>& body,
                  const std::function<void(int rank, NcclOptions&)>& change = nullptr,
                  const std::function<void(int rank, const absl::Status&)>& failed = nullptr);

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_FAKE_NCCL_H_

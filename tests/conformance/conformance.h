// What every backend must do, run over the worlds that a binary has: the ranks of one backend, as threads or as processes.
#ifndef MUSTER_TESTS_CONFORMANCE_CONFORMANCE_H_
#define MUSTER_TESTS_CONFORMANCE_CONFORMANCE_H_

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "muster/communicator.h"

namespace muster::test {

struct World {
  std::string name;  // letters and digits
  int ranks = 1;
  // Runs `body` once for each rank that lives in this process, with its communicator, and returns when all have returned. A rank
  // whose body returns has left. Worlds of processes have one communicator for all tests: of the tests named Breaks... each needs a
  // run of its own.
  std::function<void(const std::function<void(Communicator&)>& body)> run;
  // Whether buffers of equal calls lie in the same kinds of memory: only then are sums repeated bit for bit.
  bool buffers_stay = true;

  friend void PrintTo(const World& world, std::ostream* out) { *out << world.name; }
};

// Defined by each binary; called after InitGoogleTest.
std::vector<World> ConformanceWorlds();

}  // namespace muster::test

#endif  // MUSTER_TESTS_CONFORMANCE_CONFORMANCE_H_

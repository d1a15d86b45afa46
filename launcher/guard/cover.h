// How far the promise goes, on this machine, that no descendant of a worker outlives its job.
#ifndef MUSTER_LAUNCHER_GUARD_COVER_H_
#define MUSTER_LAUNCHER_GUARD_COVER_H_

#include <string>

#include "launcher/guard/guard_client.h"

namespace muster {

struct CoverReport {
  TreeCover cover;
  std::string reason;  // one sentence for an operator
};

// Tries, in a child that ends at once, what a guard would do at its start. Changes nothing; takes about a millisecond. No other
// thread of the caller may wait for any child meanwhile.
CoverReport ProbeTreeCover();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_GUARD_COVER_H_

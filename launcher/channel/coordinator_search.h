// Which of a coordinator's addresses reaches it from here, and from which address of ours: all are tried, each a little later than
// the one before, and the first that answers is taken. No resolver is asked.
//
// Behind some address another machine may listen at the same port (private networks look alike), so who is tried must answer with the
// mark of the job's authority. That only finds the way; who it really is TLS proves later.
//
// Source: RFC 8305 (Happy Eyeballs), section 5.
#ifndef MUSTER_LAUNCHER_CHANNEL_COORDINATOR_SEARCH_H_
#define MUSTER_LAUNCHER_CHANNEL_COORDINATOR_SEARCH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

// What a search says first; at the coordinator's door (front_door.h) it is answered with SearchAnswer, and counted as nobody's
// intrusion.
inline constexpr absl::string_view kSearchGreeting = "muster";
// One line that tells jobs apart.
std::string SearchAnswer(const std::string& authority_pem);

struct FoundCoordinator {
  std::string coordinator;    // "10.0.0.1:4242", "[::1]:4242"
  std::string local_address;  // numeric, without a port or a scope
};

// `coordinators`: as in FoundCoordinator. Blocks the calling thread for at most `within`, trying again and again, or until something
// is to be read from `line` (-1: none), which ends with whoever wants the coordinator found. Errors: InvalidArgument (not numeric),
// Cancelled (the line has ended), Unavailable (one sentence: each address with what happened there, and the remedy).
absl::StatusOr<FoundCoordinator> FindCoordinator(const std::vector<std::string>& coordinators, const std::string& authority_pem,
                                                 absl::Duration within, int line = -1);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_COORDINATOR_SEARCH_H_

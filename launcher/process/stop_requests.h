// Who has asked a job to end, and which requests are one.
#ifndef MUSTER_LAUNCHER_PROCESS_STOP_REQUESTS_H_
#define MUSTER_LAUNCHER_PROCESS_STOP_REQUESTS_H_

#include <cstddef>
#include <utility>

namespace muster {

// A second request means now. A batch system sends its SIGTERM to every process of a job, so what comes once from each of several
// askers is one request; only an asker that asks again means it. Pure.
class StopRequests {
 public:
  enum class Asker { kCommand, kSignal, kBatchSystem, kMuster };  // the batch system asks by the agents

  // Whether this request counts.
  bool Ask(Asker asker) {
    const bool known = has_asked(Asker::kCommand) || has_asked(Asker::kSignal) || has_asked(Asker::kBatchSystem);
    const bool again = std::exchange(asked_[static_cast<size_t>(asker)], true);
    return asker == Asker::kMuster || again || !known;
  }
  bool has_asked(Asker asker) const { return asked_[static_cast<size_t>(asker)]; }

 private:
  bool asked_[4] = {};
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_STOP_REQUESTS_H_

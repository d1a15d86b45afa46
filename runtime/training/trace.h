// Where the time of a step goes, as a picture: spans in Chrome's trace format, which https://ui.perfetto.dev opens.
#ifndef MUSTER_RUNTIME_TRAINING_TRACE_H_
#define MUSTER_RUNTIME_TRAINING_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "muster/communicator.h"

namespace muster {

// One rank's spans. One thread. Times are wall-clock, so that ranks of one machine line up. Keeps the first kSpansMax spans;
// what comes after is counted, and the trace says so.
//
// Format: "Trace Event Format", Google, 2016: complete ("X") and metadata ("M") events; times in microseconds. A rank is a
// process; its thread 0 is the program's own, thread 1 the communicator's progress thread.
class Trace {
 public:
  static constexpr size_t kSpansMax = 200'000;
  enum class Track : int { kCompute = 0, kCommunication = 1 };

  // `name` and `category` are plain ASCII without quotes or backslashes.
  void Add(Track track, absl::string_view category, absl::string_view name, absl::Time begin, absl::Time end, int64_t step);

  // This rank's events, each followed by ",\n".
  std::string Events(int rank) const;

  // Collective. Rank 0 writes the events of all ranks to `path` as one JSON object.
  absl::Status Write(Communicator& communicator, const std::string& path) const;

 private:
  struct Span {
    Track track;
    std::string category;
    std::string name;
    absl::Time begin;
    absl::Time end;
    int64_t step;
  };
  std::vector<Span> spans_;
  int64_t dropped_ = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_TRACE_H_

#include "launcher/agent/stdin_fan_out.h"

#include <algorithm>
#include <utility>

#include "runtime/base/status.h"

namespace muster {

absl::Status StdinFanOut::Add(UniqueFd worker_fd) {
  const size_t reader = readers_.size();
  MUSTER_ASSIGN_OR_RETURN(auto fed,
                          FedStdin::Start(loop_, std::move(worker_fd), [this, reader](bool closed) { Taken(reader, closed); }));
  readers_.push_back({.fed = std::move(fed)});
  return absl::OkStatus();
}

void StdinFanOut::Feed(const std::string& bytes, bool end) {
  for (Reader& reader : readers_) {
    reader.owes = true;
    reader.fed->Feed(bytes, end);
  }
}

void StdinFanOut::Taken(size_t reader, bool closed) {
  readers_[reader].closed = closed;
  readers_[reader].owes = false;
  if (std::any_of(readers_.begin(), readers_.end(), [](const Reader& one) { return one.owes; })) return;
  taken_(std::all_of(readers_.begin(), readers_.end(), [](const Reader& one) { return one.closed; }));
}

}  // namespace muster

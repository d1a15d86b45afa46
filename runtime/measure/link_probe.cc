#include "runtime/measure/link_probe.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int64_t kLimitNanoseconds = 5'000'000'000;

class Prober {
 public:
  Prober(Mesh& mesh, int rank, int peer, uint64_t turn) : mesh_(mesh), first_(rank < peer), peer_(peer), turn_(turn) {}

  absl::StatusOr<LinkProbe> Probe() {
    LinkProbe probe;
    MUSTER_RETURN_IF_ERROR(Latency(&probe.latency_ns));
    // How much is worth sending the first, small exchange says; both take the lower of what each has seen.
    int64_t rough_ns = 0;
    MUSTER_RETURN_IF_ERROR(Exchange(kProbeBytesMin, &rough_ns));
    int64_t own = kProbeBytesMin * kProbeNanoseconds / std::max<int64_t>(rough_ns, 1), others = 0;
    MUSTER_RETURN_IF_ERROR(Move(&own, sizeof own, &others, sizeof others));
    const int64_t bytes = std::clamp(std::min(own, others), kProbeBytesMin, kProbeBytesMax);
    int64_t took_ns = 0;
    MUSTER_RETURN_IF_ERROR(Exchange(bytes, &took_ns));
    probe.bytes_per_second = static_cast<double>(bytes) * 1e9 / static_cast<double>(std::max<int64_t>(took_ns, 1));
    return probe;
  }

 private:
  // Sends and receives at the same time.
  absl::Status Move(const void* out, int64_t to_send, void* in, int64_t to_receive) {
    MeshTransfer sent, received;
    const MeshTag tag = {turn_, segment_++};
    if (to_receive > 0) mesh_.Receive(peer_, tag, in, to_receive, &received);
    if (to_send > 0) mesh_.Send(peer_, tag, out, to_send, &sent);
    const auto failure =
        mesh_.Progress([&] { return (to_send == 0 || sent.done) && (to_receive == 0 || received.done); }, [] { return false; },
                       MonotonicNanoseconds() + kLimitNanoseconds, absl::Milliseconds(1));
    if (!failure) return absl::OkStatus();
    if (failure->reason == v1::AbortReason::kDeadline) {
      return absl::DeadlineExceededError(absl::StrCat("rank ", peer_, " does not answer within 5s"));
    }
    return absl::UnavailableError(absl::StrCat("rank ", peer_, ": ", failure->text.empty() ? "is lost" : failure->text));
  }

  absl::Status Latency(int64_t* best_ns) {
    int64_t word = 0;
    for (int ping = 0; ping < kPings; ++ping) {
      const int64_t begin = MonotonicNanoseconds();
      if (first_) MUSTER_RETURN_IF_ERROR(Move(&word, sizeof word, nullptr, 0));
      MUSTER_RETURN_IF_ERROR(Move(nullptr, 0, &word, sizeof word));
      if (!first_) MUSTER_RETURN_IF_ERROR(Move(&word, sizeof word, nullptr, 0));
      const int64_t half = std::max<int64_t>(1, (MonotonicNanoseconds() - begin) / 2);
      *best_ns = ping == 0 ? half : std::min(*best_ns, half);
    }
    // The second of the two waits for its peer's next ping, which is not the way: the first one's word counts.
    return first_ ? Move(best_ns, sizeof *best_ns, nullptr, 0) : Move(nullptr, 0, best_ns, sizeof *best_ns);
  }

  absl::Status Exchange(int64_t bytes, int64_t* took_ns) {
    out_.resize(static_cast<size_t>(bytes));
    in_.resize(static_cast<size_t>(bytes));
    const int64_t begin = MonotonicNanoseconds();
    MUSTER_RETURN_IF_ERROR(Move(out_.data(), bytes, in_.data(), bytes));
    *took_ns = MonotonicNanoseconds() - begin;
    return absl::OkStatus();
  }

  Mesh& mesh_;
  const bool first_;
  const int peer_;
  const uint64_t turn_;
  uint32_t segment_ = 0;
  std::vector<char> out_, in_;
};

}  // namespace

absl::StatusOr<LinkProbe> ProbeLink(Mesh& mesh, int rank, int peer, uint64_t turn) {
  return Prober(mesh, rank, peer, turn).Probe();
}

}  // namespace muster

// muster-measure-worker: one rank a node; measures the ways between pairs of ranks as rank 0 reads from standard input.
//
//   round 0-1 2-3          pairs that measure at the same time; ranks of 0 to world size - 1, none twice
//   round 0-2 1-3
//
// until the end of the input. Rank 0 writes "name RANK HOST" for each rank first, then "link A B LATENCY_NS BYTES_PER_SECOND" for each
// pair, and "end" last. Rounds begin together on all ranks, so no pair disturbs one of another round.
#include <limits.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "muster/session.h"
#include "muster/tensor.h"
#include "runtime/base/status.h"
#include "runtime/measure/link_probe.h"
#include "runtime/measure/rank_mesh.h"

namespace muster {
namespace {

constexpr size_t kNameBytes = 64;
constexpr size_t kRoundsMax = 100'000;

// Partner of each rank in each round, -1 for none, one round after the other.
absl::StatusOr<std::vector<int32_t>> ReadRounds(std::istream& input, int ranks) {
  std::vector<int32_t> partners;
  std::string line;
  while (std::getline(input, line)) {
    if (line.empty()) continue;
    std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words[0] != "round") return absl::InvalidArgumentError(absl::StrCat("\"", line.substr(0, 40), "\" is no round"));
    std::vector<int32_t> round(static_cast<size_t>(ranks), -1);
    for (size_t i = 1; i < words.size(); ++i) {
      const std::pair<std::string, std::string> pair = absl::StrSplit(words[i], absl::MaxSplits('-', 1));
      int a = -1, b = -1;
      const bool numbers = absl::SimpleAtoi(pair.first, &a) && absl::SimpleAtoi(pair.second, &b);
      if (!numbers || a < 0 || b < 0 || a >= ranks || b >= ranks || a == b || round[static_cast<size_t>(a)] >= 0 ||
          round[static_cast<size_t>(b)] >= 0) {
        return absl::InvalidArgumentError(absl::StrCat("\"", words[i].substr(0, 40), "\" is no pair of ", ranks, " ranks"));
      }
      round[static_cast<size_t>(a)] = b;
      round[static_cast<size_t>(b)] = a;
    }
    partners.insert(partners.end(), round.begin(), round.end());
    if (partners.size() > kRoundsMax * static_cast<size_t>(ranks))
      return absl::InvalidArgumentError("there are too many rounds");
  }
  return partners;
}

absl::Status SayNames(Communicator& world) {
  char own[HOST_NAME_MAX + 1] = "";
  ::gethostname(own, sizeof own - 1);
  std::vector<uint8_t> name(kNameBytes), names(kNameBytes * static_cast<size_t>(world.world_size()));
  std::string(own).copy(reinterpret_cast<char*>(name.data()), kNameBytes - 1);
  MUSTER_RETURN_IF_ERROR(world.AllGather(MakeTensor(name.data(), static_cast<int64_t>(name.size())),
                                         MakeTensor(names.data(), static_cast<int64_t>(names.size()))));
  for (int rank = 0; world.rank() == 0 && rank < world.world_size(); ++rank) {
    std::printf("name %d %s\n", rank, reinterpret_cast<const char*>(names.data() + kNameBytes * static_cast<size_t>(rank)));
  }
  return absl::OkStatus();
}

absl::Status Run() {
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, Session::Create());
  Communicator& world = session->world();
  if (session->local_world_size() != 1) {
    return absl::InvalidArgumentError("ranks of one node do not measure each other; start one a node: --nproc-per-node 1");
  }
  MUSTER_RETURN_IF_ERROR(SayNames(world));

  // A schedule that nobody can read ends all ranks, not rank 0 alone.
  absl::StatusOr<std::vector<int32_t>> partners = std::vector<int32_t>();
  if (world.rank() == 0) partners = ReadRounds(std::cin, world.world_size());
  int64_t words = partners.ok() ? static_cast<int64_t>(partners->size()) : -1;
  MUSTER_RETURN_IF_ERROR(world.Broadcast(MakeTensor(&words, 1), 0));
  if (words < 0) return world.rank() == 0 ? partners.status() : absl::OkStatus();
  partners->resize(static_cast<size_t>(words));
  if (words > 0) MUSTER_RETURN_IF_ERROR(world.Broadcast(MakeTensor(partners->data(), words), 0));

  const char* const master = std::getenv("MASTER_ADDR");
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Mesh> mesh,
                          ConnectRanks(world, master == nullptr ? "" : master, 1, absl::Now() + absl::Seconds(60)));
  const auto ranks = static_cast<size_t>(world.world_size());
  std::vector<double> results(2 * ranks);
  for (size_t round = 0; round * ranks < partners->size(); ++round) {
    const int peer = (*partners)[round * ranks + static_cast<size_t>(world.rank())];
    double own[2] = {0, 0};
    MUSTER_RETURN_IF_ERROR(world.Barrier());
    if (peer >= 0) {
      MUSTER_ASSIGN_OR_RETURN(const LinkProbe probe, ProbeLink(*mesh, world.rank(), peer, round + 1));
      own[0] = static_cast<double>(probe.latency_ns);
      own[1] = probe.bytes_per_second;
    }
    MUSTER_RETURN_IF_ERROR(
        world.AllGather(MakeTensor(own, 2), MakeTensor(results.data(), static_cast<int64_t>(results.size()))));
    for (size_t rank = 0; world.rank() == 0 && rank < ranks; ++rank) {
      const int other = (*partners)[round * ranks + rank];
      // Both have seen the exchange; the slower one's end is when both were done.
      if (other <= static_cast<int>(rank)) continue;
      const double speed = std::min(results[2 * rank + 1], results[2 * static_cast<size_t>(other) + 1]);
      std::printf("link %zu %d %.0f %.0f\n", rank, other, results[2 * rank], speed);
    }
    std::fflush(stdout);
  }
  MUSTER_RETURN_IF_ERROR(world.Barrier());
  if (world.rank() == 0) std::printf("end\n");
  return absl::OkStatus();
}

}  // namespace
}  // namespace muster

int main() {
  const absl::Status status = muster::Run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "muster-measure-worker: %s\n", std::string(status.message()).c_str());
  return 1;
}

// One node of an all-reduce between nodes, for wire_test.py and scripts/bench: checks its sums, times it and says what share of a
// link's rate it reaches.
//
//   wire_allreduce NODE RANKS BYTES ROUNDS window|private GBIT_PER_S ADDRESS...
//
// Its ranks are threads, RANKS of them; ADDRESS is each node's. Node 0 prints one line: seconds of the median round, and the bytes
// that must cross a node's link, 2(N-1)/N of the vector, over what the link could carry meanwhile.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/backend/native/native.h"
#include "runtime/base/log.h"
#include "runtime/transport/socket.h"
#include "tests/support/fake_node.h"

namespace muster::test {
namespace {

constexpr uint16_t kFirstPort = 20'000;  // of a network namespace that nobody else uses

SocketAddress AddressOf(const char* text, int rank) {
  SocketAddress address;
  MUSTER_CHECK(::inet_pton(AF_INET, text, address.bytes.data()) == 1, text);
  address.port = static_cast<uint16_t>(kFirstPort + rank);
  return address;
}

std::unique_ptr<Mesh> Connect(int rank, const std::vector<int>& peers, const std::vector<SocketAddress>& places) {
  sockaddr_storage storage;
  const socklen_t length = ToSockaddr(places[static_cast<size_t>(rank)], &storage);
  MeshOptions options;
  options.listener = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(options.listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  MUSTER_CHECK(::bind(options.listener.get(), reinterpret_cast<sockaddr*>(&storage), length) == 0, std::strerror(errno));
  options.job_id = "0123456789abcdef";
  options.generation = 1;
  options.key = std::string(32, 'k');
  options.rank = rank;
  for (int peer : peers) options.peers.push_back({peer, 0, places[static_cast<size_t>(peer)], "node"});
  auto mesh = Mesh::Connect(std::move(options), absl::Now() + absl::Seconds(30), [] { return false; });
  MUSTER_CHECK(mesh.ok(), mesh.status().ToString());
  return *std::move(mesh);
}

int Main(int argc, char** argv) {
  if (argc < 9) {
    std::fprintf(stderr, "usage: wire_allreduce NODE RANKS BYTES ROUNDS window|private GBIT_PER_S ADDRESS...\n");
    return 64;
  }
  const int node_number = std::atoi(argv[1]);
  const int ranks = std::atoi(argv[2]);
  const int64_t bytes = std::atoll(argv[3]);
  const int rounds = std::atoi(argv[4]);
  const bool in_window = std::string(argv[5]) == "window";
  const double bytes_per_second = std::atof(argv[6]) * 1e9 / 8;
  const int nodes = argc - 7;
  FakeNodeOptions options;
  options.ranks = ranks;
  options.node = node_number;
  std::vector<SocketAddress> places;
  for (int n = 0; n < nodes; ++n) {
    for (int r = 0; r < ranks; ++r) {
      options.node_of_rank.push_back(n);
      places.push_back(AddressOf(argv[7 + n], n * ranks + r));
    }
  }
  options.connect = [&](int rank) { return Connect(rank, MeshPeers(options.node_of_rank, rank), places); };
  FakeNode node(options);
  RunRanks(node, [&](Communicator& comm) {
    std::vector<float> memory(static_cast<size_t>(bytes / 4));
    std::unique_ptr<Window> window;
    if (in_window) {
      auto made = comm.CreateWindow(bytes);
      MUSTER_CHECK(made.ok(), made.status().ToString());
      window = *std::move(made);
    }
    float* const data = in_window ? static_cast<float*>(window->data()) : memory.data();
    std::vector<double> seconds;
    for (int round = -1; round < rounds; ++round) {  // the first one warms up
      // Whole numbers, so that sums are exact; a place that is filled from another one shows.
      for (int64_t i = 0; i < bytes / 4; ++i) data[i] = static_cast<float>(comm.rank() + round + i % 8191);
      MUSTER_CHECK(comm.Barrier().ok(), "barrier");
      const absl::Time begin = absl::Now();
      const absl::Status status = comm.AllReduce(MakeTensor(data, bytes / 4), ReduceOp::kSum);
      MUSTER_CHECK(status.ok(), status.ToString());
      if (round >= 0) seconds.push_back(absl::ToDoubleSeconds(absl::Now() - begin));
      const int64_t world = comm.world_size();
      for (int64_t i = 0; i < bytes / 4; ++i) {
        const auto sum = static_cast<float>(world * (round + i % 8191) + world * (world - 1) / 2);
        MUSTER_CHECK(data[i] == sum, absl::StrCat("element ", i, " is ", data[i], " and not ", sum));
      }
    }
    if (comm.rank() != 0) return;
    std::sort(seconds.begin(), seconds.end());
    const double needed = 2.0 * (nodes - 1) / nodes * static_cast<double>(bytes) / bytes_per_second;
    const double median = seconds[seconds.size() / 2];
    std::printf("median %.6f s %.3f\n", median, needed / median);
  });
  return 0;
}

}  // namespace
}  // namespace muster::test

int main(int argc, char** argv) { return muster::test::Main(argc, argv); }

// What the mesh costs over TCP itself: two processes exchange messages over loopback, in turns through a plain loop over one
// connection and through a mesh of 1 to 4 streams. The fastest and the median of many calls, and the ratio of plain to mesh.
//
//   mesh_exchange [--spin US] [--segment BYTES] [--calls N] [BYTES...]
//
// 8 bytes are passed to and fro (half of a round trip is given); more are sent and received at the same time.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/transport/mesh.h"
#include "runtime/transport/socket.h"

namespace muster {
namespace {

struct Options {
  int64_t spin_us = 1000;
  int64_t segment = 512 * 1024;
  int calls = 0;  // 0: by size
  std::vector<int64_t> sizes;
};

void Check(bool good, const char* what) {
  if (good) return;
  std::perror(what);
  std::exit(1);
}

struct Listener {
  SocketAddress address = {4, {127, 0, 0, 1}};
  UniqueFd fd;
};
Listener Bind() {
  Listener made;
  sockaddr_storage storage;
  socklen_t length = ToSockaddr(made.address, &storage);
  made.fd.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Check(
      made.fd && ::bind(made.fd.get(), reinterpret_cast<sockaddr*>(&storage), length) == 0 && ::listen(made.fd.get(), 64) == 0,
      "bind");
  length = sizeof storage;
  ::getsockname(made.fd.get(), reinterpret_cast<sockaddr*>(&storage), &length);
  made.address = FromSockaddr(storage);
  return made;
}

// One connection and nothing else: the least that moves bytes.
class Plain {
 public:
  Plain(int rank, Listener* listener) {
    if (rank == 0) {
      fd_.Reset(::accept4(listener->fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    } else {
      sockaddr_storage storage;
      const socklen_t length = ToSockaddr(listener->address, &storage);
      fd_.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      Check(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&storage), length) == 0, "connect");
    }
    const int on = 1;
    ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::fcntl(fd_.get(), F_SETFL, O_NONBLOCK);
  }
  void Move(const char* out, int64_t to_send, char* in, int64_t to_receive) {
    while (to_send > 0 || to_receive > 0) {
      if (to_send > 0) {
        const ssize_t sent = ::send(fd_.get(), out, static_cast<size_t>(to_send), MSG_NOSIGNAL);
        if (sent > 0) out += sent, to_send -= sent;
      }
      if (to_receive > 0) {
        const ssize_t got = ::recv(fd_.get(), in, static_cast<size_t>(to_receive), 0);
        Check(got != 0, "the other process has ended");
        if (got > 0) in += got, to_receive -= got;
      }
    }
  }

 private:
  UniqueFd fd_;
};

class Meshed {
 public:
  Meshed(const Options& options, int rank, int streams, Listener* listener) : options_(options), peer_(1 - rank) {
    MeshOptions mesh;
    mesh.job_id = std::string(16, 'j');
    mesh.generation = 1;
    mesh.key = std::string(32, 'k');
    mesh.rank = rank;
    mesh.streams = streams;
    mesh.peers = {{peer_, 0, listener->address, "here"}};
    if (rank == 0) mesh.listener = std::move(listener->fd);
    auto made = Mesh::Connect(std::move(mesh), absl::Now() + absl::Seconds(30), [] { return false; });
    if (!made.ok()) std::fprintf(stderr, "%s\n", made.status().ToString().c_str());
    Check(made.ok(), "mesh");
    mesh_ = *std::move(made);
  }
  void Move(const char* out, int64_t to_send, char* in, int64_t to_receive) {
    ++op_;
    std::vector<MeshTransfer> transfers(2 * static_cast<size_t>(std::max(to_send, to_receive) / options_.segment + 1));
    size_t used = 0;
    for (int64_t at = 0; at < to_receive; at += options_.segment) {
      mesh_->Receive(peer_, {op_, static_cast<uint32_t>(at / options_.segment)}, in + at,
                     std::min(options_.segment, to_receive - at), &transfers[used++]);
    }
    for (int64_t at = 0; at < to_send; at += options_.segment) {
      mesh_->Send(peer_, {op_, static_cast<uint32_t>(at / options_.segment)}, out + at,
                  std::min(options_.segment, to_send - at), &transfers[used++]);
    }
    const auto failure = mesh_->Progress(
        [&] { return std::all_of(transfers.begin(), transfers.begin() + used, [](const MeshTransfer& t) { return t.done; }); },
        [] { return false; }, INT64_MAX, absl::Microseconds(options_.spin_us));
    if (failure) std::fprintf(stderr, "%s\n", failure->text.c_str());
    Check(!failure, "mesh");
  }

 private:
  const Options& options_;
  const int peer_;
  uint64_t op_ = 0;
  std::unique_ptr<Mesh> mesh_;
};

template <typename Way>
int64_t Call(Way& way, int rank, int64_t bytes, const std::vector<char>& out, std::vector<char>& in) {
  char token = 0;
  if (rank == 0) {  // both begin together
    way.Move(&token, 1, nullptr, 0);
    way.Move(nullptr, 0, &token, 1);
  } else {
    way.Move(nullptr, 0, &token, 1);
    way.Move(&token, 1, nullptr, 0);
  }
  const int64_t begin = MonotonicNanoseconds();
  if (bytes <= 64) {
    for (int round = 0; round < 10; ++round) {
      if (rank == 0) way.Move(out.data(), bytes, nullptr, 0);
      way.Move(nullptr, 0, in.data(), bytes);
      if (rank == 1) way.Move(out.data(), bytes, nullptr, 0);
    }
    return (MonotonicNanoseconds() - begin) / 20;
  }
  way.Move(out.data(), bytes, in.data(), bytes);
  return MonotonicNanoseconds() - begin;
}

void Run(const Options& options, int rank, std::vector<Listener>& listeners) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(rank, &one);
  ::sched_setaffinity(0, sizeof one, &one);
  Plain plain(rank, &listeners[0]);
  std::deque<Meshed> meshed;
  for (int streams = 1; streams <= 4; ++streams)
    meshed.emplace_back(options, rank, streams, &listeners[static_cast<size_t>(streams)]);
  if (rank == 0) std::printf("%10s  %-6s %10s %10s %9s\n", "bytes", "way", "best us", "median us", "plain/way");
  for (const int64_t bytes : options.sizes) {
    const int calls = options.calls > 0
                          ? options.calls
                          : static_cast<int>(std::clamp<int64_t>((256 << 20) / std::max<int64_t>(bytes, 1), 9, 300));
    std::vector<char> out(static_cast<size_t>(bytes), 'o'), in(static_cast<size_t>(bytes), 'i');
    std::vector<std::vector<int64_t>> times(5);
    for (int call = -3; call < calls; ++call) {
      for (size_t way = 0; way < times.size(); ++way) {
        const int64_t time = way == 0 ? Call(plain, rank, bytes, out, in) : Call(meshed[way - 1], rank, bytes, out, in);
        if (call >= 0) times[way].push_back(time);
      }
    }
    if (rank != 0) continue;
    double plain_median = 0;
    for (size_t way = 0; way < times.size(); ++way) {
      std::sort(times[way].begin(), times[way].end());
      const double best = static_cast<double>(times[way].front()) / 1e3;
      const double median = static_cast<double>(times[way][times[way].size() / 2]) / 1e3;
      if (way == 0) plain_median = median;
      std::printf("%10lld  %-6s %10.1f %10.1f %9.2f\n", static_cast<long long>(bytes),
                  way == 0 ? "plain" : ("mesh " + std::to_string(way)).c_str(), best, median, plain_median / median);
    }
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::atoll(argv[++i]) : 0; };
    if (flag == "--spin") {
      options.spin_us = value();
    } else if (flag == "--segment") {
      options.segment = std::max<int64_t>(1, value());
    } else if (flag == "--calls") {
      options.calls = static_cast<int>(value());
    } else if (std::atoll(argv[i]) > 0) {
      options.sizes.push_back(std::atoll(argv[i]));
    } else {
      std::fprintf(stderr, "usage: mesh_exchange [--spin US] [--segment BYTES] [--calls N] [BYTES...]\n");
      return 64;
    }
  }
  if (options.sizes.empty()) options.sizes = {8, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20};
  std::vector<Listener> listeners;
  for (int i = 0; i <= 4; ++i) listeners.push_back(Bind());
  const pid_t child = ::fork();
  Check(child >= 0, "fork");
  if (child == 0) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Run(options, child == 0 ? 1 : 0, listeners);
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  return 0;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }

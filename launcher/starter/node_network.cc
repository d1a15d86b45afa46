#include "launcher/starter/node_network.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// So many nodes know each other's link addresses from the beginning; more learn them by ARP.
constexpr uint32_t kNeighboursMax = 256;
constexpr uint32_t kCoordinatorLink = 0xffff;

// Locally administered (RFC 7042).
std::string LinkAddress(uint32_t node) { return absl::StrFormat("02:6d:75:73:%02x:%02x", node >> 8 & 0xff, node & 0xff); }

std::string Neighbour(const std::string& address, uint32_t node, absl::string_view device) {
  return absl::StrCat("neighbor replace ", address, " lladdr ", LinkAddress(node), " dev ", device, " nud permanent\n");
}

// iproute2's command, which is not in every user's PATH.
std::string FindIp() {
  for (const char* path : {"/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return "";
}

std::string ReadToTheEnd(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t bytes;
  while ((bytes = ::read(fd, buffer, sizeof buffer)) > 0 || (bytes < 0 && errno == EINTR)) {
    if (bytes > 0) text.append(buffer, static_cast<size_t>(bytes));
  }
  return text;
}

// `ip -batch -` with these lines, in the calling thread's namespace. Its words, for whoever has to mend it, come as the error.
absl::Status RunIp(const std::string& ip, const std::string& lines) {
  int commands[2], words[2];
  if (::pipe2(commands, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe for ip");
  UniqueFd commands_read(commands[0]), commands_write(commands[1]);
  if (::pipe2(words, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe for ip");
  UniqueFd words_read(words[0]), words_write(words[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, commands_read.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, words_write.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, words_write.get(), STDERR_FILENO);
  const char* argv[] = {"ip", "-batch", "-", nullptr};
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, ip.c_str(), &actions, nullptr, const_cast<char* const*>(argv), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoToStatus(error, absl::StrCat("start ", ip));
  commands_read.Reset();
  words_write.Reset();
  for (size_t done = 0; done < lines.size();) {
    const ssize_t bytes = ::write(commands_write.get(), lines.data() + done, lines.size() - done);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) break;  // it has ended, and its words say why
    done += static_cast<size_t>(bytes);
  }
  commands_write.Reset();
  const std::string said = ReadToTheEnd(words_read.get());
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  const std::vector<std::string> said_lines = absl::StrSplit(absl::StripAsciiWhitespace(said), '\n');
  return absl::UnavailableError(absl::StrCat("`ip` cannot make the nodes' network here: ", said_lines[0]));
}

}  // namespace

std::string NodeNetwork::NodeAddress(uint32_t node) { return absl::StrCat("10.77.", 1 + node / 250, ".", 1 + node % 250); }

absl::StatusOr<NodeNetwork::Place> NodeNetwork::Here() {
  Place place;
  place.network.Reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  place.host_name.Reset(::open("/proc/thread-self/ns/uts", O_RDONLY | O_CLOEXEC));
  if (!place.network || !place.host_name) return ErrnoToStatus(errno, "open /proc/thread-self/ns");
  return place;
}

absl::Status NodeNetwork::Enter(const Place& place) {
  if (::setns(place.network.get(), CLONE_NEWNET) != 0 || ::setns(place.host_name.get(), CLONE_NEWUTS) != 0) {
    return ErrnoToStatus(errno, "enter a node's namespaces");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<NodeNetwork>> NodeNetwork::Create(uint32_t nodes, const std::vector<std::string>& host_names) {
  MUSTER_ASSIGN_OR_RETURN(const Place before, Here());
  std::unique_ptr<NodeNetwork> network(new NodeNetwork);
  if (absl::Status built = network->Build(nodes, host_names); !built.ok()) {
    // Where already the first step is refused, to go back would be as well.
    MUSTER_CHECK(!network->moved_ || Enter(before).ok(), "back to where we were");
    return built;
  }
  return network;
}

absl::Status NodeNetwork::Build(uint32_t nodes, const std::vector<std::string>& host_names) {
  if (nodes > kNodesMax) return absl::InvalidArgumentError(absl::StrCat("at most ", kNodesMax, " nodes in one machine"));
  const std::string ip = FindIp();
  if (ip.empty()) return absl::NotFoundError("there is no `ip` here (package iproute2)");
  if (::unshare(CLONE_NEWNET | CLONE_NEWUTS) != 0) {
    return ErrnoToStatus(errno, "a network namespace of its own is refused here (it takes root, or CAP_SYS_ADMIN)");
  }
  moved_ = true;
  MUSTER_ASSIGN_OR_RETURN(coordinator_, Here());
  for (uint32_t node = 0; node < nodes; ++node) {
    if (::unshare(CLONE_NEWNET | CLONE_NEWUTS) != 0) return ErrnoToStatus(errno, "a node's network namespace");
    std::string host = node < host_names.size() ? host_names[node] : absl::StrCat("node", node);
    host.resize(std::min<size_t>(host.size(), HOST_NAME_MAX));
    if (::sethostname(host.c_str(), host.size()) != 0) return ErrnoToStatus(errno, "a node's host name");
    MUSTER_ASSIGN_OR_RETURN(Place place, Here());
    nodes_.push_back(std::move(place));
  }
  MUSTER_RETURN_IF_ERROR(Enter(coordinator_));
  std::string lines =
      absl::StrCat("link set lo up\nlink add muster0 address ", LinkAddress(kCoordinatorLink), " type bridge\naddress add ",
                   CoordinatorAddress(), "/16 dev muster0\nlink set muster0 up\n");
  for (uint32_t node = 0; node < nodes; ++node) {
    absl::StrAppend(&lines, "link add node", node, " type veth peer name eth0 address ", LinkAddress(node), " netns /proc/",
                    ::getpid(), "/fd/", nodes_[node].network.get(), "\nlink set node", node, " master muster0 up\n",
                    Neighbour(NodeAddress(node), node, "muster0"));
  }
  MUSTER_RETURN_IF_ERROR(RunIp(ip, lines));
  // What ARP learns counts towards one bound for the whole machine (neigh/default/gc_thresh3, 1024 unless root has raised it): 33 nodes
  // that all talk to each other exceed it, and then packets are lost at random. Permanent entries do not count.
  std::string neighbours = Neighbour(CoordinatorAddress(), kCoordinatorLink, "eth0");
  for (uint32_t node = 0; nodes <= kNeighboursMax && node < nodes; ++node)
    neighbours += Neighbour(NodeAddress(node), node, "eth0");
  for (uint32_t node = 0; node < nodes; ++node) {
    MUSTER_RETURN_IF_ERROR(Inside(node, [&] {
      return RunIp(
          ip, absl::StrCat("link set lo up\naddress add ", NodeAddress(node), "/16 dev eth0\nlink set eth0 up\n", neighbours));
    }));
  }
  return absl::OkStatus();
}

absl::Status NodeNetwork::Inside(uint32_t node, const std::function<absl::Status()>& start) const {
  MUSTER_RETURN_IF_ERROR(Enter(nodes_[node]));
  const absl::Status started = start();
  MUSTER_CHECK(Enter(coordinator_).ok(), "back to the coordinator's namespace");
  return started;
}

}  // namespace muster

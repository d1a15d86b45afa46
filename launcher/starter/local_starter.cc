#include "launcher/starter/local_starter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/starter/child.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int kTicketFd = 3;  // in the agent

}  // namespace

absl::StatusOr<std::unique_ptr<LocalStarter>> LocalStarter::Create(EventLoop* loop, LocalStarterOptions options,
                                                                   Callbacks callbacks,
                                                                   const std::function<void(const std::string& line)>& warn) {
  using Network = LocalStarterOptions::Network;
  std::unique_ptr<LocalStarter> starter(new LocalStarter(loop, std::move(options), std::move(callbacks)));
  const LocalStarterOptions& chosen = starter->options_;
  if (chosen.network == Network::kNamespaces || (chosen.network == Network::kAuto && chosen.nodes > 1)) {
    auto network = NodeNetwork::Create(chosen.nodes, chosen.host_names);
    if (network.ok()) {
      starter->network_ = *std::move(network);
    } else if (chosen.network == Network::kNamespaces) {
      warn(absl::StrCat("nodes share this machine's network: ", network.status().message()));
    }
  }
  starter->listen_address_ = starter->network_ != nullptr ? NodeNetwork::CoordinatorAddress() : "127.0.0.1";
  return starter;
}

LocalStarter::~LocalStarter() { EndAll(); }

std::string LocalStarter::NodeAddress(uint32_t node) const {
  if (network_ != nullptr) return NodeNetwork::NodeAddress(node);
  const uint32_t host = 1 + node;  // 127.0.0.0/8 is all of this machine
  return absl::StrCat("127.", host >> 16 & 0xff, ".", host >> 8 & 0xff, ".", host & 0xff);
}

std::string LocalStarter::HostName(uint32_t node) const {
  return node < options_.host_names.size() ? options_.host_names[node] : absl::StrCat("node", node);
}

absl::Status LocalStarter::Start(uint32_t node, const std::string& coordinator, const std::string& ticket) {
  if (agents_.count(node) != 0) return absl::FailedPreconditionError(absl::StrCat("the agent of node ", node, " still runs"));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe for a ticket");
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  // A ticket is far shorter than what a pipe holds.
  const std::string line = ticket + "\n";
  if (::write(write_end.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    return ErrnoToStatus(errno, "write a ticket");
  }
  write_end.Reset();
  Process process;
  const auto spawn = [&] { return Spawn(node, coordinator, read_end.get(), &process.pid); };
  MUSTER_RETURN_IF_ERROR(network_ != nullptr ? network_->Inside(node, spawn) : spawn());
  process.pidfd.Reset(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  absl::Status watched =
      process.pidfd.valid() ? absl::OkStatus() : ErrnoToStatus(errno, absl::StrCat("watch the agent of node ", node));
  if (watched.ok()) watched = loop_->Add(process.pidfd.get(), EPOLLIN, [this, node](uint32_t) { OnEnded(node); });
  if (!watched.ok()) {
    ::kill(process.pid, SIGKILL);
    ::waitpid(process.pid, nullptr, 0);
    return watched;
  }
  agents_[node] = std::move(process);
  return absl::OkStatus();
}

absl::Status LocalStarter::Spawn(uint32_t node, const std::string& coordinator, int ticket_fd, pid_t* pid) {
  std::vector<std::string> words = {"muster",        "agent",
                                    "--coordinator", coordinator,
                                    "--ticket-fd",   absl::StrCat(kTicketFd),
                                    "--host",        HostName(node),
                                    "--address",     NodeAddress(node)};
  words.insert(words.end(), options_.arguments.begin(), options_.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, ticket_fd, kTicketFd);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, kTicketFd + 1);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int error = ::posix_spawn(pid, options_.program.c_str(), &actions, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? absl::OkStatus() : ErrnoToStatus(error, absl::StrCat("start ", options_.program));
}

void LocalStarter::OnEnded(uint32_t node) {
  const auto agent = agents_.find(node);
  int status = 0;
  ::waitpid(agent->second.pid, &status, 0);
  loop_->Remove(agent->second.pidfd.get());
  agents_.erase(agent);
  callbacks_.ended(node, HowItEnded(status));
}

void LocalStarter::End(uint32_t node) {
  const auto agent = agents_.find(node);
  if (agent != agents_.end()) KillAgentTree(agent->second.pid);
}

void LocalStarter::EndAll() {
  for (const auto& [node, agent] : agents_) KillAgentTree(agent.pid);
  for (const auto& [node, agent] : agents_) {
    ::waitpid(agent.pid, nullptr, 0);
    loop_->Remove(agent.pidfd.get());
  }
  agents_.clear();
}

}  // namespace muster

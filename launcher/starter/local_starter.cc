#include "launcher/starter/local_starter.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
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
  const auto spawn = [&] { return Spawn(node, coordinator, read_end.get()); };
  return network_ != nullptr ? network_->Inside(node, spawn) : spawn();
}

absl::Status LocalStarter::Spawn(uint32_t node, const std::string& coordinator, int ticket_fd) {
  ChildOptions child;
  child.program = options_.program;
  child.words = {"muster", "agent",        "--coordinator", coordinator,      "--ticket-fd", absl::StrCat(kTicketFd),
                 "--host", HostName(node), "--address",     NodeAddress(node)};
  child.words.insert(child.words.end(), options_.arguments.begin(), options_.arguments.end());
  child.descriptors = {{ticket_fd, kTicketFd}};
  MUSTER_ASSIGN_OR_RETURN(agents_[node], Child::Start(loop_, child, [this, node](int wait_status) {
                            agents_.erase(node);
                            callbacks_.ended(node, HowItEnded(wait_status));
                          }));
  return absl::OkStatus();
}

void LocalStarter::End(uint32_t node) {
  const auto agent = agents_.find(node);
  if (agent != agents_.end()) KillAgentTree(agent->second->pid());
}

void LocalStarter::EndAll() {
  for (const auto& [node, agent] : agents_) KillAgentTree(agent->pid());  // all at once; each is then waited for
  agents_.clear();
}

}  // namespace muster

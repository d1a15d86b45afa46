#include "launcher/starter/ssh_starter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/starter/ssh_command.h"
#include "launcher/starter/start_tree.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr absl::Duration kClientsGo = absl::Seconds(3);

void ForEach(const v1::AgentStart& tree, const std::function<void(const v1::AgentStart&)>& call) {
  for (const v1::AgentStart& child : tree.children()) {
    call(child);
    ForEach(child, call);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<SshStarter>> SshStarter::Create(EventLoop* loop, SshStarterOptions options, Callbacks callbacks,
                                                               std::function<void(const std::string& line)> say) {
  for (const SshStarterOptions::Host& host : options.hosts) {
    if (!host.is_here) MUSTER_RETURN_IF_ERROR(CheckHost(host.name, host.user));
  }
  std::unique_ptr<SshStarter> starter(new SshStarter(loop, std::move(options), std::move(callbacks), std::move(say)));
  std::vector<std::string> others;
  for (const SshStarterOptions::Host& host : starter->options_.hosts) {
    if (!host.is_here) others.push_back(host.name);
  }
  MUSTER_ASSIGN_OR_RETURN(starter->reachable_, ChooseReachable(starter->options_.listen, others, others.empty()));
  return starter;
}

SshStarter::SshStarter(EventLoop* loop, SshStarterOptions options, Callbacks callbacks,
                       std::function<void(const std::string& line)> say)
    : options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      say_(std::move(say)),
      asked_(loop, [this](std::vector<v1::AgentStart> asked) { StartAsked(std::move(asked)); }),
      lines_(loop, {.up =
                        [this](uint32_t node) {
                          through_.erase(node);
                          were_up_.insert(node);
                        },
                    .failed = [this](uint32_t node, const SshFailure& why) { OnFailed(node, why); },
                    .ended = [this](uint32_t node, const std::string& why) { callbacks_.ended(node, why); },
                    .adrift = [this](uint32_t node) { adrift_.insert(node); },
                    .say = [this](const std::string& line) { say_(line); }}) {}

SshStarter::~SshStarter() = default;

absl::Status SshStarter::Start(uint32_t node, const std::string& coordinator, const std::string& ticket) {
  if (lines_.holds(node)) {
    return absl::FailedPreconditionError(absl::StrCat("the agent on ", options_.hosts[node].name, " still runs"));
  }
  adrift_.erase(node);
  const SshStarterOptions::Host& host = options_.hosts[node];
  v1::AgentStart start;
  start.set_node(node);
  start.set_host(host.name);
  start.set_user(host.user);
  start.set_is_here(host.is_here);
  start.set_coordinator(coordinator);
  start.set_ticket(ticket);
  for (const std::string& argument : options_.arguments) start.add_arguments(argument);
  start.set_program(options_.program);
  *start.mutable_ssh() = options_.ssh;
  asked_.Add(std::move(start));
  return absl::OkStatus();
}

void SshStarter::StartAsked(std::vector<v1::AgentStart> asked) {
  const uint32_t fan_out = options_.ssh.fan_out() > 0 ? options_.ssh.fan_out() : kFanOut;
  for (v1::AgentStart& tree : MakeStartTrees(std::move(asked), fan_out)) {
    ForEach(tree, [this](const v1::AgentStart& one) {
      v1::AgentStart direct = one;
      direct.clear_children();
      direct.set_through_agent(false);
      through_[one.node()] = std::move(direct);
    });
    lines_.Start(std::move(tree));
  }
}

void SshStarter::OnFailed(uint32_t node, const SshFailure& why) {
  const auto through = through_.find(node);
  if (through != through_.end()) {
    if (!std::exchange(told_of_no_tree_, true)) {
      say_(absl::StrCat("muster: a host could not start another (", why.sentence,
                        "): those are started from here; hosts that can log in to each other make the start of many faster"));
    }
    v1::AgentStart direct = std::move(through->second);
    through_.erase(through);
    return lines_.Start(std::move(direct));
  }
  const bool first = were_up_.count(node) == 0;
  if (why.retry == SshRetry::kUseless || (first && why.retry == SshRetry::kSlowly))
    return callbacks_.hopeless(node, why.sentence);
  callbacks_.ended(node, why.sentence);
}

void SshStarter::End(uint32_t node) { lines_.End(node); }

void SshStarter::EndAll() {
  asked_.Clear();
  through_.clear();
  lines_.EndAll(kClientsGo);
}

}  // namespace muster

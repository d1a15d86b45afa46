#include "launcher/starter/ssh_starter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/starter/own_addresses.h"
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
  MUSTER_RETURN_IF_ERROR(starter->ChooseAddresses());
  return starter;
}

SshStarter::SshStarter(EventLoop* loop, SshStarterOptions options, Callbacks callbacks,
                       std::function<void(const std::string& line)> say)
    : loop_(loop),
      options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      say_(std::move(say)),
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

absl::Status SshStarter::ChooseAddresses() {
  const std::string& wanted = options_.listen;
  if (!wanted.empty() && wanted != "0.0.0.0" && wanted != "::") {
    listen_address_ = wanted;
    offers_ = {wanted};
    return absl::OkStatus();
  }
  listen_address_ = !wanted.empty() ? wanted : HasIpv6() ? "::" : "0.0.0.0";
  bool all_here = true;
  std::vector<std::string> sources;
  for (const SshStarterOptions::Host& host : options_.hosts) {
    if (host.is_here) continue;
    all_here = false;
    const std::string source = SourceTowards(host.name);
    if (!source.empty() && std::find(sources.begin(), sources.end(), source) == sources.end()) sources.push_back(source);
  }
  // Where names tell nothing, the way to the world: addresses for documentation that nobody has, and no packet is sent there.
  for (const char* world : {"192.0.2.1", "2001:db8::1"}) sources.push_back(SourceTowards(world));
  MUSTER_ASSIGN_OR_RETURN(const std::vector<OwnAddress> own, FindOwnAddresses());
  offers_ = ChooseOffers(own, all_here, sources);
  if (listen_address_ == "0.0.0.0") std::erase_if(offers_, [](const std::string& one) { return one.find(':') != one.npos; });
  if (offers_.empty()) {
    return absl::InvalidArgumentError(
        all_here ? "this machine has no loopback address; bring `lo` up (ip link set lo up)"
                 : "this machine has no address at which other hosts could reach it; look at `ip addr`, or name one with --listen ADDRESS");
  }
  return absl::OkStatus();
}

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
  asked_.push_back(std::move(start));
  if (asked_.size() == 1) {
    loop_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) StartAsked();
    });
  }
  return absl::OkStatus();
}

void SshStarter::StartAsked() {
  const uint32_t fan_out = options_.ssh.fan_out() > 0 ? options_.ssh.fan_out() : kFanOut;
  for (v1::AgentStart& tree : MakeStartTrees(std::exchange(asked_, {}), fan_out)) {
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
  if (why.retry == SshRetry::kUseless || (first && why.retry == SshRetry::kSlowly)) return callbacks_.hopeless(node, why.sentence);
  callbacks_.ended(node, why.sentence);
}

void SshStarter::End(uint32_t node) { lines_.End(node); }

void SshStarter::EndAll() {
  asked_.clear();
  through_.clear();
  lines_.EndAll(kClientsGo);
}

}  // namespace muster

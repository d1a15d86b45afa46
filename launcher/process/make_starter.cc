#include "launcher/process/make_starter.h"

#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/process/launch_link.h"
#include "launcher/starter/joining_agents.h"
#include "launcher/starter/local_starter.h"
#include "launcher/starter/slurm_starter.h"
#include "launcher/starter/ssh_starter.h"
#include "launcher/starter/ticket_files.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

LocalStarterOptions::Network NetworkOf(v1::Launch::NodeNetwork network) {
  switch (network) {
    case v1::Launch::NAMESPACES:
      return LocalStarterOptions::Network::kNamespaces;
    case v1::Launch::HOST:
      return LocalStarterOptions::Network::kHost;
    default:
      return LocalStarterOptions::Network::kAuto;
  }
}

void Warn(const std::string& line) { Log(LogLevel::kWarning, line); }

// What an agent has said, which names its node itself.
void PassOn(const std::string& line) {
  const std::string text = line + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

std::vector<std::string> OrphanArguments(double seconds) { return {"--orphan-after", absl::StrCat(seconds)}; }

double OrphanSeconds(const v1::Launch& launch) { return static_cast<double>(launch.ending().orphan_after_ms()) / 1e3; }

// Of each agent on another machine.
std::vector<std::string> ArgumentsThere(const v1::Launch& launch) {
  std::vector<std::string> arguments;
  if (launch.ending().orphan_after_ms() > 0) arguments = OrphanArguments(OrphanSeconds(launch));
  if (launch.ssh().home_if_no_folder()) arguments.push_back("--home-if-no-folder");
  if (launch.verbose()) arguments.push_back("--verbose");
  return arguments;
}

absl::StatusOr<std::unique_ptr<Starter>> MakeLocal(EventLoop* loop, const v1::Launch& launch, Starter::Callbacks callbacks) {
  LocalStarterOptions local;
  local.nodes = launch.nodes();
  for (const v1::LaunchHost& host : launch.hosts()) local.host_names.push_back(host.name());
  local.network = NetworkOf(launch.node_network());
  local.program = launch.agent_program();
  local.arguments = OrphanArguments(launch.ending().orphan_after_ms() > 0 ? OrphanSeconds(launch) : kLocalOrphanSeconds);
  if (!launch.temporary_folder().empty()) {
    local.arguments.insert(local.arguments.end(), {"--temporary-folder", launch.temporary_folder()});
  }
  if (launch.verbose()) local.arguments.push_back("--verbose");
  return LocalStarter::Create(loop, std::move(local), std::move(callbacks), Warn);
}

absl::StatusOr<std::unique_ptr<Starter>> MakeSsh(EventLoop* loop, const v1::Launch& launch, Starter::Callbacks callbacks) {
  SshStarterOptions ssh;
  for (const v1::LaunchHost& host : launch.hosts()) ssh.hosts.push_back({host.name(), host.user(), host.is_here()});
  if (ssh.hosts.empty()) return absl::InvalidArgumentError("--starter ssh needs hosts: name them with -H or --hostfile");
  ssh.ssh = launch.ssh();
  ssh.program = launch.agent_program();
  ssh.listen = launch.listen();
  ssh.arguments = ArgumentsThere(launch);
  return SshStarter::Create(loop, std::move(ssh), std::move(callbacks), PassOn);
}

absl::StatusOr<std::unique_ptr<Starter>> MakeSlurm(EventLoop* loop, const v1::Launch& launch, Starter::Callbacks callbacks) {
  SlurmStarterOptions slurm;
  for (const v1::LaunchHost& host : launch.hosts()) slurm.hosts.push_back(host.name());
  if (slurm.hosts.empty()) {
    return absl::InvalidArgumentError("--starter slurm needs the nodes of an allocation; begin with salloc or sbatch");
  }
  slurm.remote_muster = launch.ssh().remote_muster();
  slurm.program = launch.agent_program();
  slurm.listen = launch.listen();
  slurm.arguments = ArgumentsThere(launch);
  return SlurmStarter::Create(loop, std::move(slurm), std::move(callbacks), PassOn);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Starter>> MakeStarter(EventLoop* loop, const v1::Launch& launch, const std::string& job_folder,
                                                     Starter::Callbacks callbacks) {
  switch (launch.starter()) {
    case v1::Launch::NONE: {
      const std::string listen = launch.listen().empty() ? "0.0.0.0" : launch.listen();
      return std::make_unique<TicketFiles>(job_folder, listen, Warn);
    }
    case v1::Launch::JOIN:
      if (launch.join_key().empty()) return absl::InvalidArgumentError("agents that come by themselves need a join key");
      return std::make_unique<JoiningAgents>(launch.listen().empty() ? "0.0.0.0" : launch.listen());
    case v1::Launch::SSH:
      return MakeSsh(loop, launch, std::move(callbacks));
    case v1::Launch::SLURM:
      return MakeSlurm(loop, launch, std::move(callbacks));
    case v1::Launch::LOCAL:
      return MakeLocal(loop, launch, std::move(callbacks));
    default:
      return absl::InvalidArgumentError(absl::StrCat("this version of muster has no starter ",
                                                     v1::Launch::Starter_Name(launch.starter()),
                                                     "; use --starter local, or start agents by hand with muster coordinator"));
  }
}

}  // namespace muster

// Agents on the hosts of a list, by OpenSSH's client. The host that is this machine needs no ssh.
//
// Up to fan_out hosts (32) are started from here, at the same time. Of more, each of the first 32 starts its part of the rest, by
// ssh from there, and so on: 1,000 hosts take two steps. Such a node needs a way to log in to the next (a key there, or host-based
// authentication): nothing is forwarded to it, our ssh agent least of all. Where it cannot log in, or is not there itself, its
// part is started from here after all, and that is said once. Tickets of the nodes behind it pass through a node's far end; so a node can
// pose as one that it starts, which is no more than it may do as its user anyway.
//
// The end of a line ends what runs at its far end (start.proto). A node that was started through another does not die with that:
// should the line between them break it lives on by its session, and its next start comes from here.
#ifndef MUSTER_LAUNCHER_STARTER_SSH_STARTER_H_
#define MUSTER_LAUNCHER_STARTER_SSH_STARTER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/starter/own_addresses.h"
#include "launcher/starter/ssh_lines.h"
#include "launcher/starter/start_batch.h"
#include "launcher/starter/starter.h"
#include "muster/v1/start.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

struct SshStarterOptions {
  struct Host {
    std::string name;
    std::string user;  // empty: not said
    bool is_here = false;
  };
  std::vector<Host> hosts;  // by node
  v1::SshSettings ssh;
  std::string program;                 // path of `muster` here
  std::vector<std::string> arguments;  // more for each `muster agent`
  std::string listen;                  // the one address to offer and listen at; empty or a wildcard: all
};

class SshStarter final : public Starter {
 public:
  static constexpr uint32_t kFanOut = 32;

  // `say`: a line for a person. Errors: InvalidArgument (a host's name, or no address at which hosts could reach this machine).
  static absl::StatusOr<std::unique_ptr<SshStarter>> Create(EventLoop* loop, SshStarterOptions options, Callbacks callbacks,
                                                            std::function<void(const std::string& line)> say);
  ~SshStarter() override;

  // Starts asked for in one turn of the loop share one tree. Errors: FailedPrecondition (it still runs).
  absl::Status Start(uint32_t node, const std::string& coordinator, const std::string& ticket) override;
  void End(uint32_t node) override;
  void EndAll() override;
  uint32_t running() const override { return static_cast<uint32_t>(lines_.nodes() + asked_.size()); }
  bool sees_ends(uint32_t node) const override { return adrift_.count(node) == 0; }
  const std::string& listen_address() const override { return reachable_.listen_address; }
  const std::vector<std::string>& offers() const override { return reachable_.offers; }

 private:
  SshStarter(EventLoop* loop, SshStarterOptions options, Callbacks callbacks, std::function<void(const std::string& line)> say);
  void StartAsked(std::vector<v1::AgentStart> asked);
  void OnFailed(uint32_t node, const SshFailure& why);

  const SshStarterOptions options_;
  const Callbacks callbacks_;
  const std::function<void(const std::string& line)> say_;
  Reachable reachable_;
  StartBatch asked_;
  std::map<uint32_t, v1::AgentStart> through_;  // started through others and not up yet: to be started from here if that fails
  std::set<uint32_t> adrift_;
  std::set<uint32_t> were_up_;
  bool told_of_no_tree_ = false;
  SshLines lines_;  // last: its end uses the others
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_SSH_STARTER_H_

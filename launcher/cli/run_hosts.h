// Which machines a job runs on: -H, --hostfile, --oversubscribe, --starter.
#ifndef MUSTER_LAUNCHER_CLI_RUN_HOSTS_H_
#define MUSTER_LAUNCHER_CLI_RUN_HOSTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launcher/cli/flags.h"
#include "launcher/hosts/host.h"
#include "launcher/hosts/host_slots.h"
#include "muster/v1/launch.pb.h"

namespace muster {

struct HostOptions {
  std::vector<std::string> lists;  // -H; several are one list
  std::string file;                // --hostfile; empty: none
  bool oversubscribe = false;      // more workers than slots are wanted
  std::string starter = "auto";    // or "local", "ssh", "slurm", "join"
  std::string join_key_file;       // with "join"; empty: not said
  std::string token_keys, token_audience, token_subject;  // with "join": what token an agent must show; empty: none
  std::string same_job;            // with "join": whoever says this again goes on with the job; empty: nobody

  // What ReadHosts finds.
  std::vector<Host> named;     // none: nobody named hosts
  std::string own_name;        // of this machine
  std::string join_key;        // what the file holds
  std::vector<Host> allocation;  // of Slurm, that we are in; empty: none

  bool uses_allocation = false;  // `named` are nodes of it, reached by srun

  // What SettleHosts decides.
  v1::Launch::Starter chosen = v1::Launch::LOCAL;
  // Node i is shares[i]. Empty: nodes that are alike, on this machine. No workers: the coordinator fills the hosts once their agents
  // have said how many cores they have.
  std::vector<HostShare> shares;
  // Further hosts of the list, which stand by: node shares.size() + i is spare[i]. `workers` is what it may hold; 0: as many as it has cores.
  std::vector<HostShare> spare;

  // Whether nodes are other machines, or play them, so that a coordinator of their own is needed.
  bool needs_coordinator() const { return !shares.empty() || chosen != v1::Launch::LOCAL; }
};

void DeclareHosts(FlagSet* flags, HostOptions* hosts);

// Reads the list, the file and the variables of an allocation of Slurm, and what this machine is called. In an allocation its nodes
// are the hosts, unless others are named or another starter is; a list then chooses among them.
// Errors: InvalidArgument with word or line and the remedy.
absl::Status ReadHosts(HostOptions* hosts);

// How many workers run where. `workers` (-np), `nodes` (--nodes) and `workers_per_node` are 0 where nothing was said; afterwards
// `workers` and `nodes` are said and `workers_per_node` is 0 if hosts were named, and all is as before if not. A list that names only
// this machine is no list. `placed`: its `fill`, `per_host` and `oversubscribe`, by the flags of placement. `workers_max`: no more where
// -np is not said; 0: none. `spares`: how many hosts shall stand by; with `spares_must` that many have to be left in the list.
// `usable_cores` of this machine. Errors: InvalidArgument with the flag and the remedy.
absl::Status SettleHosts(int64_t usable_cores, int64_t workers_max, const HostWishes& placed, int64_t spares, bool spares_must,
                         HostOptions* hosts, int64_t* workers, int64_t* nodes, int64_t* workers_per_node);

// The decision, for the coordinator.
void AddHosts(const HostOptions& hosts, v1::Launch* launch);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_HOSTS_H_

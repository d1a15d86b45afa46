#include "launcher/cli/run_hosts.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/cli/join_key_file.h"
#include "launcher/hosts/host_file.h"
#include "launcher/hosts/host_list.h"
#include "launcher/hosts/host_name.h"
#include "launcher/hosts/slurm_allocation.h"
#include "launcher/process/pod_tokens.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int64_t kShareMax = v1::kLocalRanksMax;
constexpr size_t kLocalNodesMax = 128;  // simulated on one machine

absl::StatusOr<std::string> ReadHostFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kHostFileBytesMax + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    return absl::InvalidArgumentError(absl::StrCat("--hostfile ", path, " cannot be read; name a file of hosts, one a line"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

// This machine has many names, but its slots are one node's.
void JoinThisMachine(const std::string& own_name, int64_t usable_cores, std::vector<Host>* hosts) {
  std::vector<Host> joined;
  Host* here = nullptr;
  joined.reserve(hosts->size());
  for (Host& host : *hosts) {
    if (!IsThisMachine(host.name, own_name)) {
      joined.push_back(std::move(host));
      continue;
    }
    if (host.slots == 0) host.slots = usable_cores;
    if (here == nullptr) {
      here = &joined.emplace_back(std::move(host));
      continue;
    }
    here->slots += host.slots;
    here->slots_given = here->slots_given || host.slots_given;
    here->slots_max = here->slots_max > 0 && host.slots_max > 0 ? here->slots_max + host.slots_max : 0;
  }
  *hosts = std::move(joined);
}

absl::Status CheckStarter(const HostOptions& hosts) {
  static const auto& kStarters = *new std::vector<std::string>{"auto", "join", "local", "ssh", "slurm"};
  if (std::find(kStarters.begin(), kStarters.end(), hosts.starter) == kStarters.end()) {
    return absl::InvalidArgumentError(absl::StrCat("--starter ", hosts.starter, ": choose auto, join, local, ssh or slurm"));
  }
  if (hosts.starter == "ssh" && hosts.named.empty()) {
    return absl::InvalidArgumentError("--starter ssh needs hosts; add -H node-a:2,node-b:2 or --hostfile FILE");
  }
  if ((hosts.starter == "join") != !hosts.join_key_file.empty()) {
    return absl::InvalidArgumentError(
        "--starter join and --join-key-file FILE go together: agents that come by themselves prove with the key that they belong to the job");
  }
  const int said = !hosts.token_keys.empty() + !hosts.token_audience.empty() + !hosts.token_subject.empty();
  if (said != 0 && (said != 3 || hosts.starter != "join")) {
    return absl::InvalidArgumentError(
        "--token-keys FOLDER, --token-audience TEXT and --token-subject TEXT go together, with --starter join: whose keys sign a token that "
        "an agent must show, for whom, and for which service account");
  }
  if (said != 0) {
    const absl::Status read = ReadClusterKeys(hosts.token_keys).status();
    if (!read.ok()) return absl::InvalidArgumentError(absl::StrCat("--token-keys: ", read.message()));
  }
  if (!hosts.same_job.empty() && hosts.starter != "join") {
    return absl::InvalidArgumentError(
        "--same-job is for --starter join: other agents are started by their coordinator, and end with it");
  }
  if (hosts.starter == "join" && !(hosts.lists.empty() && hosts.file.empty())) {
    return absl::InvalidArgumentError("--starter join waits for agents from anywhere; say --nodes K instead of a list of hosts");
  }
  if (hosts.starter == "slurm" && hosts.allocation.empty()) {
    return absl::InvalidArgumentError(
        "--starter slurm is for use inside an allocation of Slurm; begin with salloc or sbatch, or name hosts with -H");
  }
  return absl::OkStatus();
}

bool AllAreIn(const std::vector<Host>& hosts, const std::vector<Host>& allocation) {
  return std::all_of(hosts.begin(), hosts.end(), [&](const Host& host) {
    return std::any_of(allocation.begin(), allocation.end(), [&](const Host& node) { return node.name == host.name; });
  });
}

// In an allocation its nodes are the hosts. Whoever names others means other machines than Slurm's. An allocation of the machine that
// we are on needs nobody to start anything elsewhere.
absl::Status UseAllocation(const std::string& list, HostOptions* hosts) {
  if (hosts->allocation.empty()) return absl::OkStatus();
  const bool wanted = hosts->starter == "slurm";
  if (wanted && !hosts->file.empty()) {
    return absl::InvalidArgumentError(
        "--starter slurm runs on the nodes of the allocation, which --hostfile cannot change; leave it out, or choose nodes with -H");
  }
  if (!wanted && (!hosts->file.empty() || !AllAreIn(hosts->named, hosts->allocation))) return absl::OkStatus();
  if (list.empty()) {
    hosts->named = hosts->allocation;
  } else {
    MUSTER_ASSIGN_OR_RETURN(hosts->named, FilterHosts("the allocation of Slurm", hosts->allocation, "-H", list));
  }
  hosts->uses_allocation = wanted || hosts->named.size() > 1 || !IsThisMachine(hosts->named[0].name, hosts->own_name);
  return absl::OkStatus();
}

absl::StatusOr<v1::Launch::Starter> ChooseStarter(const HostOptions& hosts, bool foreign) {
  if (hosts.starter == "join") return v1::Launch::JOIN;
  if (hosts.uses_allocation) return v1::Launch::SLURM;
  if (hosts.starter == "ssh" || (hosts.starter == "auto" && foreign)) {
    return v1::Launch::SSH;
  }
  return v1::Launch::LOCAL;
}

// How many cores some hosts have may be known only there.
bool SlotsAreKnown(const std::vector<Host>& hosts) {
  return std::all_of(hosts.begin(), hosts.end(), [](const Host& host) { return host.slots > 0; });
}

// The agents will say; until then every host that may be needed is a node without workers.
absl::StatusOr<std::vector<HostShare>> LeaveOpen(const std::vector<Host>& hosts, const HostWishes& wishes) {
  std::vector<std::string> unknown;
  for (const Host& host : hosts) {
    if (host.slots == 0) unknown.push_back(host.name);
  }
  if (wishes.workers == 0) {
    if (unknown.size() > 3) unknown.resize(3);
    return absl::InvalidArgumentError(
        absl::StrCat("how many cores there are on ", absl::StrJoin(unknown, ", "),
                     " is known only there, so say how many workers to start: -np N, "
                     "--nproc-per-node N, slots=N in the hostfile or NAME:N on the command line"));
  }
  std::vector<Host> prefix;
  int64_t slots = 0;
  for (const Host& host : hosts) {
    if (host.slots == 0 || slots >= wishes.workers || wishes.fill != HostFill::kSlot) break;
    prefix.push_back(host);
    slots += host.slots;
  }
  if (slots >= wishes.workers) return FillHosts(prefix, wishes);
  std::vector<HostShare> shares;
  for (const Host& host : hosts) {
    if (static_cast<int64_t>(shares.size()) < wishes.workers) shares.push_back({host, 0});
  }
  return shares;
}

// Hosts of the list that are left stand by, in its order.
absl::Status TakeSpares(int64_t spares, bool spares_must, int64_t workers_per_host, HostOptions* hosts) {
  hosts->spare.clear();
  for (const Host& host : hosts->named) {
    if (static_cast<int64_t>(hosts->spare.size()) == spares) break;
    const bool used = std::any_of(hosts->shares.begin(), hosts->shares.end(),
                                  [&host](const HostShare& share) { return share.host.name == host.name; });
    if (!used) hosts->spare.push_back({host, std::min(workers_per_host > 0 ? workers_per_host : host.slots, kShareMax)});
  }
  if (!spares_must || static_cast<int64_t>(hosts->spare.size()) == spares) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--spares ", spares, ", but of the ", hosts->named.size(), " hosts of the list ", hosts->shares.size(),
      " get workers, which leaves ", hosts->spare.size(), "; name more hosts, or use --spares ", hosts->spare.size()));
}

}  // namespace

void DeclareHosts(FlagSet* flags, HostOptions* hosts) {
  flags->Texts("--host -H --hosts", "LIST", &hosts->lists,
               "run on these hosts: name:slots, separated by commas. A name without\n"
               "slots is one slot, name:auto as many as its cores; node[01-16] is a\n"
               "range, [::1]:2 an IPv6 address. Hosts are filled in their order.");
  flags->Text("--hostfile --machinefile", "FILE", &hosts->file,
              "run on the hosts of FILE, one a line: name slots=N max_slots=M, # begins\n"
              "a comment. Without slots: as many as its cores. -H beside it chooses\n"
              "among them.");
  flags->Switch("--oversubscribe", &hosts->oversubscribe,
                "allow more workers than slots; without a list of hosts it is so anyway");
  flags->Text("--starter", "KIND", &hosts->starter,
              "how agents get onto the hosts: auto (default), ssh, slurm (inside an\n"
              "allocation), local (on this machine, which plays all hosts) or join\n"
              "(they come by themselves: muster agent --join-key-file, as in pods)");
  flags->Text("--join-key-file", "FILE", &hosts->join_key_file,
              "the secret by which agents that come by themselves may join; make one\n"
              "with: openssl rand -hex 32");
  flags->Text("--token-keys", "FOLDER", &hosts->token_keys,
              "agents must also show a token that a cluster of Kubernetes has signed for\n"
              "their pod. FOLDER holds the cluster's keys (jwks) and its name (issuer),\n"
              "so that nobody is asked");
  flags->Text("--token-audience", "TEXT", &hosts->token_audience, "for whom such a token must be made");
  flags->Text("--token-subject", "TEXT", &hosts->token_subject,
              "whose it must be: system:serviceaccount:NAMESPACE:NAME");
  flags->Text("--same-job", "NAME", &hosts->same_job,
              "with --starter join: where a job of this NAME lies unfinished in the\n"
              "state folder, since its coordinator was lost, go on with it; its agents\n"
              "keep their workers meanwhile. SIGTERM leaves the job to the next that\n"
              "says NAME; muster cancel ends it");
}

absl::Status ReadHosts(HostOptions* hosts) {
  char name[HOST_NAME_MAX + 1] = {};
  hosts->own_name = ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
  if (hosts->starter == "auto" || hosts->starter == "slurm") {
    MUSTER_ASSIGN_OR_RETURN(hosts->allocation, FindSlurmAllocation([](const char* variable) -> std::optional<std::string> {
                              const char* value = std::getenv(variable);
                              return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
                            }));
  }
  const std::string list = absl::StrJoin(hosts->lists, ",");
  if (!hosts->file.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const std::string text, ReadHostFile(hosts->file));
    MUSTER_ASSIGN_OR_RETURN(hosts->named, ParseHostFile(hosts->file, text));
    if (!list.empty()) {
      MUSTER_ASSIGN_OR_RETURN(hosts->named, FilterHosts(hosts->file, hosts->named, "-H", list));
    }
  } else if (!list.empty()) {
    MUSTER_ASSIGN_OR_RETURN(hosts->named, ParseHostList("-H", list));
  }
  MUSTER_RETURN_IF_ERROR(CheckStarter(*hosts));
  if (!hosts->join_key_file.empty()) {
    MUSTER_ASSIGN_OR_RETURN(hosts->join_key, ReadJoinKey(hosts->join_key_file));
  }
  return UseAllocation(list, hosts);
}

absl::Status SettleHosts(int64_t usable_cores, int64_t workers_max, const HostWishes& placed, int64_t spares, bool spares_must,
                         HostOptions* hosts, int64_t* workers, int64_t* nodes, int64_t* workers_per_node) {
  const bool foreign = std::any_of(hosts->named.begin(), hosts->named.end(),
                                   [&](const Host& host) { return !IsThisMachine(host.name, hosts->own_name); });
  MUSTER_ASSIGN_OR_RETURN(hosts->chosen, ChooseStarter(*hosts, foreign));
  if (hosts->named.empty()) return absl::OkStatus();
  JoinThisMachine(hosts->own_name, usable_cores, &hosts->named);
  HostWishes wishes = placed;
  wishes.workers = *workers;
  wishes.workers_max = workers_max;
  wishes.hosts = *nodes;
  wishes.workers_per_host = *workers_per_node;
  wishes.oversubscribe = hosts->oversubscribe || placed.oversubscribe;
  std::vector<Host> considered = hosts->named;
  if (wishes.hosts > 0 && wishes.hosts < static_cast<int64_t>(considered.size())) {
    considered.resize(static_cast<size_t>(wishes.hosts));
  }
  if (SlotsAreKnown(considered) || wishes.workers_per_host > 0 || wishes.hosts > static_cast<int64_t>(considered.size())) {
    MUSTER_ASSIGN_OR_RETURN(hosts->shares, FillHosts(hosts->named, wishes));
  } else {
    if (wishes.workers == 0) wishes.workers = workers_max;
    MUSTER_ASSIGN_OR_RETURN(hosts->shares, LeaveOpen(considered, wishes));
    *workers = wishes.workers;
  }
  int64_t total = 0;
  for (const HostShare& share : hosts->shares) {
    total += share.workers;
    if (share.workers > kShareMax) {
      return absl::InvalidArgumentError(absl::StrCat(share.host.name, " would get ", share.workers,
                                                     " workers, but one node holds ", kShareMax,
                                                     "; give it less slots, or use --nproc-per-node ", kShareMax));
    }
  }
  if (hosts->chosen == v1::Launch::LOCAL && hosts->shares.size() > kLocalNodesMax) {
    return absl::InvalidArgumentError(absl::StrCat("--starter local plays at most ", kLocalNodesMax,
                                                   " hosts on this machine, not ", hosts->shares.size(),
                                                   "; choose some with --nodes ", kLocalNodesMax));
  }
  if (*workers == 0) *workers = workers_max > 0 ? std::min(total, workers_max) : total;
  MUSTER_RETURN_IF_ERROR(TakeSpares(spares, spares_must, wishes.workers_per_host, hosts));
  *nodes = static_cast<int64_t>(hosts->shares.size());
  *workers_per_node = 0;
  if (!foreign && hosts->chosen == v1::Launch::LOCAL && hosts->spare.empty()) hosts->shares.clear();  // a job of this machine
  return absl::OkStatus();
}

void AddHosts(const HostOptions& hosts, v1::Launch* launch) {
  launch->set_starter(hosts.chosen);
  launch->set_oversubscribe(hosts.oversubscribe);
  launch->set_join_key(hosts.join_key);
  launch->set_successor_goes_on(!hosts.same_job.empty());
  if (!hosts.token_keys.empty()) {
    launch->mutable_token_demand()->set_keys_folder(hosts.token_keys);
    launch->mutable_token_demand()->set_audience(hosts.token_audience);
    launch->mutable_token_demand()->set_subject(hosts.token_subject);
  }
  const auto add = [&](const HostShare& share) {
    v1::LaunchHost* host = launch->add_hosts();
    host->set_name(share.host.name);
    host->set_user(share.host.user);
    host->set_slots(static_cast<uint32_t>(share.workers));
    host->set_slots_listed(static_cast<uint32_t>(share.host.slots));
    host->set_slots_max(static_cast<uint32_t>(share.host.slots_max));
    host->set_is_here(IsThisMachine(share.host.name, hosts.own_name));
  };
  for (const HostShare& share : hosts.shares) add(share);
  for (const HostShare& share : hosts.spare) add(share);
}

}  // namespace muster

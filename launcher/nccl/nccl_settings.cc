#include "launcher/nccl/nccl_settings.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/nccl/topology_xml.h"
#include "launcher/topology/bus_distance.h"

namespace muster {
namespace {

constexpr size_t kReasonsMax = 16;
constexpr size_t kNotesMax = 16;
constexpr size_t kNamesMax = 8;

using Port = NodeDevices::Port;

std::string PortName(const Port& port) { return absl::StrCat(port.device, ":", port.number); }

// "a, b and 3 more"
std::string Names(const std::vector<std::string>& names) {
  const size_t more = names.size() > kNamesMax ? names.size() - kNamesMax : 0;
  return absl::StrCat(absl::StrJoin(names.begin(), names.end() - static_cast<std::ptrdiff_t>(more), ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "");
}

// What becomes of one node's ports.
struct Choice {
  struct Taken {
    const Port* port;
    int rail;  // -1: not known
  };
  bool listed = false;  // somebody lists the node's NICs by names
  std::vector<Taken> taken;
  std::map<std::string, std::vector<std::string>> left_out;  // by why; ports that are up
  std::set<int> rails() const {
    std::set<int> rails;
    for (const Taken& one : taken) rails.insert(one.rail);
    return rails;
  }
};

class Decider {
 public:
  explicit Decider(const NcclKnowledge& known) : known_(known) {}

  NcclSettings Decide() {
    settings_.nodes.resize(known_.nodes.size());
    DecideFamily();
    for (const NcclNode& node : known_.nodes) {
      computes_.push_back(!node.devices.gpus.empty() && !node.devices.ports.empty());
    }
    if (known_.nodes.size() < 2 || std::find(computes_.begin(), computes_.end(), true) == computes_.end()) {
      return std::move(settings_);
    }
    NoteUnusable();
    ChooseLayer();
    for (size_t i = 0; i < known_.nodes.size(); ++i) choices_.push_back(computes_[i] ? Choose(known_.nodes[i]) : Choice());
    LevelRails();
    for (size_t i = 0; i < known_.nodes.size(); ++i) {
      if (!computes_[i]) continue;
      TellPorts(i);
      TellTopology(i);
    }
    TellRails();
    if (settings_.notes.size() > kNotesMax) {
      const size_t more = settings_.notes.size() - kNotesMax;
      settings_.notes.resize(kNotesMax);
      Note("and ", more, " more like these about what NCCL is told");
    }
    return std::move(settings_);
  }

 private:
  template <typename... Parts>
  void Note(const Parts&... parts) {
    settings_.notes.push_back(absl::StrCat(parts...));
  }

  void DecideFamily() {
    const bool only_6 = std::all_of(known_.nodes.begin(), known_.nodes.end(),
                                    [](const NcclNode& node) { return absl::StrContains(node.address, ':'); });
    if (known_.nodes.size() < 2 || !only_6) return;
    for (NcclSettings::Node& node : settings_.nodes) {
      node.variables.push_back({"NCCL_SOCKET_FAMILY", "AF_INET6",
                                "the nodes reach each other by IPv6, and an interface may have "
                                "an address of another kind first"});
    }
  }

  // NCCL opens what it can, without a word, and takes TCP where that is nothing.
  void NoteUnusable() {
    std::vector<std::pair<std::string, std::vector<std::string>>> said;  // of which ports, and on which nodes
    std::vector<std::string> without, with;
    for (size_t i = 0; i < known_.nodes.size(); ++i) {
      if (!computes_[i]) continue;
      const NcclNode& node = known_.nodes[i];
      std::vector<std::string> ports;
      bool some_up = false;
      for (const Port& port : node.devices.ports) {
        some_up = some_up || port.is_up();
        if (port.active && !port.is_up()) ports.push_back(absl::StrCat(PortName(port), " (", port.unusable, ")"));
      }
      if (!ports.empty() || some_up) (some_up ? with : without).push_back(node.host);
      if (ports.empty()) continue;
      std::string what = Names(ports);
      auto one = std::find_if(said.begin(), said.end(), [&](const auto& other) { return other.first == what; });
      if (one == said.end()) one = said.insert(said.end(), {std::move(what), {}});
      one->second.push_back(node.host);
    }
    for (const auto& [what, hosts] : said) {
      Note("RDMA ports on ", Names(hosts), " are up, and NCCL cannot use them: ", what,
           "; give workers these devices to read and write: in a container with docker run --device /dev/infiniband, in "
           "Kubernetes by the resource of the RDMA device plugin");
    }
    if (!without.empty() && !with.empty()) {
      Note("NCCL finds no RDMA port that it can use on ", Names(without), ", and finds some on ", Names(with),
           ": nodes that take TCP do not reach nodes that take RDMA; until it is mended, -x NCCL_IB_DISABLE=1 has all of them "
           "take TCP");
    }
  }

  // A connection has one link layer at both ends: the one by which every node can, and then the faster.
  void ChooseLayer() {
    double least[2] = {-1, -1};
    for (size_t i = 0; i < known_.nodes.size(); ++i) {
      if (!computes_[i]) continue;
      double sum[2] = {0, 0};
      for (const Port& port : known_.nodes[i].devices.ports) {
        if (port.is_up()) sum[port.ethernet ? 1 : 0] += std::max(port.bytes_per_second, 1.0);
      }
      if (sum[0] + sum[1] == 0) continue;  // it has no say
      for (const int layer : {0, 1}) least[layer] = least[layer] < 0 ? sum[layer] : std::min(least[layer], sum[layer]);
    }
    ethernet_ = least[1] > least[0];
  }

  Choice Choose(const NcclNode& node) {
    Choice choice;
    choice.listed = std::any_of(node.listed.nics.begin(), node.listed.nics.end(),
                                [](const Cluster::Nic& nic) { return !nic.name.empty(); });
    if (choice.listed) {
      TakeListed(node, &choice);
    } else {
      TakeNear(node, &choice);
    }
    return choice;
  }

  // A list names devices, ports ("mlx5_0:2") or interfaces.
  void TakeListed(const NcclNode& node, Choice* choice) {
    std::vector<bool> taken(node.devices.ports.size(), false);
    for (const Cluster::Nic& nic : node.listed.nics) {
      bool known = false, up = false;
      for (size_t p = 0; p < node.devices.ports.size(); ++p) {
        const Port& port = node.devices.ports[p];
        if (nic.name.empty() || taken[p]) continue;
        if (nic.name != port.device && nic.name != PortName(port) && nic.name != port.interface) continue;
        known = true;
        up = up || port.active;  // what cannot be opened is noted elsewhere
        if (!port.is_up()) continue;
        taken[p] = true;
        choice->taken.push_back({&port, nic.rail});
      }
      if (!known) Note("node ", node.host, " has no RDMA NIC ", nic.name, ", which ", known_.source, " lists");
      if (known && !up) Note("node ", node.host, ": NIC ", nic.name, ", which ", known_.source, " lists, is down");
    }
    for (size_t p = 0; p < node.devices.ports.size(); ++p) {
      const Port& port = node.devices.ports[p];
      if (!taken[p] && port.is_up())
        choice->left_out[absl::StrCat("not among the NICs of ", known_.source)].push_back(PortName(port));
    }
    std::stable_sort(choice->taken.begin(), choice->taken.end(),
                     [](const Choice::Taken& a, const Choice::Taken& b) { return a.port < b.port; });
  }

  static bool IsNear(const NodeDevices::Device& gpu, const NodeDevices::Device& nic) {
    const PciDistance distance = BusDistance(gpu.bridges, nic.bridges);
    return distance == PciDistance::kPix || distance == PciDistance::kPxb;
  }

  void TakeNear(const NcclNode& node, Choice* choice) {
    const NodeDevices& devices = node.devices;
    const auto nic_of = [&](const Port& port) -> const NodeDevices::Device& {
      return devices.nics[static_cast<size_t>(port.nic)];
    };
    std::vector<const Port*> left;
    for (const Port& port : devices.ports) {
      if (!port.is_up()) continue;
      if (port.ethernet == ethernet_) {
        left.push_back(&port);
      } else {
        choice->left_out[port.ethernet ? "RoCE beside InfiniBand" : "InfiniBand beside RoCE"].push_back(PortName(port));
      }
    }
    // Storage and management hang elsewhere, but where some GPU has no NIC near to it, a far one may be its only one.
    const bool each_has_one = std::all_of(devices.gpus.begin(), devices.gpus.end(), [&](const NodeDevices::Device& gpu) {
      return std::any_of(left.begin(), left.end(), [&](const Port* port) { return IsNear(gpu, nic_of(*port)); });
    });
    double fastest = 0;
    std::vector<const Port*> near;
    for (const Port* port : left) {
      const bool is_near = std::any_of(devices.gpus.begin(), devices.gpus.end(),
                                       [&](const NodeDevices::Device& gpu) { return IsNear(gpu, nic_of(*port)); });
      if (each_has_one && !is_near) {
        choice->left_out["behind no switch with a GPU"].push_back(PortName(*port));
        continue;
      }
      near.push_back(port);
      fastest = std::max(fastest, port->bytes_per_second);
    }
    for (const Port* port : near) {
      if (port->bytes_per_second > 0 && 2 * port->bytes_per_second < fastest) {
        choice->left_out["less than half as fast as others"].push_back(PortName(*port));
      } else {
        choice->taken.push_back({port, -1});
      }
    }
  }

  // A ring enters and leaves a node by one NIC, whose rail is that of the NIC at the other end: a rail that one node lacks is of no
  // use to the others, and NCCL, which numbers NICs, would join unlike ones.
  void LevelRails() {
    std::set<int> everywhere, anywhere;
    bool first = true;
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (!computes_[i]) continue;
      const std::set<int> here = choices_[i].rails();
      if (here.empty() || here.contains(-1)) return;  // not all rails are known
      std::set<int> both;
      std::set_intersection(everywhere.begin(), everywhere.end(), here.begin(), here.end(), std::inserter(both, both.end()));
      everywhere = first ? here : both;
      anywhere.insert(here.begin(), here.end());
      first = false;
    }
    rails_known_ = true;
    if (everywhere.empty()) return Note("no rail is up on every node: NCCL is left to choose among all NICs that are listed");
    std::vector<std::string> lacking;
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (!computes_[i]) continue;
      const std::set<int> here = choices_[i].rails();
      for (const int rail : anywhere) {
        if (!here.contains(rail)) lacking.push_back(absl::StrCat(rail, " on node ", known_.nodes[i].host));
      }
      std::erase_if(choices_[i].taken, [&](const Choice::Taken& one) {
        if (everywhere.contains(one.rail)) return false;
        choices_[i].left_out[absl::StrCat("rail ", one.rail, ", which another node lacks")].push_back(PortName(*one.port));
        return true;
      });
    }
    if (!lacking.empty()) Note("rails are missing, and left out on all nodes: rail ", Names(lacking));
    rails_ = everywhere.size();
  }

  void TellPorts(size_t i) {
    const Choice& choice = choices_[i];
    if (choice.taken.empty() || choice.left_out.empty()) return;
    std::vector<std::string> ports, reasons;
    for (const Choice::Taken& one : choice.taken) ports.push_back(PortName(*one.port));
    for (const auto& [why, names] : choice.left_out) reasons.push_back(absl::StrCat(Names(names), " (", why, ")"));
    settings_.nodes[i].variables.push_back(
        {"NCCL_IB_HCA", absl::StrCat("=", absl::StrJoin(ports, ",")), absl::StrCat("without ", absl::StrJoin(reasons, ", "))});
  }

  void TellTopology(size_t i) {
    const NcclNode& node = known_.nodes[i];
    if (node.devices.has_topology_file || !BusIsHidden(node.devices)) return;
    TopologyXml xml = MakeTopologyXml(node.devices, node.listed);
    if (!xml.why_not.empty()) {
      Note("node ", node.host, " hides its PCI bus, and what ", known_.source, " lists does not fit it: ", xml.why_not,
           "; NCCL takes every NIC for as far from a GPU as any other");
    }
    settings_.nodes[i].topology_xml = std::move(xml.text);
    settings_.nodes[i].why_xml = absl::StrCat("the node hides its PCI bus; switches are those of ", known_.source);
  }

  // The same for all, or none: both ends of a ring are built by it.
  void TellRails() {
    std::set<size_t> counts;
    bool ports_of_one_card = false;
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (!computes_[i]) continue;
      counts.insert(choices_[i].taken.size());
      std::map<std::string, std::set<int>> rails_of_card;
      for (const Choice::Taken& one : choices_[i].taken) {
        const std::string& bus = known_.nodes[i].devices.nics[static_cast<size_t>(one.port->nic)].bus;
        std::set<int>& rails = rails_of_card[bus.substr(0, bus.rfind('.'))];
        rails.insert(one.rail);
        ports_of_one_card = ports_of_one_card || rails.size() > 1;
      }
    }
    const bool by_rail = known_.rail_optimised || (rails_known_ && rails_ > 1);
    if (!by_rail || *counts.begin() < 2) return;
    if (!rails_known_ && counts.size() > 1) {
      Note("nodes have ", *counts.begin(), " to ", *counts.rbegin(),
           " NICs, and nobody says on which rail each is: list them with their rails in a cluster file, or rings may change "
           "rails");
    }
    TellAll("NCCL_CROSS_NIC", "0", "the fabric has a switch for each rail, and a ring stays on its own");
    if (ports_of_one_card) TellAll("NCCL_IB_MERGE_NICS", "0", "ports of one card are on different rails");
  }

  void TellAll(const std::string& name, const std::string& value, const std::string& why) {
    for (NcclSettings::Node& node : settings_.nodes) node.variables.push_back({name, value, why});
  }

  const NcclKnowledge& known_;
  NcclSettings settings_;
  std::vector<bool> computes_;  // has GPUs and RDMA NICs
  std::vector<Choice> choices_;
  bool ethernet_ = false;
  bool rails_known_ = false;
  size_t rails_ = 0;  // that every node has
};

}  // namespace

NcclSettings DecideNccl(const NcclKnowledge& known) { return Decider(known).Decide(); }

std::vector<std::string> NcclReasons(const NcclKnowledge& known, const NcclSettings& settings) {
  std::vector<std::pair<std::string, std::vector<std::string>>> said;  // what, and on which nodes
  const auto say = [&said](std::string what, const std::string& host) {
    auto one = std::find_if(said.begin(), said.end(), [&](const auto& other) { return other.first == what; });
    if (one == said.end()) {
      said.emplace_back(std::move(what), std::vector<std::string>());
      one = said.end() - 1;
    }
    one->second.push_back(host);
  };
  for (size_t i = 0; i < settings.nodes.size(); ++i) {
    const NcclSettings::Node& node = settings.nodes[i];
    for (const NcclVariable& one : node.variables)
      say(absl::StrCat(one.name, "=", one.value, ": ", one.why), known.nodes[i].host);
    if (!node.topology_xml.empty()) say(absl::StrCat("its PCI bus by NCCL_TOPO_FILE: ", node.why_xml), known.nodes[i].host);
  }
  std::vector<std::string> reasons;
  for (const auto& [what, hosts] : said) {
    if (reasons.size() + 1 == kReasonsMax && said.size() > kReasonsMax) {
      reasons.push_back(absl::StrCat("and ", said.size() - reasons.size(), " more"));
      break;
    }
    reasons.push_back(absl::StrCat("NCCL on ", Names(hosts), " is told ", what));
  }
  return reasons;
}

std::vector<std::string> ForeseeNccl(const Cluster& cluster, int node, const std::string& source) {
  NcclKnowledge known;
  known.source = source;
  for (const Cluster::Level& level : cluster.levels) known.rail_optimised = known.rail_optimised || level.per_rail;
  for (const Cluster::Node& listed : cluster.nodes) {
    NcclNode one = {listed.name, "", {}, listed};
    one.devices.gpus.resize(listed.gpus.size());
    for (const Cluster::Nic& nic : listed.nics) {
      one.devices.ports.push_back({.device = nic.name, .nic = static_cast<int>(one.devices.nics.size()), .active = true});
      one.devices.nics.emplace_back().bus = absl::StrCat(one.devices.nics.size());
    }
    known.nodes.push_back(std::move(one));
  }
  std::vector<std::string> sentences;
  const NcclSettings settings = DecideNccl(known);
  for (const NcclVariable& one : settings.nodes[static_cast<size_t>(node)].variables) {
    sentences.push_back(absl::StrCat("NCCL is told ", one.name, "=", one.value, ": ", one.why));
  }
  std::vector<std::string> names;
  for (const Cluster::Nic& nic : cluster.nodes[static_cast<size_t>(node)].nics) {
    if (!nic.name.empty()) names.push_back(nic.name);
  }
  if (known.nodes.size() > 1 && !names.empty() && !cluster.nodes[static_cast<size_t>(node)].gpus.empty()) {
    sentences.push_back(absl::StrCat("NCCL is kept to ", absl::StrJoin(names, ", "),
                                     " (NCCL_IB_HCA) where the node has other RDMA NICs "
                                     "that are up"));
  }
  return sentences;
}

}  // namespace muster

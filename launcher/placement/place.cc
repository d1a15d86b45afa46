#include "launcher/placement/place.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using Level = PlacementLevel;

// One rank before it has a number. `locale` is where it was mapped.
struct Process {
  CpuSet locale;
  std::optional<uint32_t> rank;
  CpuSet bound;
};

struct Node {
  const PlacementNode* given = nullptr;
  CpuSet machine;
  std::vector<Process> processes;  // in the order in which they were mapped
  uint32_t slots() const { return given->slots; }
  uint32_t free_slots() const { return slots() > processes.size() ? slots() - static_cast<uint32_t>(processes.size()) : 0; }
};

bool IsObject(Level level) { return level != Level::kNone && level != Level::kSlot && level != Level::kNode; }

class Placer {
 public:
  Placer(const PlacementPolicy& policy, uint32_t workers, const std::vector<PlacementNode>& nodes)
      : policy_(policy), workers_(workers) {
    for (const PlacementNode& node : nodes) nodes_.push_back({&node, node.topology.cpus(), {}});
  }

  absl::StatusOr<PlacementMap> Place() {
    ChooseLevels();
    MUSTER_RETURN_IF_ERROR(CheckLevels());
    MUSTER_RETURN_IF_ERROR(Map());
    MUSTER_RETURN_IF_ERROR(Rank());
    MUSTER_RETURN_IF_ERROR(AssignLocales());
    MUSTER_RETURN_IF_ERROR(Bind());
    return Result();
  }

  // Whether the user chose what to bind to; else ranks may also stay unbound.
  bool binding_is_explicit() const { return policy_.bind_to.has_value() || policy_.cpus_per_rank > 0; }
  Level bind_to() const { return bind_to_; }

 private:
  bool Anywhere(Level level) const { return !nodes_[0].given->topology.ObjectsOf(level).empty(); }
  Level NumaOrPackage() const {
    return Anywhere(Level::kNuma) ? Level::kNuma : Anywhere(Level::kPackage) ? Level::kPackage : Level::kNone;
  }

  // Open MPI 4.1's defaults.
  void ChooseLevels() {
    const Level fine = policy_.hwthread_cpus ? Level::kHwthread : Level::kCore;
    if (policy_.map_by) {
      map_by_ = *policy_.map_by;
    } else if (workers_ <= 2 && policy_.cpus_per_rank == 0) {
      map_by_ = fine;
    } else {
      map_by_ = NumaOrPackage() == Level::kNone ? Level::kSlot : NumaOrPackage();
    }
    rank_by_ = policy_.rank_by ? *policy_.rank_by : !policy_.map_by || policy_.per_object > 0 ? Level::kSlot : map_by_;
    if (policy_.bind_to) {
      bind_to_ = *policy_.bind_to;
    } else if (policy_.cpus_per_rank > 0) {
      bind_to_ = fine;
    } else if (policy_.map_by && policy_.per_object == 0 && IsObject(map_by_)) {
      bind_to_ = map_by_;
    } else {
      bind_to_ = workers_ <= 2 ? fine : NumaOrPackage();
    }
  }

  absl::Status CheckLevels() const {
    if (policy_.cpus_per_rank > 1 && (map_by_ == Level::kHwthread || (map_by_ == Level::kCore && !policy_.hwthread_cpus))) {
      return absl::InvalidArgumentError(
          absl::StrCat("--map-by ", LevelName(map_by_), " with PE=", policy_.cpus_per_rank, ": one ", LevelName(map_by_),
                       " has not so many processors; map by slot, l3cache, numa, package or node"));
    }
    if (policy_.cpus_per_rank > 1 && bind_to_ != Level::kNone && bind_to_ != Level::kCore && bind_to_ != Level::kHwthread) {
      return absl::InvalidArgumentError(absl::StrCat("--bind-to ", LevelName(bind_to_), " with PE=", policy_.cpus_per_rank,
                                                     ": ranks with several processors each are bound to cores or hardware "
                                                     "threads; leave --bind-to out"));
    }
    for (const Node& node : nodes_) {
      for (const auto& [flag, level] : {std::pair{"--map-by", map_by_}, {"--rank-by", rank_by_}, {"--bind-to", bind_to_}}) {
        if (!IsObject(level) || !node.given->topology.ObjectsOf(level).empty()) continue;
        return absl::InvalidArgumentError(absl::StrCat(flag, " ", LevelName(level), ": node ", node.given->host, " has no ",
                                                       LevelName(level), "; `lstopo` on it shows what it has"));
      }
    }
    return absl::OkStatus();
  }

  // --- Mapping ---

  absl::Status Map() {
    uint64_t slots = 0;
    for (const Node& node : nodes_) slots += node.slots();
    if (slots < workers_ && !policy_.oversubscribe.value_or(false)) return TooFewSlots(slots);
    if (policy_.per_object > 0) return MapPattern();
    if (map_by_ == Level::kSlot) {
      MapBySlot();
    } else if (map_by_ == Level::kNode) {
      MapByNode(slots < workers_);
    } else if (policy_.span) {
      MapSpanned();
    } else {
      MapByObject();
    }
    return absl::OkStatus();
  }

  absl::Status TooFewSlots(uint64_t slots) const {
    return absl::ResourceExhaustedError(absl::StrCat(workers_, " workers are wanted, but the nodes have ", slots,
                                                     " slots: ask for fewer, add nodes, or allow it with --map-by ",
                                                     LevelName(map_by_), ":OVERSUBSCRIBE"));
  }

  void Put(Node& node, CpuSet locale) {
    node.processes.push_back({std::move(locale), {}, {}});
    ++mapped_;
  }

  // All slots of a node, then the next; what is left over evenly, the first nodes getting one more.
  void MapBySlot() {
    for (Node& node : nodes_) {
      for (uint32_t free = node.free_slots(); free > 0 && mapped_ < workers_; --free) Put(node, node.machine);
    }
    const uint32_t left = workers_ - mapped_, each = left / static_cast<uint32_t>(nodes_.size());
    uint32_t one_more = left % static_cast<uint32_t>(nodes_.size());
    for (Node& node : nodes_) {
      const uint32_t share = each + (one_more > 0 ? 1 : 0);
      if (one_more > 0) --one_more;
      for (uint32_t i = 0; i < share && mapped_ < workers_; ++i) Put(node, node.machine);
    }
  }

  // Evenly, and what a node has no slot for evenly over the others.
  void MapByNode(bool oversubscribed) {
    uint32_t open = static_cast<uint32_t>(nodes_.size());
    do {
      const uint32_t left = workers_ - mapped_, average = std::max(1u, left / open);
      uint32_t one_more = left > average * open ? left - average * open : 0;
      open = 0;
      for (Node& node : nodes_) {
        if (!oversubscribed && node.free_slots() == 0) continue;
        uint32_t share = average + (one_more > 0 ? 1 : 0);
        if (one_more > 0) --one_more;
        if (!oversubscribed) share = std::min(share, node.free_slots());
        ++open;
        for (uint32_t i = 0; i < share && mapped_ < workers_; ++i) Put(node, node.machine);
        if (mapped_ == workers_) return;
      }
    } while (open > 0);
  }

  // Node after node, on each from object to object until its slots are full.
  void MapByObject() {
    for (bool again = false; mapped_ < workers_; again = true) {
      for (Node& node : nodes_) {
        const std::vector<Topology::Object> objects = node.given->topology.ObjectsOf(map_by_);
        uint32_t share = node.free_slots();
        size_t next = 0;
        if (share == 0) {
          if (!again) continue;
          share = 1;
          next = node.processes.size();
        }
        for (; share > 0 && mapped_ < workers_; --share, ++next) Put(node, objects[next % objects.size()].cpus);
        if (mapped_ == workers_) return;
      }
    }
  }

  // As on one big machine: every object of every node gets its share, whatever the slots.
  void MapSpanned() {
    size_t count = 0;
    for (const Node& node : nodes_) count += node.given->topology.ObjectsOf(map_by_).size();
    const uint32_t each = std::max<uint32_t>(1, workers_ / static_cast<uint32_t>(count));
    uint64_t one_more = workers_ > each * count ? workers_ - each * count : 0;
    for (Node& node : nodes_) {
      for (const Topology::Object& object : node.given->topology.ObjectsOf(map_by_)) {
        const uint32_t share = each + (one_more > 0 ? 1 : 0);
        if (one_more > 0) --one_more;
        for (uint32_t i = 0; i < share && mapped_ < workers_; ++i) Put(node, object.cpus);
      }
    }
  }

  absl::Status MapPattern() {
    for (Node& node : nodes_) {
      for (const Topology::Object& object : node.given->topology.ObjectsOf(map_by_)) {
        for (uint32_t i = 0; i < policy_.per_object && mapped_ < workers_; ++i) Put(node, object.cpus);
      }
      if (node.processes.size() > node.slots() && !policy_.oversubscribe.value_or(false)) return TooFewSlots(node.slots());
    }
    if (mapped_ == workers_) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat("--map-by ppr:", policy_.per_object, ":", LevelName(map_by_),
                                                     " makes place for ", mapped_, " ranks on these nodes, and -np asks for ",
                                                     workers_, "; use -np ", mapped_,
                                                     " or less, or a greater number in the pattern"));
  }

  // --- Numbering ---

  absl::Status Rank() {
    if (rank_by_ == Level::kSlot) {
      for (Node& node : nodes_) {
        for (Process& process : node.processes) process.rank = ranked_++;
      }
    } else if (rank_by_ == Level::kNode) {
      for (size_t turn = 0; ranked_ < workers_; ++turn) {
        for (Node& node : nodes_) {
          if (turn < node.processes.size()) node.processes[turn].rank = ranked_++;
        }
      }
    } else if (policy_.rank_span) {
      while (ranked_ < workers_) {
        for (Node& node : nodes_) {
          for (const Topology::Object& object : node.given->topology.ObjectsOf(rank_by_)) RankNextOn(node, object);
        }
      }
    } else {
      for (Node& node : nodes_) policy_.rank_fill ? RankFilling(node) : RankInTurn(node);
    }
    return absl::OkStatus();
  }

  bool RankNextOn(Node& node, const Topology::Object& object) {
    for (Process& process : node.processes) {
      if (process.rank || !process.locale.Intersects(object.cpus)) continue;
      process.rank = ranked_++;
      return true;
    }
    return false;
  }

  void RankFilling(Node& node) {
    for (const Topology::Object& object : node.given->topology.ObjectsOf(rank_by_)) {
      while (RankNextOn(node, object)) {
      }
    }
  }

  void RankInTurn(Node& node) {
    const std::vector<Topology::Object> objects = node.given->topology.ObjectsOf(rank_by_);
    size_t in_vain = 0;
    for (size_t turn = 0; in_vain <= objects.size(); ++turn) {
      in_vain = RankNextOn(node, objects[turn % objects.size()]) ? 0 : in_vain + 1;
    }
  }

  // --- Binding ---

  // The order in which processes were mapped on their node decides, not their rank.
  absl::Status AssignLocales() {
    for (Node& node : nodes_) {
      if (!IsObject(map_by_) || policy_.per_object > 0) continue;
      const std::vector<Topology::Object> objects = node.given->topology.ObjectsOf(map_by_);
      for (size_t i = 0; i < node.processes.size(); ++i) {
        const Topology::Object& object = objects[i % objects.size()];
        if (policy_.cpus_per_rank > Processors(node, object.cpus)) {
          return absl::ResourceExhaustedError(
              absl::StrCat("PE=", policy_.cpus_per_rank, ": a ", LevelName(map_by_), " of node ", node.given->host, " has ",
                           Processors(node, object.cpus), " processors; ask for less, or map by something greater"));
        }
        node.processes[i].locale = object.cpus;
      }
    }
    return absl::OkStatus();
  }

  uint32_t Processors(const Node& node, const CpuSet& cpus) const {
    return node.given->topology.ProcessorsIn(cpus, policy_.hwthread_cpus);
  }

  absl::Status Bind() {
    const bool oversubscribed =
        std::any_of(nodes_.begin(), nodes_.end(), [](const Node& node) { return node.processes.size() > node.slots(); });
    if (oversubscribed && !binding_is_explicit()) bind_to_ = Level::kNone;
    if (bind_to_ == Level::kNone) return absl::OkStatus();
    for (Node& node : nodes_) {
      const std::vector<Topology::Object> objects = node.given->topology.ObjectsOf(bind_to_);
      std::vector<uint32_t> used(objects.size(), 0);
      for (Process& process : node.processes) {
        const std::optional<std::string> overload =
            bind_to_ == map_by_ ? BindInPlace(node, objects, &used, &process) : BindBelow(node, objects, &used, &process);
        if (!overload) continue;
        if (binding_is_explicit()) return absl::ResourceExhaustedError(*overload);
        unbound_because_ = *overload;
        for (Node& one : nodes_) {
          for (Process& other : one.processes) other.bound = CpuSet();
        }
        return absl::OkStatus();
      }
    }
    return absl::OkStatus();
  }

  std::string Overload(const Node& node, const Topology::Object& object, uint32_t used) const {
    return absl::StrCat("--bind-to ", LevelName(bind_to_), ": node ", node.given->host, " would have ", used, " ranks on ",
                        LevelName(bind_to_), " ", object.index, " (processors ", object.cpus.ListText(), "), which counts ",
                        Processors(node, object.cpus), "; use fewer ranks, --bind-to none, or --bind-to ", LevelName(bind_to_),
                        ":overload-allowed");
  }

  // Where it was mapped; if that is full on the next of its kind, then the ones before. Returns the complaint.
  std::optional<std::string> BindInPlace(const Node& node, const std::vector<Topology::Object>& objects,
                                         std::vector<uint32_t>* used, Process* process) const {
    size_t own = 0;
    while (own + 1 < objects.size() && objects[own].cpus != process->locale) ++own;
    std::vector<size_t> candidates;
    for (size_t i = own; i < objects.size(); ++i) candidates.push_back(i);
    for (size_t i = own; i > 0; --i) candidates.push_back(i - 1);
    for (const size_t i : candidates) {
      if ((*used)[i] >= Processors(node, objects[i].cpus)) continue;
      ++(*used)[i];
      process->bound = objects[i].cpus;
      return std::nullopt;
    }
    if (!policy_.overload_allowed) return Overload(node, objects[own], (*used)[own] + 1);
    ++(*used)[own];
    process->bound = objects[own].cpus;
    return std::nullopt;
  }

  // The least used object that touches the locale, with those after it until there are enough processors.
  std::optional<std::string> BindBelow(const Node& node, const std::vector<Topology::Object>& objects,
                                       std::vector<uint32_t>* used, Process* process) const {
    size_t best = objects.size();
    for (size_t i = 0; i < objects.size(); ++i) {
      if (!objects[i].cpus.Intersects(process->locale)) continue;
      if (best == objects.size() || (*used)[i] < (*used)[best]) best = i;
    }
    uint32_t processors = 0;
    for (size_t i = best; processors == 0 || processors < policy_.cpus_per_rank; ++i) {
      if (i >= objects.size()) {
        return absl::StrCat("node ", node.given->host,
                            " has not enough processors for PE=", std::max(1u, policy_.cpus_per_rank),
                            " with so many ranks; use fewer ranks or less for each");
      }
      const uint32_t here = Processors(node, objects[i].cpus);
      if (++(*used)[i] > here && !policy_.overload_allowed) return Overload(node, objects[i], (*used)[i]);
      process->bound.Add(objects[i].cpus);
      processors += here;
    }
    return std::nullopt;
  }

  PlacementMap Result() const {
    PlacementMap map;
    map.ranks.resize(workers_);
    for (size_t n = 0; n < nodes_.size(); ++n) {
      for (const Process& process : nodes_[n].processes) {
        PlacedRank& rank = map.ranks[*process.rank];
        rank.node = static_cast<uint32_t>(n);
        rank.cpus = process.bound;
        if (!rank.cpus.empty()) rank.memory_nodes = nodes_[n].given->topology.MemoryNodesOf(rank.cpus);
      }
    }
    std::vector<uint32_t> next(nodes_.size(), 0);
    for (PlacedRank& rank : map.ranks) rank.local_rank = next[rank.node]++;
    if (!unbound_because_.empty()) map.notes.push_back(absl::StrCat("ranks are not bound: ", unbound_because_));
    return map;
  }

  const PlacementPolicy& policy_;
  const uint32_t workers_;
  std::vector<Node> nodes_;
  Level map_by_ = Level::kSlot, rank_by_ = Level::kSlot, bind_to_ = Level::kNone;
  uint32_t mapped_ = 0, ranked_ = 0;
  std::string unbound_because_;
};

// "processors 0-1 of node a (process 4711)".
std::string HeldText(const std::vector<PlacementNode>& nodes) {
  std::vector<std::string> parts;
  for (const PlacementNode& node : nodes) {
    for (const HeldCpus& held : node.held) {
      parts.push_back(absl::StrCat("processors ", held.cpus.ListText(), " of node ", node.host, " (process ", held.pid, ")"));
    }
  }
  return absl::StrJoin(parts, ", ");
}

// False if a node has nothing left.
bool LeaveOutHeld(std::vector<PlacementNode>* nodes) {
  for (PlacementNode& node : *nodes) {
    CpuSet held;
    for (const HeldCpus& one : node.held) held.Add(one.cpus);
    if (!held.Intersects(node.topology.cpus())) continue;
    auto rest = node.topology.Restricted(node.topology.cpus().Without(held));
    if (!rest.ok()) return false;
    node.topology = *std::move(rest);
  }
  return true;
}

bool AllBound(const PlacementMap& map) {
  return std::none_of(map.ranks.begin(), map.ranks.end(), [](const PlacedRank& rank) { return rank.cpus.empty(); });
}

}  // namespace

absl::StatusOr<PlacementMap> PlaceRanks(const PlacementPolicy& policy, uint32_t workers,
                                        const std::vector<PlacementNode>& given) {
  if (given.empty() || workers == 0) return absl::InvalidArgumentError("no nodes or no workers to place");
  std::vector<PlacementNode> nodes = given;
  if (!policy.cpu_list.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const CpuSet wanted, CpuSet::Parse(policy.cpu_list));
    for (PlacementNode& node : nodes) {
      auto part = node.topology.Restricted(wanted);
      if (!part.ok())
        return absl::InvalidArgumentError(absl::StrCat("--cpu-set on node ", node.host, ": ", part.status().message()));
      node.topology = *std::move(part);
    }
  }
  Placer whole(policy, workers, nodes);
  MUSTER_ASSIGN_OR_RETURN(PlacementMap map, whole.Place());
  const bool anything_held =
      std::any_of(nodes.begin(), nodes.end(), [](const PlacementNode& node) { return !node.held.empty(); });
  if (!anything_held || whole.bind_to() == Level::kNone || !AllBound(map)) return map;

  std::vector<PlacementNode> free = nodes;
  if (LeaveOutHeld(&free)) {
    auto beside = Placer(policy, workers, free).Place();
    if (beside.ok() && AllBound(*beside)) return beside;
  }
  const std::string held = HeldText(nodes);
  if (policy.overload_allowed) {
    map.notes.push_back(absl::StrCat("processors are shared with another job: ", held, " are its"));
    return map;
  }
  if (whole.binding_is_explicit()) {
    return absl::ResourceExhaustedError(absl::StrCat("not enough free processors: another job has bound its workers to ", held,
                                                     "; wait for it, use fewer ranks, --bind-to none, or --bind-to ",
                                                     LevelName(whole.bind_to()), ":overload-allowed"));
  }
  for (PlacedRank& rank : map.ranks) rank.cpus = rank.memory_nodes = CpuSet();
  map.notes.push_back(absl::StrCat("ranks are not bound: another job has bound its workers to ", held));
  return map;
}

uint32_t WorkersOfPattern(const PlacementPolicy& policy, const std::vector<PlacementNode>& nodes) {
  size_t objects = 0;
  if (policy.per_object == 0 || !policy.map_by) return 0;
  for (const PlacementNode& node : nodes) objects += node.topology.ObjectsOf(*policy.map_by).size();
  return static_cast<uint32_t>(objects) * policy.per_object;
}

std::vector<uint32_t> DefaultSlots(const PlacementPolicy& policy, uint32_t workers, uint32_t nodes, const Topology& machine) {
  std::vector<uint32_t> slots;
  uint32_t left = workers;
  const uint32_t full = WorkersOfPattern(policy, {{"", 0, machine, {}}});
  for (uint32_t node = 0; node < nodes; ++node) {
    const uint32_t share = full > 0 ? std::min(full, left) : left / (nodes - node) + (left % (nodes - node) > 0 ? 1 : 0);
    slots.push_back(std::max(1u, share));
    left -= share;
  }
  if (!slots.empty()) slots[0] += left;  // more than the pattern has place for, which PlaceRanks says
  return slots;
}

bool RanksAreContiguous(const PlacementMap& map) {
  for (size_t rank = 1; rank < map.ranks.size(); ++rank) {
    if (map.ranks[rank].node < map.ranks[rank - 1].node) return false;
  }
  return true;
}

}  // namespace muster

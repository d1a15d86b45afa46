// How the coordinator forms a generation: its number, its members, Prepare and Go.
#include <openssl/sha.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/coordinator/membership_core.h"

namespace muster {
namespace {

// Of the table that agents ask for; an agent that is alone has all of it in its Prepare. (The first use of OpenSSL costs a
// millisecond, which is much of a small job's start.)
std::string DigestOf(const v1::Members& members) {
  if (members.nodes_size() == 1) return "";
  const std::string bytes = members.SerializeAsString();
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

}  // namespace

void Membership::Core::TakeGeneration() {
  if (!options_.planted_reuse_number || restarts_ == 0) ++generation_;
  formed_ = false;
  v1::RecordEntry entry;
  entry.mutable_generation_taken()->set_generation(generation_);
  Append(std::move(entry), true);
}

uint64_t Membership::Core::Slots() const {
  uint64_t slots = 0;
  for (const auto& [node, agent] : agents_) {
    if (IsUsable(agent)) slots += agent.join.slots();
  }
  return slots;
}

uint32_t Membership::Core::WorkersMin() const {
  if (!options_.applications.empty()) return options_.workers;  // which program could do without some of its ranks nobody knows
  return options_.workers_min == 0 ? options_.workers : std::min(options_.workers_min, options_.workers);
}

std::vector<uint32_t> Membership::Core::Expected() const {
  std::vector<uint32_t> nodes;
  if (restarts_ > 0) {
    for (const v1::Node& node : members_.nodes()) nodes.push_back(node.node());
  }
  if (nodes.empty()) {
    for (uint32_t node = 0; node < options_.nodes; ++node) nodes.push_back(node);
  }
  return nodes;
}

bool Membership::Core::SparesMayFill() const {
  if (options_.nodes == 0 || spares_call_over_ || last_call_over_) return true;
  const std::vector<uint32_t> expected = Expected();
  return std::all_of(expected.begin(), expected.end(), [this](uint32_t node) {
    const auto agent = agents_.find(node);
    return given_up_.contains(node) || (agent != agents_.end() && IsUsable(agent->second));
  });
}

std::vector<uint32_t> Membership::Core::NodesInOrder() const {
  const std::vector<uint32_t> expected = options_.nodes == 0 ? std::vector<uint32_t>() : Expected();
  std::vector<uint32_t> others, order;
  for (const auto& [node, agent] : agents_) {
    if (IsUsable(agent) && std::find(expected.begin(), expected.end(), node) == expected.end()) others.push_back(node);
  }
  if (expected.empty()) return others;
  auto spare = others.begin();
  uint64_t slots = 0;
  const auto take = [&](uint32_t node) {
    order.push_back(node);
    slots += agents_.at(node).join.slots();
  };
  for (const uint32_t node : expected) {
    const auto agent = agents_.find(node);
    if (agent != agents_.end() && IsUsable(agent->second)) {
      take(node);
    } else if (spare != others.end()) {
      take(*spare++);
    }
  }
  while (slots < options_.workers && spare != others.end()) take(*spare++);
  return order;
}

// Nodes that were missing in the generation before already are not waited for once more.
bool Membership::Core::Enough() const {
  const auto former = static_cast<uint32_t>(members_.places_size());
  uint32_t hoped_for = restarts_ > 0 && former > 0 ? std::min(options_.workers, former) : options_.workers;
  hoped_for = std::max(std::min(hoped_for, options_.workers - std::min(options_.workers, never_come_)), WorkersMin());
  return SparesMayFill() && Slots() >= (last_call_over_ ? WorkersMin() : hoped_for);
}

void Membership::Core::NoteFewerHopedFor(const Event& event) {
  const auto& fewer = As<membership::FewerHopedFor>(event);
  never_come_ = std::max(never_come_, fewer.workers);
  if (fewer.node) given_up_.insert(*fewer.node);
}

void Membership::Core::NoteLastCall(const Event&) {
  last_call_over_ = true;
  Log(LogLevel::kWarning, absl::StrCat("going on with ", Slots(), " of ", options_.workers,
                                       " workers: nodes have not come back within ", absl::FormatDuration(EndAfter(state_))));
}

void Membership::Core::NotEnough(const Event&) {
  if (restarts_ == 0) {
    SetFault(69, "not enough nodes",
             absl::StrCat(WorkersMin(), " workers are wanted, but after ", absl::FormatDuration(EndAfter(state_)), " ",
                          agents_.size(), " nodes with ", Slots(), " slots have joined: ask for fewer workers or add nodes"));
    return;
  }
  std::vector<std::string> missing;
  for (const v1::Node& node : members_.nodes()) {
    const auto agent = agents_.find(node.node());
    if (agent != agents_.end() && IsUsable(agent->second)) continue;
    const auto loss = losses_.find(node.node());
    missing.push_back(absl::StrCat(node.host(), loss != losses_.end() ? absl::StrCat(" (", loss->second.why, ")")
                                                : agent != agents_.end() && agent->second.silent ? " (silent)"
                                                                                                 : ""));
  }
  SetFault(69, "not enough nodes",
           absl::StrCat("the job cannot go on: ", WorkersMin(), " workers are needed, but ", Slots(), " have a place after ",
                        absl::FormatDuration(EndAfter(state_)),
                        missing.empty() ? "" : absl::StrCat(", and these hosts are missing: ", absl::StrJoin(missing, ", ")),
                        "; generation ", failures_.back().generation(), " had ended because ",
                        failures_.back().verdict().sentence()));
}

// How many workers each node gets: as even as their slots allow.
std::vector<std::pair<uint32_t, uint32_t>> Membership::Core::Shares() const {
  std::vector<std::pair<uint32_t, uint32_t>> shares;
  uint64_t slots = 0;
  for (const uint32_t node : NodesInOrder()) {
    shares.emplace_back(node, 0);
    slots += agents_.at(node).join.slots();
  }
  uint64_t left = std::min<uint64_t>(slots, options_.workers);
  while (left > 0) {
    for (auto& [node, share] : shares) {
      if (left == 0 || share == agents_.at(node).join.slots()) continue;
      ++share;
      --left;
    }
  }
  return shares;
}

uint32_t Membership::Core::ApplicationOf(uint32_t rank) const {
  uint32_t application = 0;
  for (uint64_t end = 0; application < options_.applications.size(); ++application) {
    end += options_.applications[application].workers;
    if (rank < end) return application;
  }
  return 0;
}

std::string Membership::Core::NameOfApplication(uint32_t application) const {
  return application < application_names_.size() ? application_names_[application] : std::string();
}

membership::NodeOffer Membership::Core::OfferOf(uint32_t node) const {
  const Agent& agent = agents_.at(node);
  return {node,
          agent.join.host(),
          agent.join.slots(),
          agent.topology.value_or(v1::NodeTopology()),
          agent.join.network(),
          agent.join.address(),
          agent.join.devices()};
}

// `nodes` as the network wants them.
std::vector<uint32_t> Membership::Core::Arranged(const std::vector<uint32_t>& nodes, std::string* plan) {
  if (!options_.order) return nodes;
  std::vector<membership::NodeOffer> offers;
  for (const uint32_t node : nodes) offers.push_back(OfferOf(node));
  std::vector<uint32_t> former;
  for (const v1::Node& node : members_.nodes()) former.push_back(node.node());
  membership::NodeOrder order = options_.order(offers, former);
  for (const std::string& note : order.notes) {
    if (!notes_said_.insert(note).second) continue;
    Log(LogLevel::kWarning, note);
    Happen("network", note);
  }
  MUSTER_CHECK(std::is_permutation(nodes.begin(), nodes.end(), order.nodes.begin(), order.nodes.end()),
               "an order has every node once");
  *plan = std::move(order.plan);
  return std::move(order.nodes);
}

// Without a wish for placement ranks of a node follow each other.
absl::StatusOr<membership::Seating> Membership::Core::ChooseSeats() {
  std::string plan;
  if (options_.place) {
    std::vector<membership::NodeOffer> offers;
    uint64_t slots = 0;
    for (const uint32_t node : Arranged(NodesInOrder(), &plan)) {
      offers.push_back(OfferOf(node));
      slots += agents_.at(node).join.slots();
    }
    auto seating = options_.place(static_cast<uint32_t>(std::min<uint64_t>(slots, options_.workers)), offers);
    if (seating.ok()) seating->plan = plan;
    return seating;
  }
  membership::Seating seating;
  std::map<uint32_t, uint32_t> share_of;
  std::vector<uint32_t> nodes;
  for (const auto& [node, share] : Shares()) {
    if (share == 0) continue;
    share_of[node] = share;
    nodes.push_back(node);
  }
  for (const uint32_t node : Arranged(nodes, &plan)) {
    for (uint32_t local = 0; local < share_of[node]; ++local) seating.ranks.push_back({node, local, "", ""});
  }
  seating.plan = plan;
  return seating;
}

absl::Status Membership::Core::ChooseMembers() {
  std::vector<uint32_t> former;
  for (const v1::Node& node : members_.nodes()) former.push_back(node.node());
  auto seating = ChooseSeats();  // looks at the members before
  members_.Clear();
  seats_.clear();
  evidence_.members.clear();
  for (auto& [node, agent] : agents_) agent.member = false;
  if (!seating.ok()) return seating.status();
  std::vector<uint32_t> order;
  for (const membership::Seating::Rank& seat : seating->ranks) {
    Agent& agent = agents_.at(seat.node);
    if (agent.member) continue;
    agent.member = true;
    order.push_back(seat.node);
    seats_[seat.node].host = agent.join.host();
    v1::Node* entry = members_.add_nodes();
    entry->set_node(seat.node);
    entry->set_host(agent.join.host());
    entry->set_address(agent.join.address());
  }
  SayPlan(former, order, std::move(seating->plan));
  DecideNccl(order, &seating->lines);
  for (const membership::Seating::Rank& seat : seating->ranks) {
    const auto rank = static_cast<uint32_t>(members_.places_size());
    v1::Place* place = members_.add_places();
    place->set_rank(rank);
    place->set_slot(rank);
    place->set_node(seat.node);
    place->set_local_rank(seat.local_rank);
    place->set_cpus(seat.cpus);
    place->set_memory_nodes(seat.memory_nodes);
    place->set_application(ApplicationOf(rank));
    evidence_.members.push_back({rank, rank, seat.node, seats_.at(seat.node).host, NameOfApplication(place->application())});
  }
  if (!seating->lines.empty()) actions_.push_back(membership::Placed{std::move(seating->lines)});
  return absl::OkStatus();
}

// An event where it is not what it was.
void Membership::Core::DecideNccl(const std::vector<uint32_t>& order, std::vector<std::string>* lines) {
  nccl_.clear();
  if (!options_.nccl) return;
  std::vector<membership::NodeOffer> offers;
  for (const uint32_t node : order) offers.push_back(OfferOf(node));
  membership::NcclDecision decision = options_.nccl(offers);
  MUSTER_CHECK(decision.environments.size() == order.size(), "NCCL is told something on every node");
  for (size_t i = 0; i < order.size(); ++i) {
    const v1::NcclEnvironment& one = decision.environments[i];
    if (one.variables_size() > 0 || !one.topology_xml().empty()) nccl_[order[i]] = std::move(decision.environments[i]);
  }
  for (const std::string& note : decision.notes) {
    if (!notes_said_.insert(note).second) continue;
    Log(LogLevel::kWarning, note);
    Happen("nccl", note);
  }
  if (decision.reasons != nccl_reasons_) {
    for (const std::string& reason : decision.reasons) {
      Log(LogLevel::kInfo, reason);
      Happen("nccl", reason);
    }
    if (decision.reasons.empty()) Happen("nccl", "NCCL is told nothing more");
  }
  nccl_reasons_ = std::move(decision.reasons);
  nccl_notes_ = std::move(decision.notes);
  if (options_.show_nccl) lines->insert(lines->end(), nccl_reasons_.begin(), nccl_reasons_.end());
}

// An event where nodes that were there before stand otherwise among each other, or where the reason for the order has changed.
void Membership::Core::SayPlan(const std::vector<uint32_t>& former, const std::vector<uint32_t>& order, std::string plan) {
  const auto common = [](const std::vector<uint32_t>& nodes, const std::vector<uint32_t>& others) {
    std::vector<uint32_t> both;
    for (const uint32_t node : nodes) {
      if (std::find(others.begin(), others.end(), node) != others.end()) both.push_back(node);
    }
    return both;
  };
  const bool moved = common(former, order) != common(order, former);
  if (moved || plan != plan_) {
    std::vector<std::string> hosts;
    for (const uint32_t node : order) hosts.push_back(HostOf(node));
    constexpr size_t kShownMax = 16;
    const size_t more = hosts.size() > kShownMax ? hosts.size() - kShownMax : 0;
    hosts.resize(hosts.size() - more);
    Happen("planned", absl::StrCat(plan.empty() ? "nodes are in their own order" : plan, ": ", absl::StrJoin(hosts, ", "),
                                   more > 0 ? absl::StrCat(" and ", more, " more") : ""));
  }
  plan_ = std::move(plan);
}

void Membership::Core::SendPrepares() {
  if (const absl::Status chosen = ChooseMembers(); !chosen.ok()) {
    SetFault(absl::IsInvalidArgument(chosen) ? 64 : 69, "cannot be placed", std::string(chosen.message()));
    return;
  }
  const std::string key = options_.random_bytes ? options_.random_bytes(32) : std::string();
  const std::string digest = DigestOf(members_);
  uint32_t group_rank = 0;
  for (const v1::Node& node : members_.nodes()) {
    v1::CoordinatorMessage message;
    *message.mutable_prepare() = PrepareFor(node.node(), group_rank++, key, digest);
    Tell(node.node(), std::move(message));
  }
  Log(LogLevel::kInfo, absl::StrCat("preparing generation ", generation_, ": workers=", members_.places_size(),
                                    " nodes=", members_.nodes_size()));
  Happen("preparing", absl::StrCat("starting ", members_.places_size(), " workers on ", members_.nodes_size(), " nodes"));
}

v1::Prepare Membership::Core::PrepareFor(uint32_t node, uint32_t group_rank, const std::string& key,
                                         const std::string& digest) const {
  v1::Prepare prepare;
  prepare.set_world_size(static_cast<uint32_t>(members_.places_size()));
  prepare.set_nodes(static_cast<uint32_t>(members_.nodes_size()));
  prepare.set_members_sha256(digest);
  prepare.set_key(key);
  prepare.set_restarts(restarts_);
  prepare.set_max_restarts(options_.max_restarts);
  prepare.set_group_rank(group_rank);
  const v1::Join& first = agents_.at(members_.places(0).node()).join;
  prepare.set_master_address(first.address());
  prepare.set_master_port(first.master_port());
  if (const auto nccl = nccl_.find(node); nccl != nccl_.end()) *prepare.mutable_nccl() = nccl->second;
  for (const v1::Place& place : members_.places()) {
    if (place.node() == node) *prepare.add_places() = place;
  }
  const int size = members_.places_size();
  const int before = (static_cast<int>(prepare.places(0).rank()) + size - 1) % size;
  const int after = (static_cast<int>(prepare.places(prepare.places_size() - 1).rank()) + 1) % size;
  *prepare.add_neighbours() = members_.places(before);
  *prepare.add_neighbours() = members_.places(after);
  return prepare;
}

void Membership::Core::NoteReady(const Event& event) {
  const auto& received = As<membership::Received>(event);
  seats_.at(received.node).ready = true;
  for (const v1::Place& told : received.message.ready().places()) {
    for (v1::Place& place : *members_.mutable_places()) {
      if (place.slot() != told.slot() || place.node() != received.node) continue;
      place.set_spawn(told.spawn());
      place.set_data_port(told.data_port());
    }
  }
}

void Membership::Core::NeverReady(const Event&) {
  std::vector<std::string> hosts;
  for (const auto& [node, seat] : seats_) {
    if (!seat.ready) hosts.push_back(seat.host);
  }
  SetFault(69, "never arrived",
           absl::StrCat("host ", absl::StrJoin(hosts, ", "), " did not start its workers within ",
                        absl::FormatDuration(EndAfter(state_)), ": look at its agent's log"));
  if (evidence_.fault) evidence_.fault->curable = true;
}

void Membership::Core::RecordFormed() {
  v1::RecordEntry entry;
  v1::GenerationFormed* formed = entry.mutable_generation_formed();
  formed->set_generation(generation_);
  *formed->mutable_members() = members_;
  formed->set_committed_step(committed_step_);
  formed->set_plan(plan_);
  for (const std::string& reason : nccl_reasons_) formed->add_nccl(reason);
  for (const std::string& note : nccl_notes_) formed->add_nccl_notes(note);
  Append(std::move(entry), true);
}

void Membership::Core::SendGo() {
  formed_ = true;
  for (const auto& [node, agent] : agents_) {
    if (agent.member && !agent.stopped) SendGoTo(node);
  }
  Log(LogLevel::kInfo, absl::StrCat("generation ", generation_, " runs: workers=", members_.places_size()));
  Happen("running", absl::StrCat(members_.places_size(), " workers run on ", members_.nodes_size(), " nodes"));
}

void Membership::Core::SendGoTo(uint32_t node) {
  v1::CoordinatorMessage message;
  message.mutable_go()->set_members_sha256(DigestOf(members_));
  Tell(node, std::move(message));
}

void Membership::Core::AnswerMembers(const Event& event) {
  v1::CoordinatorMessage message;
  *message.mutable_members() = members_;
  Tell(As<membership::Received>(event).node, std::move(message));
}

}  // namespace muster

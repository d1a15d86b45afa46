// How the coordinator forms a generation: its number, its members, Prepare and Go.
#include <openssl/sha.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/coordinator/membership_core.h"

namespace muster {
namespace {

std::string Sha256(const std::string& bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

}  // namespace

void Membership::Core::TakeGeneration() {
  ++generation_;
  formed_ = false;
  v1::RecordEntry entry;
  entry.mutable_generation_taken()->set_generation(generation_);
  Append(std::move(entry), true);
}

void Membership::Core::ChooseMembers() {
  members_.Clear();
  evidence_.members.clear();
  uint32_t rank = 0;
  for (auto& [node, agent] : agents_) {
    agent.member = agent.ready = false;
    if (!agent.returned || agent.lost || agent.stopped || rank == options_.workers || agent.join.slots() == 0) continue;
    agent.member = true;
    v1::Node* entry = members_.add_nodes();
    entry->set_node(node);
    entry->set_host(agent.join.host());
    entry->set_address(agent.join.address());
    for (uint32_t local = 0; local < agent.join.slots() && rank < options_.workers; ++local, ++rank) {
      v1::Place* place = members_.add_places();
      place->set_rank(rank);
      place->set_slot(rank);
      place->set_node(node);
      place->set_local_rank(local);
      evidence_.members.push_back({rank, rank, node, agent.join.host()});
    }
  }
}

void Membership::Core::SendPrepares() {
  ChooseMembers();
  const std::string key = options_.random_bytes ? options_.random_bytes(32) : std::string();
  const std::string digest = Sha256(members_.SerializeAsString());
  uint32_t group_rank = 0;
  for (const v1::Node& node : members_.nodes()) {
    v1::CoordinatorMessage message;
    *message.mutable_prepare() = PrepareFor(node.node(), group_rank++, key, digest);
    Tell(node.node(), std::move(message));
  }
  Log(LogLevel::kInfo,
      absl::StrCat("preparing generation ", generation_, ": workers=", options_.workers, " nodes=", members_.nodes_size()));
}

v1::Prepare Membership::Core::PrepareFor(uint32_t node, uint32_t group_rank, const std::string& key,
                                         const std::string& digest) const {
  v1::Prepare prepare;
  prepare.set_world_size(static_cast<uint32_t>(members_.places_size()));
  prepare.set_nodes(static_cast<uint32_t>(members_.nodes_size()));
  prepare.set_members_sha256(digest);
  prepare.set_key(key);
  prepare.set_restarts(restarts_);
  prepare.set_group_rank(group_rank);
  const v1::Join& first = agents_.at(members_.places(0).node()).join;
  prepare.set_master_address(first.address());
  prepare.set_master_port(first.master_port());
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

void Membership::Core::NoteReady(const Event& event) { agents_.at(As<membership::Received>(event).node).ready = true; }

void Membership::Core::NeverReady(const Event&) {
  std::vector<std::string> hosts;
  for (const auto& [node, agent] : agents_) {
    if (agent.member && !agent.ready) hosts.push_back(HostOf(node));
  }
  SetFault(69, "never arrived",
           absl::StrCat("host ", absl::StrJoin(hosts, ", "), " did not start its workers within ",
                        absl::FormatDuration(EndAfter(state_)), ": look at its agent's log"));
}

void Membership::Core::RecordFormed() {
  v1::RecordEntry entry;
  entry.mutable_generation_formed()->set_generation(generation_);
  *entry.mutable_generation_formed()->mutable_members() = members_;
  entry.mutable_generation_formed()->set_committed_step(evidence_.committed_step);
  Append(std::move(entry), true);
}

void Membership::Core::SendGo() {
  formed_ = true;
  for (const auto& [node, agent] : agents_) {
    if (!agent.member || agent.lost) continue;
    v1::CoordinatorMessage message;
    message.mutable_go();
    Tell(node, std::move(message));
  }
  Log(LogLevel::kInfo, absl::StrCat("generation ", generation_, " runs: workers=", members_.places_size()));
}

void Membership::Core::AnswerMembers(const Event& event) {
  v1::CoordinatorMessage message;
  *message.mutable_members() = members_;
  Tell(As<membership::Received>(event).node, std::move(message));
}

}  // namespace muster

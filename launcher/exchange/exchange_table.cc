#include "launcher/exchange/exchange_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "launcher/exchange/bounds.h"

namespace muster {

bool ExchangeTable::Takes(const v1::AgentMessage& message) {
  return message.has_contribution() || message.has_rank_question() || message.has_rank_answer();
}

void ExchangeTable::Begin(uint64_t generation, const v1::Members& members) {
  generation_ = generation;
  nodes_.clear();
  node_of_rank_.clear();
  gathers_.clear();
  refused_.clear();
  questions_.clear();
  questions_of_.clear();
  bytes_ = 0;
  for (const v1::Place& place : members.places()) {
    nodes_.insert(place.node());
    node_of_rank_[place.rank()] = place.node();
  }
}

std::vector<ExchangeTable::Send> ExchangeTable::Take(uint32_t node, uint64_t generation, const v1::Members& members,
                                                     const v1::AgentMessage& message) {
  if (generation != 0 && generation != generation_) Begin(generation, members);
  if (generation == 0 || message.generation() != generation_ || !nodes_.contains(node)) {
    ++dropped_;
    return {};
  }
  switch (message.kind_case()) {
    case v1::AgentMessage::kContribution:
      return Contribute(node, message.contribution());
    case v1::AgentMessage::kRankQuestion:
      return Question(node, message.rank_question());
    case v1::AgentMessage::kRankAnswer:
      return Answer(node, message.rank_answer());
    default:
      return {};
  }
}

ExchangeTable::Send ExchangeTable::To(uint32_t node) const {
  Send send{node, {}};
  send.message.set_generation(generation_);
  return send;
}

std::vector<ExchangeTable::Send> ExchangeTable::Contribute(uint32_t node, const v1::Contribution& contribution) {
  const std::string& name = contribution.name();
  std::set<uint32_t> nodes(contribution.nodes().begin(), contribution.nodes().end());
  if (nodes.empty()) nodes = nodes_;
  if (refused_.contains(name)) return Refuse(name, {node}, "it was refused before");
  if (name.empty() || name.size() > kGatherNameBytesMax) {
    return Refuse(name.substr(0, kGatherNameBytesMax), {node}, absl::StrCat("a name of ", name.size(), " bytes"));
  }
  if (!nodes.contains(node) || !std::includes(nodes_.begin(), nodes_.end(), nodes.begin(), nodes.end())) {
    return Refuse(name, {node}, "it names nodes that take no part in this generation");
  }
  auto found = gathers_.find(name);
  if (found == gathers_.end()) {
    if (gathers_.size() >= kGathersMax) {
      return Refuse(name, nodes, absl::StrCat(kGathersMax, " others are not done yet"));
    }
    found = gathers_.emplace(name, Gather{.nodes = nodes, .parts = {}, .bytes = 0}).first;
  }
  Gather& gather = found->second;
  if (gather.nodes != nodes) {
    std::set<uint32_t> all = gather.nodes;
    all.merge(nodes);
    return Refuse(name, all, "nodes do not agree on who takes part");
  }
  if (gather.parts.contains(node)) return Refuse(name, nodes, absl::StrCat("node ", node, " sent its part twice"));
  const size_t bytes = contribution.data().size();
  if (bytes > kContributionBytesMax || gather.bytes + bytes > kGatheredBytesMax || bytes_ + bytes > kGathersBytesMax) {
    return Refuse(name, nodes,
                  absl::StrCat("too long with the ", bytes, " bytes of node ", node, ": a node may send ",
                               kContributionBytesMax, ", all together ", kGatheredBytesMax));
  }
  gather.bytes += bytes;
  bytes_ += bytes;
  gather.parts[node] = contribution.data();
  if (gather.parts.size() == 1 && gather.nodes.size() > 1) return TellAwaited(name, gather, contribution.rank());
  if (gather.parts.size() < gather.nodes.size()) return {};
  Gather done = std::move(gather);
  gathers_.erase(found);
  bytes_ -= done.bytes;
  return Complete(name, std::move(done));
}

// Once a gather, by its first part: no more messages than its end takes.
std::vector<ExchangeTable::Send> ExchangeTable::TellAwaited(const std::string& name, const Gather& gather,
                                                            uint32_t rank) const {
  std::vector<Send> sends;
  for (const uint32_t node : gather.nodes) {
    if (gather.parts.contains(node)) continue;
    sends.push_back(To(node));
    sends.back().message.mutable_awaited()->set_name(name);
    sends.back().message.mutable_awaited()->set_rank(rank);
  }
  return sends;
}

std::vector<ExchangeTable::Send> ExchangeTable::Complete(const std::string& name, Gather gather) {
  v1::Gathered gathered;
  gathered.set_name(name);
  for (auto& [node, data] : gather.parts) {
    v1::Gathered::Part& part = *gathered.add_parts();
    part.set_node(node);
    part.set_data(std::move(data));
  }
  std::vector<Send> sends;
  for (const uint32_t node : gather.nodes) {
    sends.push_back(To(node));
    *sends.back().message.mutable_gathered() = gathered;
  }
  return sends;
}

// Who has not come yet is told as well: it would wait for ever.
std::vector<ExchangeTable::Send> ExchangeTable::Refuse(const std::string& name, const std::set<uint32_t>& nodes,
                                                       const std::string& why) {
  if (const auto found = gathers_.find(name); found != gathers_.end() && nodes.size() > 1) {
    bytes_ -= found->second.bytes;
    gathers_.erase(found);
  }
  if (nodes.size() > 1 && refused_.size() < kGathersMax) refused_.insert(name);
  std::vector<Send> sends;
  for (const uint32_t node : nodes) {
    if (!nodes_.contains(node)) continue;
    sends.push_back(To(node));
    sends.back().message.mutable_gathered()->set_name(name);
    sends.back().message.mutable_gathered()->set_refused(why);
  }
  return sends;
}

std::vector<ExchangeTable::Send> ExchangeTable::RefuseQuestion(uint32_t node, uint64_t id, const std::string& why) {
  std::vector<Send> sends = {To(node)};
  v1::RankAnswer& answer = *sends[0].message.mutable_rank_answer();
  answer.set_id(id);
  answer.set_node(node);
  answer.set_refused(why);
  return sends;
}

std::vector<ExchangeTable::Send> ExchangeTable::Question(uint32_t node, const v1::RankQuestion& question) {
  const auto owner = node_of_rank_.find(question.rank());
  if (owner == node_of_rank_.end()) {
    return RefuseQuestion(node, question.id(), absl::StrCat("there is no rank ", question.rank()));
  }
  if (question.data().size() > kContributionBytesMax || questions_of_[node] >= kQuestionsMax) {
    return RefuseQuestion(node, question.id(), "too many questions, or too long a one");
  }
  if (!questions_.emplace(std::pair{node, question.id()}, owner->second).second) {
    ++dropped_;
    return {};
  }
  ++questions_of_[node];
  std::vector<Send> sends = {To(owner->second)};
  *sends[0].message.mutable_rank_question() = question;
  sends[0].message.mutable_rank_question()->set_node(node);
  return sends;
}

std::vector<ExchangeTable::Send> ExchangeTable::Answer(uint32_t node, const v1::RankAnswer& answer) {
  const auto asked = questions_.find({answer.node(), answer.id()});
  if (asked == questions_.end() || asked->second != node) {
    ++dropped_;
    return {};
  }
  questions_.erase(asked);
  --questions_of_[answer.node()];
  if (answer.data().size() > kContributionBytesMax) {
    return RefuseQuestion(answer.node(), answer.id(), absl::StrCat("an answer of ", answer.data().size(), " bytes"));
  }
  std::vector<Send> sends = {To(answer.node())};
  *sends[0].message.mutable_rank_answer() = answer;
  return sends;
}

}  // namespace muster

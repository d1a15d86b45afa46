#include "launcher/exchange/node_exchange.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/exchange/bounds.h"

namespace muster {

void NodeExchange::Begin(uint64_t generation, uint32_t node, std::vector<uint32_t> nodes) {
  ForgetGeneration();
  generation_ = generation;
  node_ = node;
  nodes_ = std::move(nodes);
}

void NodeExchange::Listen() {
  listening_ = true;
  held_bytes_ = 0;
  for (v1::CoordinatorMessage& message : std::exchange(held_, {})) Take(std::move(message));
}

void NodeExchange::End() {
  ForgetGeneration();
  held_.clear();
  held_bytes_ = 0;
}

void NodeExchange::ForgetGeneration() {
  generation_ = 0;
  listening_ = false;
  gathers_.clear();
  questions_.clear();
  answer_ = nullptr;
  awaited_ = nullptr;
}

void NodeExchange::Gather(const std::string& name, const std::vector<uint32_t>& nodes, uint32_t rank, std::string data,
                          std::function<void(absl::StatusOr<Parts>)> done) {
  if (generation_ == 0) return done(absl::FailedPreconditionError("no generation runs here"));
  if (data.size() > kContributionBytesMax) {
    return done(absl::InvalidArgumentError(absl::StrCat(data.size(), " bytes of this node for its peers; at most ",
                                                        kContributionBytesMax, " may be sent at a time")));
  }
  const std::vector<uint32_t>& who = nodes.empty() ? nodes_ : nodes;
  if (who.size() == 1 && who[0] == node_) return done(Parts{{node_, std::move(data)}});
  if (!gathers_.emplace(name, done).second) {
    return done(absl::FailedPreconditionError(absl::StrCat("the name ", name, " is in use")));
  }
  v1::AgentMessage message;
  message.mutable_contribution()->set_name(name);
  message.mutable_contribution()->set_data(std::move(data));
  message.mutable_contribution()->mutable_nodes()->Add(nodes.begin(), nodes.end());
  message.mutable_contribution()->set_rank(rank);
  send_(std::move(message));
}

void NodeExchange::Ask(uint32_t rank, std::string data, std::function<void(absl::StatusOr<std::string>)> done) {
  if (generation_ == 0) return done(absl::FailedPreconditionError("no generation runs here"));
  if (data.size() > kContributionBytesMax || questions_.size() >= kQuestionsMax) {
    return done(absl::InvalidArgumentError("too many questions, or too long a one"));
  }
  const uint64_t id = ++next_question_;
  questions_[id] = std::move(done);
  v1::AgentMessage message;
  message.mutable_rank_question()->set_id(id);
  message.mutable_rank_question()->set_rank(rank);
  message.mutable_rank_question()->set_data(std::move(data));
  send_(std::move(message));
}

bool NodeExchange::Takes(const v1::CoordinatorMessage& message) {
  return message.has_gathered() || message.has_rank_question() || message.has_rank_answer() || message.has_awaited();
}

void NodeExchange::Take(v1::CoordinatorMessage message) {
  if (!listening_ && (message.has_rank_question() || message.has_awaited())) return Hold(std::move(message));
  if (generation_ == 0 || message.generation() != generation_) return;  // of a generation whose workers have ended
  if (message.has_awaited() && awaited_) return awaited_(message.awaited().name(), message.awaited().rank());
  if (message.has_gathered()) {
    auto open = gathers_.extract(message.gathered().name());
    if (open.empty()) return;
    if (!message.gathered().refused().empty())
      return open.mapped()(absl::FailedPreconditionError(message.gathered().refused()));
    Parts parts;
    for (v1::Gathered::Part& part : *message.mutable_gathered()->mutable_parts()) {
      parts.emplace_back(part.node(), std::move(*part.mutable_data()));
    }
    return open.mapped()(std::move(parts));
  }
  if (message.has_rank_answer()) {
    auto open = questions_.extract(message.rank_answer().id());
    if (open.empty()) return;
    if (!message.rank_answer().refused().empty()) return open.mapped()(absl::UnavailableError(message.rank_answer().refused()));
    return open.mapped()(std::move(*message.mutable_rank_answer()->mutable_data()));
  }
  if (message.has_rank_question()) TakeQuestion(message.rank_question());
}

// Of the next generation, or of one that is over: Listen knows.
void NodeExchange::Hold(v1::CoordinatorMessage message) {
  const size_t bytes = message.ByteSizeLong();
  if (held_bytes_ + bytes <= kHeldBytesMax) {
    held_bytes_ += bytes;
    held_.push_back(std::move(message));
  } else if (message.has_rank_question()) {
    v1::AgentMessage refusal;
    refusal.mutable_rank_answer()->set_id(message.rank_question().id());
    refusal.mutable_rank_answer()->set_node(message.rank_question().node());
    refusal.mutable_rank_answer()->set_refused("it has been asked too much before it had begun");
    send_(std::move(refusal));
  }
}

void NodeExchange::TakeQuestion(const v1::RankQuestion& question) {
  // An answer may come when this generation is over: `send_` is of no use to it then.
  Reply reply = [this, generation = generation_, id = question.id(), node = question.node()](absl::StatusOr<std::string> data) {
    if (generation != generation_) return;
    v1::AgentMessage message;
    v1::RankAnswer& answer = *message.mutable_rank_answer();
    answer.set_id(id);
    answer.set_node(node);
    if (data.ok() && data->size() <= kContributionBytesMax) {
      answer.set_data(*std::move(data));
    } else {
      answer.set_refused(data.ok() ? absl::StrCat("an answer of ", data->size(), " bytes")
                                   : std::string(data.status().message()));
      if (answer.refused().empty()) answer.set_refused("it has no answer");
    }
    send_(std::move(message));
  };
  if (!answer_) return reply(absl::UnavailableError("nothing here knows it"));
  answer_(question.node(), question.rank(), question.data(), std::move(reply));
}

}  // namespace muster

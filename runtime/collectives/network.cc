#include "runtime/collectives/network.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"

namespace muster {
namespace {

bool AllDone(const std::vector<MeshTransfer>& transfers) {
  return std::all_of(transfers.begin(), transfers.end(), [](const MeshTransfer& t) { return t.done; });
}

}  // namespace

const NodePartials& Network::partials(int shards) {
  auto found = partials_.find(shards);
  if (found == partials_.end()) found = partials_.emplace(shards, NodePartials(nodes_, shards)).first;
  return found->second;
}

absl::Status Network::Progress(Member& member, absl::FunctionRef<bool()> ready, absl::FunctionRef<int()> awaited) {
  const std::optional<MeshFailure> failure = mesh_->Progress(
      ready, [&member] { return member.IsAborted(); }, DeadlineOf(member), absl::Nanoseconds(member.spin_nanoseconds()));
  // What is complete counts, though a peer has gone since.
  if (!failure.has_value() || ready()) return absl::OkStatus();
  return FailWith(member, *failure, awaited);
}

absl::Status Network::Poll(Member& member) {
  int looks = 0;
  // With time to spin the mesh looks again before it would sleep.
  const std::optional<MeshFailure> failure = mesh_->Progress(
      [&looks] { return looks++ > 0; }, [&member] { return member.IsAborted(); }, DeadlineOf(member), absl::Milliseconds(1));
  return failure.has_value() ? FailWith(member, *failure, [] { return -1; }) : absl::OkStatus();
}

int64_t Network::DeadlineOf(const Member& member) const {
  return member.deadline() == INT64_MAX ? INT64_MAX : member.deadline() - outer_wait_nanoseconds_;
}

absl::Status Network::FailWith(Member& member, const MeshFailure& failure, absl::FunctionRef<int()> awaited) {
  if (failure.reason == v1::AbortReason::kNone) return member.FailByAbortWord();
  uint32_t rank = failure.rank;
  if (failure.reason == v1::AbortReason::kDeadline && rank == v1::kNoRank) {
    if (const int missing = awaited(); missing >= 0) rank = static_cast<uint32_t>(missing);
  }
  return member.FailBetweenNodes(failure.reason, rank, failure.detail, failure.text);
}

void Network::Tell(const Failure& failure, uint32_t job_rank) {
  if (mesh_ == nullptr || told_.exchange(true)) return;
  // Elsewhere "the agent of this node" is nobody's.
  const bool of_this_node = failure.reason == v1::AbortReason::kAgentLost && failure.rank == v1::kNoRank;
  mesh_->Abort({failure.reason, of_this_node ? job_rank : failure.rank, failure.detail, failure.text});
}

void Network::Leave(uint32_t job_rank) {
  if (mesh_ == nullptr || told_.exchange(true)) return;
  mesh_->Abort({v1::AbortReason::kPeerLeft, job_rank, 0, ""});
}

void Network::PostCalls(Member& member) {
  const bool agree = member.CallsAgree();
  const std::vector<Call> different =
      agree ? std::vector<Call>{{member.announced(0), member.ranks(), std::ranges::min(member.local_job_ranks())}}
            : member.DifferentCalls();
  own_calls_ = {};
  own_calls_.digest = agree ? DigestOf(different[0].what) : 0;
  own_calls_.buffer_bytes = static_cast<uint32_t>(member.slot_bytes() + member.staging_bytes());
  own_calls_.calls = static_cast<uint32_t>(std::min(different.size(), kCallsMax));
  for (size_t i = 0; i < own_calls_.calls; ++i) {
    Call& call = own_calls_.call[i];
    call = different[i];
    call.what.window = call.what.window2 = v1::kPrivateMemory;  // addresses say nothing elsewhere
    call.what.offset = call.what.offset2 = 0;
  }
  const auto nodes = static_cast<size_t>(nodes_.count());
  calls_.assign(nodes, {});
  calls_sent_.assign(nodes, {});
  calls_received_.assign(nodes, {});
  const MeshTag tag = {member.op_seq(), 0};
  for (size_t n = 0; n < nodes; ++n) {
    if (static_cast<int>(n) == nodes_.node) {
      calls_sent_[n].done = calls_received_[n].done = true;
      continue;
    }
    const int peer = PeerOn(static_cast<int>(n), member);
    mesh_->Send(peer, tag, &own_calls_, sizeof(NodeCalls), &calls_sent_[n]);
    mesh_->Receive(peer, tag, &calls_[n], sizeof(NodeCalls), &calls_received_[n]);
  }
}

bool Network::CallsAreHere() const { return AllDone(calls_received_) && AllDone(calls_sent_); }

int Network::AwaitedCalls(const Member& member) const {
  for (int n = 0; n < nodes_.count(); ++n) {
    if (!calls_received_[static_cast<size_t>(n)].done) return PeerOn(n, member);
  }
  return -1;
}

absl::Status Network::CheckCalls(Member& member) {
  bool agree = own_calls_.digest != 0;
  for (int n = 0; n < nodes_.count(); ++n) {
    if (n == nodes_.node) continue;
    const NodeCalls& calls = calls_[static_cast<size_t>(n)];
    if (calls.buffer_bytes != own_calls_.buffer_bytes) {
      // The choice of algorithm would differ.
      return member.FailBetweenNodes(
          v1::AbortReason::kAborted, static_cast<uint32_t>(member.JobRank(nodes_.first_rank(n))), 0,
          "the agents of the nodes made control memory of different sizes; they must be of one version");
    }
    agree = agree && calls.digest == own_calls_.digest;
  }
  if (agree) return absl::OkStatus();
  std::vector<Call> all;
  for (int n = 0; n < nodes_.count(); ++n) {
    const NodeCalls& calls = n == nodes_.node ? own_calls_ : calls_[static_cast<size_t>(n)];
    AddCalls({calls.call, std::min<size_t>(calls.calls, kCallsMax)}, all);
  }
  return member.FailByMismatch(all);
}

}  // namespace muster

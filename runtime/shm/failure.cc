#include "runtime/shm/failure.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/muster/v1/operation_text.h"

namespace muster {
namespace {

std::string RankOn(int rank, const std::string& host) {
  return host.empty() ? absl::StrCat("rank ", rank) : absl::StrCat("rank ", rank, " (", host, ")");
}

std::string During(const v1::OpDescriptor& what) {
  return what.kind == v1::OpKind::kNone ? "" : absl::StrCat(" during ", Describe(what, v1::Detail::kBrief));
}

}  // namespace

uint64_t DigestOf(const v1::OpDescriptor& what) {
  // A bijective finalizer over a sum of odd multiples; two calls that differ in one field never collide.
  uint64_t x = static_cast<uint64_t>(what.kind) | static_cast<uint64_t>(what.type) << 8 | static_cast<uint64_t>(what.op) << 16 |
               static_cast<uint64_t>(static_cast<uint32_t>(what.root)) << 32;
  x = x * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(what.count) * 0xc2b2ae3d27d4eb4fULL;
  x ^= x >> 29;
  x = x * 0xbf58476d1ce4e5b9ULL + static_cast<uint64_t>(what.stride) * 0x94d049bb133111ebULL;
  return x ^ x >> 32;
}

std::vector<Call> DifferentCalls(std::span<const v1::OpDescriptor> announced, std::span<const int> ranks) {
  std::vector<Call> calls;
  for (size_t i = 0; i < announced.size(); ++i) {
    const Call call = {announced[i], 1, ranks[i]};
    AddCalls({&call, 1}, calls);
  }
  return calls;
}

void AddCalls(std::span<const Call> others, std::vector<Call>& calls) {
  for (const Call& other : others) {
    const auto same =
        std::find_if(calls.begin(), calls.end(), [&](const Call& call) { return DigestOf(call.what) == DigestOf(other.what); });
    if (same == calls.end()) {
      calls.push_back(other);
    } else {
      same->votes += other.votes;
      same->lowest_rank = std::min(same->lowest_rank, other.lowest_rank);
    }
  }
  std::sort(calls.begin(), calls.end(), [](const Call& a, const Call& b) { return a.lowest_rank < b.lowest_rank; });
}

Failure MismatchFailure(std::span<const Call> calls) {
  if (calls.size() < 2) return {absl::InternalError("ranks' calls differ, but their descriptors agree")};
  int32_t ranks = 0;
  const Call* usual = &calls[0];
  for (const Call& call : calls) {
    ranks += call.votes;
    if (call.votes > usual->votes) usual = &call;
  }
  const Call& odd = usual == &calls[0] ? calls[1] : calls[0];
  const bool brief_will_do = Describe(odd.what, v1::Detail::kBrief) != Describe(usual->what, v1::Detail::kBrief);
  const v1::Detail detail = brief_will_do ? v1::Detail::kBrief : v1::Detail::kFull;
  std::string text = absl::StrCat("rank ", odd.lowest_rank, " called ", Describe(odd.what, detail), ", ",
                                  ranks == 2 ? absl::StrCat("rank ", usual->lowest_rank) : std::string("the others"), " ",
                                  Describe(usual->what, detail), "; every rank must make the same calls in the same order");
  return {absl::InvalidArgumentError(text), v1::AbortReason::kMismatch, static_cast<uint32_t>(odd.lowest_rank), 0,
          std::move(text)};
}

Failure AbortFailure(uint64_t word, uint64_t generation, const std::string& host, const std::string& text,
                     const v1::OpDescriptor& what) {
  const v1::AbortReason reason = v1::AbortReasonOf(word);
  const uint32_t rank = v1::AbortRankOf(word);
  const std::string who = rank == v1::kNoRank ? std::string("a peer") : RankOn(static_cast<int>(rank), host);
  auto failure = [&](absl::Status status) { return Failure{std::move(status), reason, rank, v1::AbortDetailOf(word), text}; };
  switch (reason) {
    case v1::AbortReason::kPeerLost:
      return failure(absl::UnavailableError(absl::StrCat(who, ": lost", During(what))));
    case v1::AbortReason::kPeerLeft:
      return failure(absl::UnavailableError(absl::StrCat(who, " left before the others", During(what))));
    case v1::AbortReason::kMismatch:
      return failure(absl::InvalidArgumentError(text.empty() ? absl::StrCat(who, " made another call than the others") : text));
    case v1::AbortReason::kDeadline:
      return failure(absl::DeadlineExceededError(absl::StrCat(who, " had not arrived when a deadline passed")));
    case v1::AbortReason::kAborted:
      return failure(absl::AbortedError(absl::StrCat(who, " aborted: ", text.empty() ? "no reason given" : text)));
    case v1::AbortReason::kAgentLost:
      return failure(absl::UnavailableError(
          absl::StrCat(rank == v1::kNoRank ? std::string("the agent of this node") : absl::StrCat("the agent of ", who),
                       rank == v1::kNoRank && !host.empty() ? absl::StrCat(" (", host, ")") : "", " is gone", During(what))));
    case v1::AbortReason::kMpi:
    case v1::AbortReason::kGenerationOver:
    case v1::AbortReason::kNone:
      break;
  }
  return {absl::AbortedError(absl::StrCat("generation ", generation, " is over", During(what))),
          v1::AbortReason::kGenerationOver, rank};
}

Failure PeerLeftFailure(int rank, const std::string& host, const v1::OpDescriptor& what) {
  return {absl::UnavailableError(absl::StrCat(RankOn(rank, host), " left before the others", During(what))),
          v1::AbortReason::kPeerLeft, static_cast<uint32_t>(rank)};
}

Failure DeadlineFailure(int rank, const std::string& host, const v1::OpDescriptor& what) {
  return {
      absl::DeadlineExceededError(absl::StrCat(RankOn(rank, host), " had not arrived when the deadline passed", During(what))),
      v1::AbortReason::kDeadline, static_cast<uint32_t>(rank)};
}

}  // namespace muster

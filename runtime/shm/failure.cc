#include "runtime/shm/failure.h"

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

// The digest of the largest group of equal calls; among equals the one whose first rank is lowest.
uint64_t MajorityDigest(std::span<const v1::OpDescriptor> announced) {
  size_t best = 0;
  uint64_t majority = 0;
  for (const v1::OpDescriptor& candidate : announced) {
    const uint64_t digest = DigestOf(candidate);
    size_t votes = 0;
    for (const v1::OpDescriptor& other : announced) votes += DigestOf(other) == digest;
    if (votes > best) {
      best = votes;
      majority = digest;
    }
  }
  return majority;
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

Failure MismatchFailure(std::span<const v1::OpDescriptor> announced) {
  const uint64_t majority = MajorityDigest(announced);
  int odd = -1;
  int usual = -1;
  for (int rank = static_cast<int>(announced.size()) - 1; rank >= 0; --rank) {
    (DigestOf(announced[static_cast<size_t>(rank)]) == majority ? usual : odd) = rank;
  }
  if (odd < 0 || usual < 0) return {absl::InternalError("ranks' calls differ, but their descriptors agree")};
  const v1::OpDescriptor& theirs = announced[static_cast<size_t>(odd)];
  const v1::OpDescriptor& others = announced[static_cast<size_t>(usual)];
  const bool brief_will_do = Describe(theirs, v1::Detail::kBrief) != Describe(others, v1::Detail::kBrief);
  const v1::Detail detail = brief_will_do ? v1::Detail::kBrief : v1::Detail::kFull;
  return {absl::InvalidArgumentError(
              absl::StrCat("rank ", odd, " called ", Describe(theirs, detail), ", ",
                           announced.size() == 2 ? absl::StrCat("rank ", usual) : std::string("the others"), " ",
                           Describe(others, detail), "; every rank must make the same calls in the same order")),
          v1::AbortReason::kMismatch, static_cast<uint32_t>(odd)};
}

Failure AbortFailure(uint64_t word, uint64_t generation, const std::string& host, const std::string& text,
                     const v1::OpDescriptor& what) {
  const v1::AbortReason reason = v1::AbortReasonOf(word);
  const uint32_t rank = v1::AbortRankOf(word);
  const std::string who = rank == v1::kNoRank ? std::string("a peer") : RankOn(static_cast<int>(rank), host);
  switch (reason) {
    case v1::AbortReason::kPeerLost:
      return {absl::UnavailableError(absl::StrCat(who, ": lost", During(what))), reason, rank};
    case v1::AbortReason::kPeerLeft:
      return {absl::UnavailableError(absl::StrCat(who, " left before the others", During(what))), reason, rank};
    case v1::AbortReason::kMismatch:
      return {absl::InvalidArgumentError(absl::StrCat(who, " made another call than the others")), reason, rank};
    case v1::AbortReason::kDeadline:
      return {absl::DeadlineExceededError(absl::StrCat(who, " had not arrived when a deadline passed")), reason, rank};
    case v1::AbortReason::kAborted:
      return {absl::AbortedError(absl::StrCat(who, " aborted: ", text.empty() ? "no reason given" : text)), reason, rank};
    case v1::AbortReason::kAgentLost:
      return {absl::UnavailableError(absl::StrCat("the agent of this node", host.empty() ? "" : absl::StrCat(" (", host, ")"),
                                                  " is gone", During(what))),
              reason, rank};
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

#include "runtime/collectives/registry.h"

#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/shm/algorithms.h"

namespace muster {
namespace {

constexpr Algorithm kAlgorithms[] = {
    {"alone", [](const Situation& s) { return s.ranks == 1; }, RunAlone},
    {"flag_line", [](const Situation& s) { return s.contribution_bytes <= static_cast<int64_t>(v1::kFlagPayloadBytes); },
     RunInFlagLine},
    {"one_pass", [](const Situation& s) { return s.placement == Placement::kOneWindow; }, RunInWindows},
    {"slots", [](const Situation& s) { return s.placement == Placement::kMixed && s.contribution_bytes <= s.slot_bytes; },
     RunInSlots},
    {"staged", [](const Situation& s) { return s.placement == Placement::kMixed; }, RunStaged},
};

}  // namespace

std::span<const Algorithm> Algorithms() { return kAlgorithms; }

const Algorithm* Select(const Situation& situation) {
  for (const Algorithm& algorithm : kAlgorithms) {
    if (algorithm.fits(situation)) return &algorithm;
  }
  return nullptr;
}

absl::Status RunCollective(Member& member, const Operation& operation, const std::atomic<int>* callers_inside) {
  MUSTER_RETURN_IF_ERROR(member.Begin(operation, callers_inside));
  Situation situation = {member.ranks(), ContributionBytes(operation), member.slot_bytes()};
  const Algorithm* algorithm = Select(situation);
  if (algorithm == nullptr) {
    if (situation.contribution_bytes <= member.slot_bytes()) PutInSlot(member, operation);
    MUSTER_RETURN_IF_ERROR(member.Exchange());
    const bool copied = situation.contribution_bytes <= member.copied_bytes_max();
    situation.placement = !copied && member.InputsInOneWindow() ? Placement::kOneWindow : Placement::kMixed;
    algorithm = Select(situation);
    MUSTER_CHECK(algorithm != nullptr, "the table covers every known placement");
  }
  MUSTER_RETURN_IF_ERROR(algorithm->run(member, operation));
  member.Finish(/*timed=*/situation.contribution_bytes > static_cast<int64_t>(v1::kFlagPayloadBytes));
  return absl::OkStatus();
}

}  // namespace muster

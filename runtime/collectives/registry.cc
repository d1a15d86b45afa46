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
    {"slots", [](const Situation& s) { return s.contribution_bytes <= s.slot_bytes; }, RunInSlots},
    {"one_pass", [](const Situation& s) { return s.placement == Placement::kOneWindow; }, RunInWindows},
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
  Situation situation = {member.ranks(), ContributionBytes(operation), member.slot_bytes(), Placement::kUnknown};
  const Algorithm* algorithm = Select(situation);
  if (algorithm == nullptr) {
    MUSTER_RETURN_IF_ERROR(member.Exchange());
    situation.placement = member.InputsInOneWindow() ? Placement::kOneWindow : Placement::kMixed;
    algorithm = Select(situation);
    MUSTER_CHECK(algorithm != nullptr, "the table covers every known placement");
  }
  MUSTER_RETURN_IF_ERROR(algorithm->run(member, operation));
  member.Finish(/*timed=*/situation.contribution_bytes > static_cast<int64_t>(v1::kFlagPayloadBytes));
  return absl::OkStatus();
}

}  // namespace muster

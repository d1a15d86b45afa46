#include "launcher/process/report.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "launcher/coordinator/rank_summary.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

Json OrNull(bool present, const Json& value) { return present ? value : Json(); }

Json OfCause(const Cause& cause) {
  return {{"rank", OrNull(cause.rank >= 0, cause.rank)},
          {"host", OrNull(!cause.host.empty(), cause.host)},
          {"program", OrNull(!cause.program.empty(), cause.program)},
          {"class", cause.failure_class},
          {"sentence", cause.sentence},
          {"signal", OrNull(cause.signal != 0, cause.signal)},
          {"worker_exit_code", OrNull(cause.worker_exit_code != 0, cause.worker_exit_code)},
          {"pid", OrNull(cause.pid > 0, cause.pid)},
          {"unix_ms", cause.when_ms},
          {"last_operation", OrNull(!cause.last_op.empty(), cause.last_op)},
          {"error", OrNull(!cause.program_error.empty(), cause.program_error)},
          {"traceback", OrNull(!cause.program_trace.empty(), cause.program_trace)}};
}

// Protobuf knows the names too, but first builds all it knows of the file: most of a millisecond at every job's end.
const char* KindName(v1::Ending::Kind kind) {
  switch (kind) {
    case v1::Ending::EXITED:
      return "exited";
    case v1::Ending::SIGNALED:
      return "signaled";
    case v1::Ending::NOT_FOUND:
      return "not found";
    case v1::Ending::NOT_EXECUTABLE:
      return "not executable";
    case v1::Ending::SPAWN_FAILED:
      return "spawn failed";
    case v1::Ending::OUTPUT_FAILED:
      return "output failed";
    case v1::Ending::LEFT_EARLY:
      return "left early";
    case v1::Ending::OUT_OF_MEMORY:
      return "out of memory";
    case v1::Ending::GUARD_LOST:
      return "guard lost";
    case v1::Ending::AGENT_LOST:
      return "agent lost";
    case v1::Ending::TIMED_OUT:
      return "timed out";
    case v1::Ending::NODE_LOST:
      return "node lost";
    case v1::Ending::UNKNOWN:
    case v1::Ending_Kind_Ending_Kind_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::Ending_Kind_Ending_Kind_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return "unknown";
}

Json OfEnding(const v1::WorkerEnded& ended) {
  const v1::Ending& ending = ended.ending();
  const bool signaled = ending.kind() == v1::Ending::SIGNALED;
  const bool exited = ending.kind() == v1::Ending::EXITED || ending.kind() == v1::Ending::LEFT_EARLY;
  return {{"ending", KindName(ending.kind())},
          {"exit_code", OrNull(exited, ending.code())},
          {"signal", OrNull(signaled, ending.code())},
          {"detail", OrNull(!ending.detail().empty(), ending.detail())},
          {"pid", OrNull(ended.pid() > 0, ended.pid())},
          {"unix_ms", ended.when_ms()},
          {"ended_by_muster", ended.expected()},
          {"joined", ended.had_joined()},
          {"left", ended.had_left()},
          {"last_operation", OrNull(!ended.last_op().empty(), ended.last_op())},
          {"error", OrNull(!ending.program_error().empty(), ending.program_error())}};
}

Json OfState(const v1::RankState& state) {
  return {{"pid", OrNull(state.pid() > 0, state.pid())},
          {"joined", state.joined()},
          {"left", state.left()},
          {"operation", OrNull(state.op_seq() > 0, state.op())},
          {"operation_number", OrNull(state.op_seq() > 0, state.op_seq())},
          {"operation_finished", OrNull(state.op_seq() > 0, state.op_finished())},
          {"operation_ms", OrNull(state.op_seq() > 0, state.op_ms())},
          {"committed_step", OrNull(state.step() >= 0, state.step())},
          {"process_state", OrNull(!state.process_state().empty(), state.process_state())},
          {"wait_channel", OrNull(!state.wait_channel().empty(), state.wait_channel())},
          {"cpu_ms", state.cpu_ms()}};
}

// Where the ranks were at --timeout, equal ones together, the odd one out first.
Json Where(const Evidence& evidence) {
  Json where = Json::array();
  if (!evidence.ranks_were_asked) return where;
  for (const RankGroup& group : SummarizeRanks(evidence).groups) where.push_back({{"ranks", group.ranks}, {"what", group.what}});
  return where;
}

Json Ranks(const Evidence& evidence) {
  std::map<uint32_t, Json> by_rank;
  for (const Evidence::Member& member : evidence.members) {
    by_rank[member.rank] = {{"rank", member.rank},
                            {"slot", member.slot},
                            {"host", member.host},
                            {"program", OrNull(!member.program.empty(), member.program)}};
  }
  for (const v1::WorkerEnded& ended : evidence.endings) {
    Json& rank = by_rank[ended.rank()];
    rank["rank"] = ended.rank();
    rank.update(OfEnding(ended));
  }
  for (const v1::RankState& state : evidence.rank_states) by_rank[state.rank()]["at_timeout"] = OfState(state);
  Json ranks = Json::array();
  for (auto& [rank, json] : by_rank) ranks.push_back(std::move(json));
  return ranks;
}

Json OfFailure(const v1::GenerationEnded& ended) {
  const v1::Verdict& why = ended.verdict();
  return {{"generation", ended.generation()},
          {"class", why.failure_class()},
          {"sentence", why.sentence()},
          {"rank", OrNull(why.rank() >= 0, why.rank())},
          {"host", OrNull(!why.host().empty(), why.host())},
          {"exit_code", why.exit_code()},
          {"error", OrNull(!why.program_error().empty(), why.program_error())},
          {"committed_step", OrNull(why.committed_step() >= 0, why.committed_step())}};
}

Json OfRefused(const RefusalLedger& ledger) {
  Json refused = Json::array();
  for (const RefusalLedger::Entry& entry : ledger.entries()) {
    refused.push_back({{"by", entry.by},
                       {"what", entry.what},
                       {"from", entry.from},
                       {"count", entry.count},
                       {"unix_ms", absl::ToUnixMillis(entry.last)}});
  }
  return refused;
}

}  // namespace

void TakeMembership(const Membership& membership, JobResult* result) {
  result->generation = membership.generation();
  result->plan = membership.plan();
  result->nccl = membership.nccl();
  result->restarts = membership.restarts();
  result->checkpoint_step = membership.checkpoint_step() > 0 ? membership.checkpoint_step() : -1;
  result->failures = membership.failures();
  result->refusals = membership.refusals();
  result->evidence = membership.evidence();
}

std::string ReportJson(const JobResult& result) {
  const v1::Verdict& verdict = result.judgement.verdict;
  Json causes = Json::array();
  for (const Cause& cause : result.judgement.causes) causes.push_back(OfCause(cause));
  Json generations = Json::array();
  for (const v1::GenerationEnded& ended : result.failures) generations.push_back(OfFailure(ended));
  const Json report = {{"exit_code", verdict.exit_code()},
                       {"origin", verdict.origin()},
                       {"sentence", verdict.sentence()},
                       {"class", OrNull(!verdict.failure_class().empty(), verdict.failure_class())},
                       {"rank", OrNull(verdict.rank() >= 0, verdict.rank())},
                       {"host", OrNull(!verdict.host().empty(), verdict.host())},
                       {"program", OrNull(!verdict.program().empty(), verdict.program())},
                       {"signal", OrNull(verdict.signal() != 0, verdict.signal())},
                       {"worker_exit_code", OrNull(verdict.worker_exit_code() != 0, verdict.worker_exit_code())},
                       {"error", OrNull(!verdict.program_error().empty(), verdict.program_error())},
                       {"ended_with_it", verdict.ended_with_it()},
                       {"causes", causes},
                       {"where", Where(result.evidence)},
                       {"job_id", result.job_id},
                       {"generation", result.generation},
                       {"restarts", result.restarts},
                       {"generations", generations},
                       {"workers", result.workers},
                       {"committed_step", OrNull(verdict.committed_step() >= 0, verdict.committed_step())},
                       {"checkpoint_step", OrNull(result.checkpoint_step >= 0, result.checkpoint_step)},
                       {"plan", OrNull(!result.plan.empty(), result.plan)},
                       {"nccl", result.nccl},
                       {"command", result.command},
                       {"launched_from", result.host},
                       {"started", absl::FormatTime(absl::RFC3339_full, result.started, absl::UTCTimeZone())},
                       {"seconds", result.seconds},
                       {"ranks", Ranks(result.evidence)},
                       {"lines_dropped", result.lines_dropped},
                       {"refusals", result.refusals.total()},
                       {"refused", OfRefused(result.refusals)},
                       {"muster_version", MUSTER_VERSION}};
  return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace muster

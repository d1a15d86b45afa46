#include "launcher/process/launch_options.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/process/endings.h"
#include "launcher/process/nccl_decision.h"
#include "launcher/process/node_order.h"
#include "launcher/process/seating.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

std::string RandomBytes(size_t bytes) {
  std::string text(bytes, '\0');
  MUSTER_CHECK(::getentropy(text.data(), bytes) == 0, "getentropy");
  return text;
}

}  // namespace

absl::Status CheckLaunch(const v1::Launch& launch) {
  if (launch.job_id().size() != 16 || launch.job().command().empty() || launch.workers() == 0 || launch.nodes() == 0 ||
      launch.spares() >= launch.nodes() || launch.workers_min() > launch.workers() || launch.job_folder().empty()) {
    return absl::InvalidArgumentError("the command's Launch is not complete; install both from one build");
  }
  uint64_t of_applications = 0;
  for (const v1::Application& one : launch.job().applications()) {
    of_applications += one.workers();
    if (one.command().empty() || one.workers() == 0) of_applications = ~uint64_t{0} >> 1;
  }
  if (launch.job().applications_size() > 0 && of_applications != launch.workers()) {
    return absl::InvalidArgumentError("the command's programs do not add up to its workers; install both from one build");
  }
  const uint32_t needed = launch.nodes() - launch.spares();
  if (launch.hosts().empty() && needed > launch.workers()) {
    return absl::InvalidArgumentError("the command's Launch has more nodes than workers; install both from one build");
  }
  if (launch.hosts().empty()) return absl::OkStatus();
  uint64_t slots = 0;
  uint32_t open = 0, node = 0;
  bool named = true;
  for (const v1::LaunchHost& host : launch.hosts()) {
    named = named && !host.name().empty();
    if (node++ >= needed) continue;
    slots += host.slots();
    open += host.slots() == 0 ? 1 : 0;
  }
  const bool fits = open == 0 ? slots >= launch.workers() : open == needed;
  if (static_cast<uint32_t>(launch.hosts_size()) != launch.nodes() || !fits || !named) {
    return absl::InvalidArgumentError(absl::StrCat("the command's Launch has ", launch.hosts_size(), " hosts with ", slots,
                                                   " slots for ", launch.nodes(), " nodes and ", launch.workers(),
                                                   " workers; install both from one build"));
  }
  return absl::OkStatus();
}

absl::Duration KillGraceOf(const v1::Launch& launch) {
  const uint32_t said_ms = launch.job().ending().kill_grace_ms();
  return said_ms > 0 ? absl::Milliseconds(said_ms) : kKillGrace;
}

absl::StatusOr<membership::Options> MembershipOptionsOf(const v1::Launch& launch) {
  membership::Options rules;
  rules.job_id = launch.job_id();
  rules.command = launch.job().command(0);
  rules.job = launch.job();
  rules.workers = launch.workers();
  for (const v1::Application& one : launch.job().applications()) rules.applications.push_back({one.workers(), one.command(0)});
  if (launch.job().has_placement()) {
    MUSTER_ASSIGN_OR_RETURN(rules.place, MakePlaceFunction(launch.job().placement()));
  }
  MUSTER_ASSIGN_OR_RETURN(rules.order, MakeOrderFunction(launch.network()));
  if (!launch.job().nccl_environment_off()) {
    MUSTER_ASSIGN_OR_RETURN(rules.nccl, MakeNcclFunction(launch.network()));
    rules.show_nccl = launch.job().placement().display_map();
  }
  rules.workers_min = launch.workers_min();
  rules.max_restarts = launch.max_restarts();
  rules.output_files = !launch.job().output().file_pattern().empty();
  if (launch.starter() == v1::Launch::JOIN) {
    // They may wait in somebody's queue for hours.
    rules.limits[static_cast<size_t>(membership::State::kForming)] = {absl::Minutes(1), absl::InfiniteDuration()};
  }
  if (launch.last_call_ms() > 0) rules.last_call = absl::Milliseconds(launch.last_call_ms());
  rules.user_grace = KillGraceOf(launch);
  rules.failure_grace =
      launch.ending().failure_grace_ms() > 0 ? absl::Milliseconds(launch.ending().failure_grace_ms()) : kFailureGrace;
  rules.stop_signal = static_cast<int>(launch.job().ending().stop_signal());
  rules.random_bytes = RandomBytes;
  rules.timeout_text = absl::StrFormat("--timeout %g", launch.timeout_seconds());
  return rules;
}

JobStatus FirstStatusOf(const v1::Launch& launch, const std::string& host) {
  JobStatus status;
  status.job_id = absl::BytesToHexString(launch.job_id());
  status.command = launch.text();
  status.name = launch.name();
  status.launched_from = host;
  status.workers = launch.workers();
  status.workers_min = launch.workers_min() > 0 ? launch.workers_min() : launch.workers();
  status.nodes_wanted = launch.nodes();
  status.detached = launch.detached();
  status.agents_join = launch.starter() == v1::Launch::JOIN && !launch.detached();
  status.max_restarts = launch.max_restarts();
  status.checkpoint_path = launch.job().checkpoint().path();
  status.output_files = launch.job().output().file_pattern();
  status.output_files_only = launch.job().output().files_only();
  return status;
}

}  // namespace muster

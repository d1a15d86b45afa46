#include "launcher/process/job_reporter.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace muster {
namespace {

using membership::State;

// Steps are no events; they are looked at now and then.
constexpr absl::Duration kLookEvery = absl::Milliseconds(500);

const char* StateOf(const Membership& membership) {
  switch (membership.state()) {
    case State::kRunning:
      return "running";
    case State::kDone:
    case State::kFailed:
      return "over";
    case State::kSettling:
    case State::kQuiescing:
    case State::kConcluding:
      return "ending";
    default:
      return membership.restarts() > 0 ? "restarting" : "starting";
  }
}

template <typename T>
void KeepNewest(std::vector<T>* list, size_t most) {
  if (list->size() > most) list->erase(list->begin(), list->end() - static_cast<ptrdiff_t>(most));
}

std::vector<JobStatus::Node> NodesOf(const Membership& membership) {
  std::vector<JobStatus::Node> nodes;
  for (const membership::AgentStatus& agent : membership.agents()) {
    JobStatus::Node& node = nodes.emplace_back();
    node.node = agent.node;
    node.host = agent.host;
    node.state = agent.silent ? "silent" : agent.state;
    for (const v1::Node& member : membership.members().nodes()) {
      if (member.node() == agent.node) node.address = member.address();
    }
  }
  return nodes;
}

std::vector<JobStatus::Rank> RanksOf(const Membership& membership, const std::vector<JobStatus::Node>& nodes) {
  std::set<uint32_t> ended;
  for (const v1::WorkerEnded& ending : membership.evidence().endings) ended.insert(ending.rank());
  const bool running = membership.state() == State::kRunning;
  std::vector<JobStatus::Rank> ranks;
  for (const v1::Place& place : membership.members().places()) {
    JobStatus::Rank& rank = ranks.emplace_back();
    rank.rank = place.rank();
    rank.node = place.node();
    rank.program = membership.program_of(place);
    for (const JobStatus::Node& node : nodes) {
      if (node.node == rank.node) rank.host = node.host;
    }
    rank.state = ended.count(place.rank()) > 0 ? "ended" : running ? "running" : "starting";
  }
  std::sort(ranks.begin(), ranks.end(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
  return ranks;
}

std::vector<JobStatus::Refused> RefusedOf(const RefusalLedger& ledger) {
  std::vector<JobStatus::Refused> refused;
  for (const RefusalLedger::Entry& entry : ledger.entries()) {
    refused.push_back({absl::ToUnixMillis(entry.last), entry.by, entry.what, entry.from, entry.count, Sentence(entry)});
  }
  std::sort(refused.begin(), refused.end(), [](const auto& a, const auto& b) { return a.unix_ms < b.unix_ms; });
  return refused;
}

}  // namespace

JobReporter::JobReporter(EventLoop* loop, const std::string& job_folder, JobStatus first, const Membership* membership)
    : loop_(loop), membership_(membership), files_(loop, job_folder), status_(std::move(first)) {
  status_.started_unix_ms = status_.since_unix_ms = absl::ToUnixMillis(absl::Now());
  files_.Show(status_);
  LookAgainSoon();
}

JobReporter::~JobReporter() {
  if (timer_) loop_->Cancel(*timer_);
}

void JobReporter::LookAgainSoon() {
  timer_ = loop_->After(kLookEvery, [this] {
    timer_.reset();
    Look();
    if (!over_) LookAgainSoon();
  });
}

void JobReporter::Look() {
  if (over_) return;
  const int64_t now = absl::ToUnixMillis(absl::Now());
  const bool starting = status_.state == "starting";
  if (const char* state = StateOf(*membership_); state != status_.state) {
    status_.state = state;
    status_.since_unix_ms = now;
  }
  status_.generation = membership_->generation();
  status_.restarts = membership_->restarts();
  status_.restarts_used = membership_->restarts_used();
  status_.committed_step = membership_->committed_step();
  if (const int64_t step = membership_->checkpoint_step(); step > 0 && step != status_.checkpoint_step) {
    status_.checkpoint_step = step;
    status_.checkpoint_unix_ms = now;
  }
  status_.plan = membership_->plan();
  status_.nccl = membership_->nccl();
  status_.nccl_notes = membership_->nccl_notes();
  status_.refusals = membership_->refusals().total();
  status_.refused = RefusedOf(membership_->refusals());
  status_.nodes = NodesOf(*membership_);
  status_.ranks = RanksOf(*membership_, status_.nodes);
  status_.workers_now = static_cast<int64_t>(status_.ranks.size());
  files_.Show(status_);
  // Whoever detached the job is about to be told that it runs, and may look at once.
  if (starting && status_.state == "running") files_.Flush();
}

void JobReporter::Happened(const v1::JobEvent& happened) {
  JobEvent event;
  event.when = absl::FromUnixMillis(happened.unix_ms());
  event.kind = happened.kind();
  event.text = happened.text();
  event.generation = happened.generation();
  event.rank = happened.rank();
  event.node = happened.node();
  event.host = happened.host();
  files_.Happened(event);
  const auto& failures = membership_->failures();
  while (failures_seen_ < failures.size()) {
    const v1::GenerationEnded& ended = failures[failures_seen_++];
    const int64_t step = membership_->checkpoint_step();
    status_.history.push_back({happened.unix_ms(), ended.generation(), step > 0 ? step : -1, ended.verdict().sentence()});
  }
  KeepNewest(&status_.history, JobStatus::kHistoryMax);
  Look();
}

void JobReporter::Finished() {
  Look();
  over_ = true;
  status_.state = "over";
  status_.since_unix_ms = absl::ToUnixMillis(absl::Now());
  for (JobStatus::Rank& rank : status_.ranks) rank.state = "ended";
  files_.Show(status_);
  files_.Flush();
}

std::string RestartNote(const Judgement& why, const Membership& membership, int64_t workers, int64_t workers_min,
                        int64_t max_restarts) {
  const int64_t step = membership.checkpoint_step();
  std::string who = workers == 1 ? "the worker" : absl::StrCat("all ", workers, " workers");
  if (workers_min > 0 && workers_min < workers) who = absl::StrCat(workers_min, " to ", workers, " workers");
  return absl::StrCat(absl::StripSuffix(why.verdict.sentence(), "."), "; restarting ", who,
                      step > 0 ? absl::StrCat(" from the checkpoint of step ", step) : "", ", restart ",
                      membership.restarts_used(), " of ", max_restarts);
}

}  // namespace muster

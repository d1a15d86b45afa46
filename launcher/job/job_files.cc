#include "launcher/job/job_files.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/job/write_file.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kBetweenWrites = absl::Milliseconds(500);

std::string Text(const Json& json, int indent) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }

// Null where there is none.
Json OrNull(int64_t value) { return value >= 0 ? Json(value) : Json(); }

// Leaves the default where the member is missing or of another type: an older or newer muster may have written the file.
template <typename T>
void Take(const Json& json, const char* name, T* value) {
  const auto found = json.find(name);
  if (found == json.end()) return;
  if constexpr (std::is_same_v<T, std::string>) {
    if (found->is_string()) *value = found->get<std::string>();
  } else if constexpr (std::is_same_v<T, bool>) {
    if (found->is_boolean()) *value = found->get<bool>();
  } else {
    if (found->is_number()) *value = found->get<T>();
  }
}

template <typename T, typename TakeOne>
void TakeList(const Json& json, const char* name, std::vector<T>* list, TakeOne take_one) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_array()) return;
  for (const Json& one : *found) {
    if (one.is_object()) take_one(one, &list->emplace_back());
  }
}

void TakeTexts(const Json& json, const char* name, std::vector<std::string>* list) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_array()) return;
  for (const Json& one : *found) {
    if (one.is_string()) list->push_back(one.get<std::string>());
  }
}

absl::StatusOr<Json> ParseObject(absl::string_view text, absl::string_view what) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError(absl::StrCat(what, " holds no JSON object"));
  return json;
}

}  // namespace

std::string StatusJson(const JobStatus& status) {
  Json nodes = Json::array(), ranks = Json::array(), history = Json::array(), refused = Json::array();
  for (const auto& node : status.nodes) {
    nodes.push_back({{"node", node.node}, {"host", node.host}, {"address", node.address}, {"state", node.state}});
  }
  for (const auto& rank : status.ranks) {
    ranks.push_back({{"rank", rank.rank},
                     {"node", rank.node},
                     {"host", rank.host},
                     {"program", rank.program.empty() ? Json() : Json(rank.program)},
                     {"state", rank.state}});
  }
  for (const auto& restart : status.history) {
    history.push_back({{"unix_ms", restart.unix_ms},
                       {"generation", restart.generation},
                       {"step", OrNull(restart.step)},
                       {"cause", restart.cause}});
  }
  for (const auto& one : status.refused) {
    refused.push_back({{"unix_ms", one.unix_ms},
                       {"by", one.by},
                       {"what", one.what},
                       {"from", one.from},
                       {"count", one.count},
                       {"text", one.text}});
  }
  const Json json = {{"job_id", status.job_id},
                     {"name", status.name},
                     {"command", status.command},
                     {"launched_from", status.launched_from},
                     {"state", status.state},
                     {"since_unix_ms", status.since_unix_ms},
                     {"started_unix_ms", status.started_unix_ms},
                     {"workers", status.workers},
                     {"workers_min", status.workers_min},
                     {"workers_now", status.workers_now},
                     {"nodes_wanted", status.nodes_wanted},
                     {"detached", status.detached},
                     {"agents_join", status.agents_join},
                     {"generation", status.generation},
                     {"restarts", status.restarts},
                     {"restarts_used", status.restarts_used},
                     {"max_restarts", status.max_restarts},
                     {"committed_step", OrNull(status.committed_step)},
                     {"checkpoint_step", OrNull(status.checkpoint_step)},
                     {"checkpoint_unix_ms", status.checkpoint_unix_ms > 0 ? Json(status.checkpoint_unix_ms) : Json()},
                     {"checkpoint_path", status.checkpoint_path.empty() ? Json() : Json(status.checkpoint_path)},
                     {"output_files", status.output_files.empty() ? Json() : Json(status.output_files)},
                     {"output_files_only", status.output_files_only},
                     {"plan", status.plan.empty() ? Json() : Json(status.plan)},
                     {"nccl", status.nccl},
                     {"nccl_notes", status.nccl_notes},
                     {"nodes", std::move(nodes)},
                     {"ranks", std::move(ranks)},
                     {"history", std::move(history)},
                     {"refusals", status.refusals},
                     {"refused", std::move(refused)}};
  return Text(json, 1) + "\n";
}

absl::StatusOr<JobStatus> ParseStatus(absl::string_view text) {
  MUSTER_ASSIGN_OR_RETURN(const Json json, ParseObject(text, "status.json"));
  JobStatus status;
  Take(json, "job_id", &status.job_id);
  Take(json, "name", &status.name);
  Take(json, "command", &status.command);
  Take(json, "launched_from", &status.launched_from);
  Take(json, "state", &status.state);
  Take(json, "since_unix_ms", &status.since_unix_ms);
  Take(json, "started_unix_ms", &status.started_unix_ms);
  Take(json, "workers", &status.workers);
  Take(json, "workers_min", &status.workers_min);
  Take(json, "workers_now", &status.workers_now);
  Take(json, "nodes_wanted", &status.nodes_wanted);
  Take(json, "detached", &status.detached);
  Take(json, "agents_join", &status.agents_join);
  Take(json, "generation", &status.generation);
  Take(json, "restarts", &status.restarts);
  Take(json, "restarts_used", &status.restarts_used);
  Take(json, "max_restarts", &status.max_restarts);
  Take(json, "committed_step", &status.committed_step);
  Take(json, "checkpoint_step", &status.checkpoint_step);
  Take(json, "checkpoint_unix_ms", &status.checkpoint_unix_ms);
  Take(json, "checkpoint_path", &status.checkpoint_path);
  Take(json, "output_files", &status.output_files);
  Take(json, "output_files_only", &status.output_files_only);
  Take(json, "plan", &status.plan);
  TakeTexts(json, "nccl", &status.nccl);
  TakeTexts(json, "nccl_notes", &status.nccl_notes);
  TakeList(json, "nodes", &status.nodes, [](const Json& one, JobStatus::Node* node) {
    Take(one, "node", &node->node);
    Take(one, "host", &node->host);
    Take(one, "address", &node->address);
    Take(one, "state", &node->state);
  });
  TakeList(json, "ranks", &status.ranks, [](const Json& one, JobStatus::Rank* rank) {
    Take(one, "rank", &rank->rank);
    Take(one, "node", &rank->node);
    Take(one, "host", &rank->host);
    Take(one, "program", &rank->program);
    Take(one, "state", &rank->state);
  });
  TakeList(json, "history", &status.history, [](const Json& one, JobStatus::Restart* restart) {
    Take(one, "unix_ms", &restart->unix_ms);
    Take(one, "generation", &restart->generation);
    Take(one, "step", &restart->step);
    Take(one, "cause", &restart->cause);
  });
  Take(json, "refusals", &status.refusals);
  TakeList(json, "refused", &status.refused, [](const Json& one, JobStatus::Refused* refused) {
    Take(one, "unix_ms", &refused->unix_ms);
    Take(one, "by", &refused->by);
    Take(one, "what", &refused->what);
    Take(one, "from", &refused->from);
    Take(one, "count", &refused->count);
    Take(one, "text", &refused->text);
  });
  return status;
}

std::string EventJson(const JobEvent& event) {
  Json json = {{"unix_ms", absl::ToUnixMillis(event.when)}, {"kind", event.kind}, {"text", event.text}};
  if (event.generation > 0) json["generation"] = event.generation;
  if (event.rank >= 0) json["rank"] = event.rank;
  if (event.node >= 0) json["node"] = event.node;
  if (!event.host.empty()) json["host"] = event.host;
  return Text(json, -1);
}

absl::StatusOr<JobEvent> ParseEvent(absl::string_view text) {
  MUSTER_ASSIGN_OR_RETURN(const Json json, ParseObject(text, "a line of events.jsonl"));
  JobEvent event;
  int64_t unix_ms = 0;
  Take(json, "unix_ms", &unix_ms);
  event.when = absl::FromUnixMillis(unix_ms);
  Take(json, "kind", &event.kind);
  Take(json, "text", &event.text);
  Take(json, "generation", &event.generation);
  Take(json, "rank", &event.rank);
  Take(json, "node", &event.node);
  Take(json, "host", &event.host);
  return event;
}

JobFiles::JobFiles(EventLoop* loop, std::string folder)
    : loop_(loop),
      folder_(std::move(folder)),
      last_write_ns_(MonotonicNanoseconds() - absl::ToInt64Nanoseconds(kBetweenWrites)) {
  const std::string path = folder_ + "/events.jsonl";
  events_.Reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!events_) {
    Warn(ErrnoToStatus(errno, path));
    return;
  }
  events_bytes_ = ::lseek(events_.get(), 0, SEEK_END);
}

JobFiles::~JobFiles() { Flush(); }

void JobFiles::Warn(const absl::Status& status) {
  if (!warned_)
    Log(LogLevel::kWarning, absl::StrCat("the job goes on, but `muster status` will not see all: ", status.message()));
  warned_ = true;
}

void JobFiles::Happened(const JobEvent& event) {
  if (!events_ || events_bytes_ >= kEventsBytesMax) return;
  std::string line = EventJson(event) + "\n";
  if (events_bytes_ + static_cast<int64_t>(line.size()) > kEventsBytesMax) {
    JobEvent last;
    last.when = event.when;
    last.kind = "dropped";
    last.text = absl::StrCat("what happened later is not kept: this file has reached ", kEventsBytesMax >> 20, " MiB");
    line = EventJson(last) + "\n";
    events_bytes_ = kEventsBytesMax;
  }
  if (torn_) line.insert(0, "\n");  // readers leave out a line that is no JSON
  const ssize_t written = ::write(events_.get(), line.data(), line.size());
  if (written > 0) events_bytes_ += written;
  torn_ = written > 0 ? written < static_cast<ssize_t>(line.size()) : torn_;
  if (written < static_cast<ssize_t>(line.size())) {
    Warn(ErrnoToStatus(written < 0 ? errno : ENOSPC, folder_ + "/events.jsonl"));
  }
}

void JobFiles::Show(JobStatus status) {
  due_ = std::move(status);
  if (timer_) return;
  const absl::Duration since = absl::Nanoseconds(MonotonicNanoseconds() - last_write_ns_);
  if (since >= kBetweenWrites) return Write();
  timer_ = loop_->After(kBetweenWrites - since, [this] {
    timer_.reset();
    Write();
  });
}

void JobFiles::Flush() {
  if (timer_) loop_->Cancel(*timer_);
  timer_.reset();
  Write();
}

void JobFiles::Write() {
  if (!due_) return;
  std::string text = StatusJson(*std::exchange(due_, std::nullopt));
  if (text == last_written_) return;
  if (const absl::Status written = WriteFile(folder_ + "/status.json", text); !written.ok()) Warn(written);
  last_written_ = std::move(text);
  last_write_ns_ = MonotonicNanoseconds();
}

}  // namespace muster

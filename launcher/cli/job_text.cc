#include "launcher/cli/job_text.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kCommandColumns = 60;
constexpr size_t kRestartsShown = 5;

Json OrNull(int64_t value) { return value >= 0 ? Json(value) : Json(); }

std::string StepText(int64_t step) { return step >= 0 ? absl::StrCat(step) : "-"; }

// Nothing in a job's files may move the reader's cursor.
std::string Plain(absl::string_view text) {
  std::string plain(text);
  for (char& c : plain) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return plain;
}

std::string Shortened(const std::string& text, size_t columns) {
  return text.size() <= columns ? text : text.substr(0, columns - 3) + "...";
}

std::string Plural(int64_t count, absl::string_view noun) { return absl::StrCat(count, " ", noun, count == 1 ? "" : "s"); }

std::string Clock(int64_t unix_ms, absl::TimeZone zone) {
  return absl::FormatTime("%H:%M:%S", absl::FromUnixMillis(unix_ms), zone);
}

std::string StateText(const StoredJob& job, absl::Time now, absl::TimeZone zone) {
  const std::string state = job.state();
  if (state == "lost") {
    return absl::StrCat("lost: its coordinator died", job.owner > 0 ? absl::StrCat(" (process ", job.owner, ")") : "",
                        " and left no verdict");
  }
  if (job.verdict) return absl::StrCat(state, " after ", Age(absl::Seconds(job.verdict->seconds)));
  std::string text = state;
  if (job.status.since_unix_ms > 0) {
    absl::StrAppend(&text, " for ", Age(now - absl::FromUnixMillis(job.status.since_unix_ms)), ", since ",
                    Clock(job.status.since_unix_ms, zone));
  }
  return text;
}

std::string StepLine(const JobStatus& status, absl::Time now) {
  std::string text = status.committed_step >= 0 ? absl::StrCat(status.committed_step, " committed") : "none committed";
  if (status.checkpoint_step >= 0) {
    absl::StrAppend(&text, "; checkpoint of step ", status.checkpoint_step);
    if (status.checkpoint_unix_ms > 0) {
      absl::StrAppend(&text, ", ", Age(now - absl::FromUnixMillis(status.checkpoint_unix_ms)), " ago");
    }
  }
  if (!status.checkpoint_path.empty()) absl::StrAppend(&text, ", in ", Plain(status.checkpoint_path));
  return text;
}

std::string RestartsLine(const JobStatus& status) {
  if (status.max_restarts == 0 && status.restarts == 0) return "none allowed";
  return absl::StrCat(status.restarts, "; ", status.restarts_used, " of ", status.max_restarts, " used",
                      status.checkpoint_step >= 0 ? " since the newest checkpoint" : "");
}

}  // namespace

std::string Age(absl::Duration age) {
  const int64_t seconds = std::max<int64_t>(0, absl::ToInt64Seconds(age));
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  if (seconds < 86400) return absl::StrFormat("%dh%02dm", seconds / 3600, seconds / 60 % 60);
  return absl::StrFormat("%dd%02dh", seconds / 86400, seconds / 3600 % 24);
}

std::string Ranges(const std::vector<int64_t>& numbers) {
  std::string text;
  for (size_t begin = 0, end = 0; begin < numbers.size(); begin = end) {
    for (end = begin + 1; end < numbers.size() && numbers[end] == numbers[end - 1] + 1;) ++end;
    absl::StrAppend(&text, text.empty() ? "" : ",", numbers[begin]);
    if (end - begin > 1) absl::StrAppend(&text, end - begin == 2 ? "," : "-", numbers[end - 1]);
  }
  return text;
}

std::string JobsTable(const std::vector<StoredJob>& jobs, absl::Time now) {
  std::vector<std::vector<std::string>> rows = {{"JOB", "STATE", "NP", "NODES", "GEN", "RESTARTS", "STEP", "AGE", "COMMAND"}};
  const bool named = std::any_of(jobs.begin(), jobs.end(), [](const StoredJob& job) { return !job.status.name.empty(); });
  if (named) rows[0].insert(rows[0].begin() + 1, "NAME");
  for (const StoredJob& job : jobs) {
    const JobStatus& status = job.status;
    rows.push_back({job.brief(), job.state(), absl::StrCat(status.workers), absl::StrCat(status.nodes_wanted),
                    absl::StrCat(status.generation), absl::StrCat(status.restarts), StepText(status.committed_step),
                    Age(now - absl::FromUnixMillis(job.started_unix_ms)), Shortened(Plain(job.command), kCommandColumns)});
    if (named) rows.back().insert(rows.back().begin() + 1, status.name.empty() ? "-" : Plain(status.name));
  }
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i) {
      absl::StrAppend(&text, row[i], std::string(widths[i] - row[i].size() + 2, ' '));
    }
    absl::StrAppend(&text, row.back(), "\n");
  }
  return text;
}

std::string JobsJson(const std::vector<StoredJob>& jobs) {
  Json list = Json::array();
  for (const StoredJob& job : jobs) {
    const JobStatus& status = job.status;
    list.push_back({{"job_id", job.job_id},
                    {"state", job.state()},
                    {"running", job.held},
                    {"workers", status.workers},
                    {"nodes", status.nodes_wanted},
                    {"generation", status.generation},
                    {"restarts", status.restarts},
                    {"committed_step", OrNull(status.committed_step)},
                    {"checkpoint_step", OrNull(status.checkpoint_step)},
                    {"started_unix_ms", job.started_unix_ms},
                    {"name", status.name},
                    {"command", job.command},
                    {"folder", job.folder},
                    {"exit_code", job.verdict ? Json(job.verdict->exit_code) : Json()},
                    {"sentence", job.verdict ? Json(job.verdict->sentence) : Json()}});
  }
  return list.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string HowItEnded(const StoredJob& job) {
  if (!job.verdict) return "its coordinator died and left no verdict";
  if (job.verdict->exit_code == 0) return "all workers ended with 0";
  return absl::StrCat("exit status ", job.verdict->exit_code,
                      job.verdict->sentence.empty() ? "" : absl::StrCat(": ", Plain(job.verdict->sentence)));
}

// "train ranks 0-2, serve rank 3"; empty where the job has one program.
std::string ProgramsLine(const JobStatus& status) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> programs;  // in the order of their ranks
  for (const JobStatus::Rank& rank : status.ranks) {
    if (rank.program.empty()) return "";
    if (programs.empty() || programs.back().first != rank.program) programs.push_back({rank.program, {}});
    programs.back().second.push_back(rank.rank);
  }
  return absl::StrJoin(programs, ", ", [](std::string* out, const auto& entry) {
    absl::StrAppend(out, Plain(entry.first), entry.second.size() == 1 ? " rank " : " ranks ", Ranges(entry.second));
  });
}

std::string StatusScreen(const StoredJob& job, absl::Time now, absl::TimeZone zone) {
  const JobStatus& status = job.status;
  std::string text;
  const auto line = [&text](absl::string_view name, absl::string_view value) {
    absl::StrAppendFormat(&text, "%-9s %s\n", name, value);
  };
  line("job", job.job_id);
  if (!status.name.empty()) line("name", Plain(status.name));
  line("command", Plain(job.command));
  line("state", StateText(job, now, zone));
  if (job.verdict) line("verdict", HowItEnded(job));
  line("started", absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMillis(job.started_unix_ms), zone));
  line("workers", absl::StrCat(status.workers_now, " of ", status.workers,
                               status.workers_min > 0 && status.workers_min < status.workers
                                   ? absl::StrCat(" (", status.workers_min, " at least)")
                                   : "",
                               " on ", Plural(status.nodes_wanted, "node"), ", generation ", status.generation));
  if (const std::string programs = ProgramsLine(status); !programs.empty()) line("programs", programs);
  if (!status.plan.empty()) line("network", Plain(status.plan));
  if (!status.nccl.empty() || !status.nccl_notes.empty()) absl::StrAppend(&text, "nccl\n");
  for (const std::string& told : status.nccl) absl::StrAppend(&text, "  ", Plain(told), "\n");
  for (const std::string& note : status.nccl_notes) absl::StrAppend(&text, "  warning: ", Plain(note), "\n");
  line("step", StepLine(status, now));
  line("restarts", RestartsLine(status));
  const size_t skipped = status.history.size() > kRestartsShown ? status.history.size() - kRestartsShown : 0;
  if (skipped > 0) absl::StrAppend(&text, "  ... ", skipped, " more before; muster events ", job.brief(), "\n");
  for (size_t i = skipped; i < status.history.size(); ++i) {
    const JobStatus::Restart& restart = status.history[i];
    absl::StrAppend(&text, "  ", Clock(restart.unix_ms, zone), "  generation ", restart.generation, ": ", Plain(restart.cause),
                    "\n");
  }
  if (!status.nodes.empty()) absl::StrAppend(&text, "nodes\n");
  for (const JobStatus::Node& node : status.nodes) {
    std::map<std::string, std::vector<int64_t>> ranks;  // by state
    for (const JobStatus::Rank& rank : status.ranks) {
      if (rank.node == node.node) ranks[rank.state].push_back(rank.rank);
    }
    const std::string list = absl::StrJoin(ranks, "; ", [](std::string* out, const auto& entry) {
      absl::StrAppend(out, entry.second.size() == 1 ? "rank " : "ranks ", Ranges(entry.second), " ", entry.first);
    });
    absl::StrAppendFormat(&text, "  %-3d %-16s %-16s %-9s %s\n", node.node, Plain(node.host),
                          node.address.empty() ? "-" : Plain(node.address), node.state, list);
  }
  if (status.refusals > 0) line("refused", Plural(static_cast<int64_t>(status.refusals), "connection"));
  for (const JobStatus::Refused& refused : status.refused) {
    absl::StrAppend(&text, "  ", Clock(refused.unix_ms, zone), "  ", Plain(refused.text), "\n");
  }
  if (!status.output_files.empty()) {
    line("output",
         absl::StrCat(Plain(status.output_files), status.output_files_only ? ", there alone" : "", ", on the workers' nodes"));
  }
  line("folder", job.folder);
  return text;
}

std::string StatusObject(const StoredJob& job) {
  Json json = Json::parse(StatusJson(job.status));
  json["job_id"] = job.job_id;
  json["command"] = job.command;
  json["state"] = job.state();
  json["started_unix_ms"] = job.started_unix_ms;
  json["running"] = job.held;
  json["folder"] = job.folder;
  json["verdict"] = job.verdict ? Json::parse(job.verdict->json, nullptr, /*allow_exceptions=*/false) : Json();
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string EventLine(const JobEvent& event, absl::TimeZone zone) {
  return absl::StrFormat("%s  %-10s  %s\n", absl::FormatTime("%Y-%m-%d %H:%M:%E3S", event.when, zone), event.kind,
                         Plain(event.text));
}

}  // namespace muster

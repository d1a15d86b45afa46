#include "launcher/starter/ssh_lines.h"

#include <signal.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "launcher/starter/ssh_command.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr absl::Duration kGreetingWithin = absl::Seconds(60);  // ssh's own ConnectTimeout counts before

}  // namespace

SshLines::SshLines(EventLoop* loop, Callbacks callbacks, absl::Duration obey_within)
    : loop_(loop), callbacks_(std::move(callbacks)), obey_within_(obey_within) {}

SshLines::~SshLines() { EndAll(absl::Seconds(3)); }

void SshLines::Enlist(const v1::AgentStart& start, Line* line) {
  on_line_[start.node()] = line;
  if (line != nullptr) line->nodes[start.node()] = false;
  for (const v1::AgentStart& child : start.children()) Enlist(child, line);
}

void SshLines::Start(v1::AgentStart start) {
  Enlist(start, nullptr);
  waiting_.push_back(std::move(start));
  loop_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) StartWaiting();
  });
}

void SshLines::StartWaiting() {
  while (!waiting_.empty() && logins_ < kLoginsMax) {
    v1::AgentStart start = std::move(waiting_.front());
    waiting_.pop_front();
    Line* const line = &lines_.emplace_back();
    Enlist(start, line);
    const absl::Status connected = Connect(start, line);
    start.clear_children();
    line->start = std::move(start);
    if (connected.ok()) continue;
    line->failure = SshFailure{std::string(connected.message()), SshRetry::kUseless};
    Release(line);
  }
}

absl::Status SshLines::Connect(const v1::AgentStart& start, Line* line) {
  std::vector<std::string> words = {"muster", "agent", "--stdin"};
  if (!start.is_here()) {
    MUSTER_ASSIGN_OR_RETURN(words, SshWords(start));
  }
  const std::string program = start.is_here() ? start.program() : words[0];
  LineChild::Callbacks callbacks;
  callbacks.line = [this, line](absl::string_view text) { TakeLine(line, text); };
  callbacks.error = [this, line](absl::string_view text) {
    if (line->end.greeted && absl::StartsWith(text, "muster: ")) callbacks_.say(std::string(text));
  };
  callbacks.ended = [this, line](int wait_status) { OnClientEnded(line, wait_status); };
  auto client = LineChild::Start(loop_, program, std::move(words), std::move(callbacks));
  if (!client.ok()) {
    if (start.is_here()) return client.status();
    return absl::NotFoundError(absl::StrCat("there is no ssh client here (", client.status().message(),
                                            "); install OpenSSH's (package openssh-client), or name it with --ssh COMMAND"));
  }
  line->client = *std::move(client);
  ++logins_;
  line->patience = loop_->After(kGreetingWithin, [this, line] {
    line->patience.reset();
    line->end.timed_out = true;
    Cut(line);
  });
  line->client->Write(FirstLines(start));
  return absl::OkStatus();
}

// --- Down ---

void SshLines::End(uint32_t node) {
  const auto found = on_line_.find(node);
  if (found == on_line_.end()) return;
  Line* const line = found->second;
  if (line == nullptr) return;  // its turn to log in comes, and then it may be asked again
  if (!line->end.greeted) return Cut(line);
  line->client->Write(absl::StrCat("end ", node, "\n"));
  if (line->patience) return;
  line->patience = loop_->After(obey_within_, [this, line, node] {
    line->patience.reset();
    if (line->nodes.count(node) != 0) Cut(line);
  });
}

// The client's end follows, and with it all that is to be said.
void SshLines::Cut(Line* line) {
  if (line->client != nullptr) line->client->Kill(SIGKILL);
}

void SshLines::EndAll(absl::Duration at_most) {
  for (Line& line : lines_) {
    if (line.client != nullptr) {
      line.client->Write("end all\n");
      line.client->CloseInput();
    }
    // Before its greeting nothing of it runs that would end by itself.
    if (!line.end.greeted) Cut(&line);
  }
  Forget(MonotonicNanoseconds() + absl::ToInt64Nanoseconds(at_most));
}

void SshLines::LetGo() {
  for (Line& line : lines_) Cut(&line);
  Forget(MonotonicNanoseconds() + absl::ToInt64Nanoseconds(absl::Seconds(1)));
}

// Clients that have not ended by then are killed.
void SshLines::Forget(int64_t end_ns) {
  waiting_.clear();
  on_line_.clear();
  for (Line& line : lines_) {
    if (line.client != nullptr && !line.client->AwaitEnd(absl::Nanoseconds(end_ns - MonotonicNanoseconds()))) Cut(&line);
    line.client.reset();
    if (line.patience) loop_->Cancel(*line.patience);
  }
  lines_.clear();
  logins_ = 0;
}

// --- Up ---

// Login shells may write what they like before.
void SshLines::TakeLine(Line* line, absl::string_view text) {
  const size_t mark = text.find(kLineMark);
  if (mark == absl::string_view::npos) return;
  text.remove_prefix(mark + sizeof kLineMark - 1);
  const size_t space = text.find(' ');
  const absl::string_view word = text.substr(0, space);
  const std::string rest(space == absl::string_view::npos ? "" : text.substr(space + 1));
  if (word == "found") {
    line->end.found = true;
    line->end.found_file = rest;
  } else if (word == "missing") {
    line->end.missing = true;
    line->end.searched_path = rest;
  } else if (word == "agent" && !line->end.greeted) {
    const std::pair<std::string, std::string> said = {
        rest.substr(0, rest.find(' ')), rest.find(' ') == std::string::npos ? "" : rest.substr(rest.find(' ') + 1)};
    if (said.first == absl::StrCat(kLineProtocol)) {
      line->end.greeted = true;
      --logins_;
      if (line->patience) loop_->Cancel(*line->patience);
      line->patience.reset();
      return StartWaiting();
    }
    line->failure = SshFailure{
        absl::StrCat("the muster on ", line->start.host(), line->end.found ? absl::StrCat(" (", line->end.found_file, ")") : "",
                     " is version ", said.second, ", which this one (", MUSTER_VERSION,
                     ") cannot work with; install the same version there, or name another with "
                     "--remote-muster PATH"),
        SshRetry::kUseless};
    return Cut(line);
  }
  uint32_t node = 0;
  if (!absl::SimpleAtoi(rest.substr(0, rest.find(' ')), &node) || line->nodes.count(node) == 0) return;
  const std::string why = rest.find(' ') == std::string::npos ? "" : rest.substr(rest.find(' ') + 1);
  if (word == "up") {
    line->nodes[node] = true;
    callbacks_.up(node);
  } else if (word == "ended") {
    LeaveLine(line, node);
    callbacks_.ended(node, why);
  } else if (word == "failed") {
    LeaveLine(line, node);
    callbacks_.failed(node, SshFailure{why, SshRetry::kUseless});
  } else if (word == "adrift") {
    LeaveLine(line, node);
    callbacks_.adrift(node);
  }
}

void SshLines::LeaveLine(Line* line, uint32_t node) {
  line->nodes.erase(node);
  on_line_.erase(node);
}

void SshLines::OnClientEnded(Line* line, int wait_status) {
  line->end.wait_status = wait_status;
  line->end.errors = line->client->errors();
  Release(line);
}

// Says what has become of all that is still on it.
void SshLines::Release(Line* line) {
  if (line->client != nullptr && !line->end.greeted) --logins_;
  if (line->patience) loop_->Cancel(*line->patience);
  const auto owned = std::find_if(lines_.begin(), lines_.end(), [line](const Line& one) { return &one == line; });
  std::list<Line> over;
  over.splice(over.begin(), lines_, owned);
  const SshFailure failure = line->failure ? *line->failure : DescribeFailedStart(line->start, line->end);
  const uint32_t head = line->start.node();
  const std::map<uint32_t, bool> nodes = line->nodes;
  for (const auto& [node, up] : nodes) on_line_.erase(node);
  const bool lives_on = line->start.through_agent();
  // The head first: it is what took the others with it.
  std::vector<std::pair<uint32_t, bool>> order(nodes.begin(), nodes.end());
  std::stable_partition(order.begin(), order.end(), [head](const auto& one) { return one.first == head; });
  for (const auto& [node, up] : order) {
    if (!up) {
      callbacks_.failed(node, failure);
    } else if (node != head || lives_on) {
      callbacks_.adrift(node);
    } else {
      callbacks_.ended(node, DescribeBrokenLine(line->start, line->end));
    }
  }
  StartWaiting();
}

}  // namespace muster

#include "launcher/starter/slurm_starter.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "launcher/starter/ssh_command.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr absl::Duration kObeyWithin = absl::Seconds(5);
constexpr absl::Duration kFarEndsGo = absl::Seconds(1);  // when told to, by themselves
constexpr absl::Duration kStepGoes = absl::Seconds(3);   // when srun is told to end it

// "" where there is none.
std::string FindInPath(const std::string& program) {
  if (absl::StrContains(program, '/')) return ::access(program.c_str(), X_OK) == 0 ? program : "";
  const char* path = std::getenv("PATH");
  for (const absl::string_view folder : absl::StrSplit(path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin", ':')) {
    const std::string file = absl::StrCat(folder.empty() ? "." : folder, "/", program);
    if (::access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

// The first word of `text`, which keeps the rest.
std::string TakeWord(absl::string_view* text) {
  const size_t space = text->find(' ');
  const std::string word(text->substr(0, space));
  text->remove_prefix(space == absl::string_view::npos ? text->size() : space + 1);
  return word;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SlurmStarter>> SlurmStarter::Create(EventLoop* loop, SlurmStarterOptions options,
                                                                   Callbacks callbacks,
                                                                   std::function<void(const std::string& line)> say) {
  const std::string srun = FindInPath(options.srun);
  if (srun.empty()) {
    return absl::NotFoundError(
        absl::StrCat("there is no ", options.srun,
                     " in PATH here, which starts agents on the nodes of an allocation of Slurm; install Slurm's "
                     "client commands (package slurm-client), or name hosts with -H and --starter ssh"));
  }
  options.srun = srun;
  std::unique_ptr<SlurmStarter> starter(new SlurmStarter(loop, std::move(options), std::move(callbacks), std::move(say)));
  const SlurmStarterOptions& chosen = starter->options_;
  MUSTER_ASSIGN_OR_RETURN(starter->reachable_, ChooseReachable(chosen.listen, chosen.hosts, /*all_here=*/false));
  return starter;
}

SlurmStarter::SlurmStarter(EventLoop* loop, SlurmStarterOptions options, Callbacks callbacks,
                           std::function<void(const std::string& line)> say)
    : loop_(loop),
      options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      say_(std::move(say)),
      asked_(loop, [this](const std::vector<v1::AgentStart>& asked) { StartAsked(asked); }) {}

SlurmStarter::~SlurmStarter() { EndAll(); }

// --- Starting ---

absl::Status SlurmStarter::Start(uint32_t node, const std::string& coordinator, const std::string& ticket) {
  if (step_of_.count(node) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("the agent on ", options_.hosts[node], " still runs"));
  }
  v1::AgentStart start;
  start.set_node(node);
  start.set_host(options_.hosts[node]);
  start.set_coordinator(coordinator);
  start.set_ticket(ticket);
  start.set_signals_stop_job(true);
  for (const std::string& argument : options_.arguments) start.add_arguments(argument);
  asked_.Add(std::move(start));
  return absl::OkStatus();
}

void SlurmStarter::StartAsked(const std::vector<v1::AgentStart>& asked) {
  for (size_t begin = 0; begin < asked.size(); begin += kNodesOfStep) {
    const size_t end = std::min(begin + kNodesOfStep, asked.size());
    StartStep({asked.begin() + static_cast<ptrdiff_t>(begin), asked.begin() + static_cast<ptrdiff_t>(end)});
  }
}

void SlurmStarter::StartStep(std::vector<v1::AgentStart> starts) {
  Step* const step = &steps_.emplace_back();
  std::vector<std::string> hosts;
  std::string first = SlurmFirstLines(options_.remote_muster, options_.program);
  for (const v1::AgentStart& start : starts) {
    hosts.push_back(start.host());
    step->nodes.insert(start.node());
    step_of_[start.node()] = step;
    absl::StrAppend(&first, AgentStartLine(start));
  }
  const absl::Status running = Run(step, hosts);
  if (running.ok()) return step->srun->Write(first);
  step->last_errors = std::string(running.message());
  Release(step, "could not be started");
}

absl::Status SlurmStarter::Run(Step* step, const std::vector<std::string>& hosts) {
  LineChild::Callbacks callbacks;
  callbacks.line = [this, step](absl::string_view text) { TakeLine(step, text); };
  callbacks.error = [this](absl::string_view text) {
    if (absl::StartsWith(text, "muster: ")) say_(std::string(text));
  };
  callbacks.ended = [this, step](int wait_status) {
    step->last_errors = step->srun->errors();
    Release(step, HowItEnded(wait_status));
  };
  MUSTER_ASSIGN_OR_RETURN(step->srun, LineChild::Start(loop_, "env", SrunWords(options_.srun, hosts), std::move(callbacks)));
  return absl::OkStatus();
}

// --- Down ---

void SlurmStarter::End(uint32_t node) {
  const auto found = step_of_.find(node);
  if (found == step_of_.end()) return;
  Step* const step = found->second;
  if (step->nodes.size() == 1) return Cut(step);
  step->srun->Write(absl::StrCat("end ", node, "\n"));
  if (step->patience.count(node) != 0) return;
  step->patience[node] = loop_->After(kObeyWithin, [this, step, node] {
    step->patience.erase(node);
    Cut(step);
  });
}

// Has Slurm end all that runs in it, at once; the end of srun follows.
void SlurmStarter::Cut(Step* step) {
  if (step->srun != nullptr) step->srun->Kill(SIGTERM);
}

void SlurmStarter::EndAll() {
  asked_.Clear();
  step_of_.clear();
  for (Step& step : steps_) {
    if (step.srun == nullptr) continue;
    step.srun->Write("end all\n");
    step.srun->CloseInput();
    if (step.up.empty()) Cut(&step);
  }
  const int64_t begin_ns = MonotonicNanoseconds();
  const auto left = [begin_ns](absl::Duration of) { return of - absl::Nanoseconds(MonotonicNanoseconds() - begin_ns); };
  for (Step& step : steps_) {
    if (step.srun != nullptr && !step.srun->AwaitEnd(left(kFarEndsGo))) Cut(&step);
  }
  for (Step& step : steps_) {
    if (step.srun != nullptr) step.srun->AwaitEnd(left(kFarEndsGo + kStepGoes));
    step.srun.reset();  // killed, if it is still there
    for (const auto& [node, timer] : step.patience) loop_->Cancel(timer);
  }
  steps_.clear();
}

// --- Up ---

std::optional<uint32_t> SlurmStarter::NodeOf(absl::string_view host) const {
  const auto found = std::find(options_.hosts.begin(), options_.hosts.end(), host);
  if (found == options_.hosts.end()) return std::nullopt;
  return static_cast<uint32_t>(found - options_.hosts.begin());
}

bool SlurmStarter::Leave(Step* step, uint32_t node) {
  if (step->nodes.erase(node) == 0) return false;
  step_of_.erase(node);
  const auto timer = step->patience.find(node);
  if (timer == step->patience.end()) return true;
  loop_->Cancel(timer->second);
  step->patience.erase(timer);
  return true;
}

void SlurmStarter::TakeLine(Step* step, absl::string_view text) {
  if (!absl::ConsumePrefix(&text, kLineMark)) return;
  const std::string word = TakeWord(&text);
  if (word == "missing") {
    const std::string host = TakeWord(&text);
    const std::optional<uint32_t> node = NodeOf(host);
    if (!node || !Leave(step, *node)) return;
    return Tell(*node, true,
                absl::StrCat("there is no muster on ", host, ": not at ",
                             options_.remote_muster.empty() ? "" : absl::StrCat(options_.remote_muster, ", "), options_.program,
                             ", nor in PATH there (", text,
                             "); install it at the same path as here, or say where it is with --remote-muster PATH"));
  }
  if (word == "gone") {
    const std::string host = TakeWord(&text);
    const std::optional<uint32_t> node = NodeOf(host);
    if (!node || !Leave(step, *node)) return;
    return Tell(*node, false, absl::StrCat("the process that holds the agent on ", host, " ended with status ", text));
  }
  uint32_t node = 0;
  if (!absl::SimpleAtoi(TakeWord(&text), &node)) return;
  if (word == "up" && step->nodes.count(node) != 0) {
    step->up.insert(node);
  } else if (word == "ended" && Leave(step, node)) {
    Tell(node, false, std::string(text));
  }
}

// From the loop: whoever is told may end us all.
void SlurmStarter::Tell(uint32_t node, bool hopeless, std::string why) {
  loop_->Post([this, node, hopeless, why = std::move(why), alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    if (hopeless) return callbacks_.hopeless(node, why);
    callbacks_.ended(node, why);
  });
}

// --- The end of a step ---

// Says what has become of all that is still on it.
void SlurmStarter::Release(Step* step, const std::string& how) {
  const auto owned = std::find_if(steps_.begin(), steps_.end(), [step](const Step& one) { return &one == step; });
  std::list<Step> over;
  over.splice(over.begin(), steps_, owned);
  const std::set<uint32_t> nodes = step->nodes;
  std::vector<std::string> hosts;
  for (const uint32_t node : nodes) hosts.push_back(options_.hosts[node]);
  const SlurmFailure failure = DescribeSrun(NamesShown(hosts), step->last_errors, how);
  for (const uint32_t node : nodes) {
    Leave(step, node);
    Tell(node, failure.is_final, failure.sentence);
  }
}

}  // namespace muster

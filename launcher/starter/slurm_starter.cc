#include "launcher/starter/slurm_starter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "launcher/starter/own_addresses.h"
#include "launcher/starter/ssh_command.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr absl::Duration kObeyWithin = absl::Seconds(5);
constexpr absl::Duration kFarEndsGo = absl::Seconds(1);   // when told to, by themselves
constexpr absl::Duration kStepGoes = absl::Seconds(3);    // when srun is told to end it
constexpr size_t kErrorsKept = 8 << 10;
constexpr size_t kLineKept = 64 << 10;

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

absl::Status MakePipe(UniqueFd* read_end, UniqueFd* write_end) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "a pipe to srun");
  read_end->Reset(ends[0]);
  write_end->Reset(ends[1]);
  return absl::OkStatus();
}

void DoNotBlock(const UniqueFd& fd) { ::fcntl(fd.get(), F_SETFL, O_NONBLOCK); }

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
    return absl::NotFoundError(absl::StrCat(
        "there is no ", options.srun, " in PATH here, which starts agents on the nodes of an allocation of Slurm; install Slurm's "
        "client commands (package slurm-client), or name hosts with -H and --starter ssh"));
  }
  options.srun = srun;
  std::unique_ptr<SlurmStarter> starter(new SlurmStarter(loop, std::move(options), std::move(callbacks), std::move(say)));
  MUSTER_RETURN_IF_ERROR(starter->ChooseAddresses());
  sigset_t broken_pipe;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
  return starter;
}

SlurmStarter::~SlurmStarter() { EndAll(); }

absl::Status SlurmStarter::ChooseAddresses() {
  const std::string& wanted = options_.listen;
  if (!wanted.empty() && wanted != "0.0.0.0" && wanted != "::") {
    listen_address_ = wanted;
    offers_ = {wanted};
    return absl::OkStatus();
  }
  listen_address_ = !wanted.empty() ? wanted : HasIpv6() ? "::" : "0.0.0.0";
  MUSTER_ASSIGN_OR_RETURN(const std::vector<OwnAddress> own, FindOwnAddresses());
  // The way to the world first: addresses for documentation that nobody has, and no packet is sent there.
  offers_ = ChooseOffers(own, false, {SourceTowards("192.0.2.1"), SourceTowards("2001:db8::1")});
  if (listen_address_ == "0.0.0.0") std::erase_if(offers_, [](const std::string& one) { return one.find(':') != one.npos; });
  if (!offers_.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "this machine has no address at which the nodes of the allocation could reach it; look at `ip addr`");
}

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
  asked_.push_back(std::move(start));
  if (asked_.size() == 1) {
    loop_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) StartAsked();
    });
  }
  return absl::OkStatus();
}

void SlurmStarter::StartAsked() {
  const std::vector<v1::AgentStart> asked = std::exchange(asked_, {});
  for (size_t begin = 0; begin < asked.size(); begin += kNodesOfStep) {
    const size_t end = std::min(begin + kNodesOfStep, asked.size());
    StartStep({asked.begin() + static_cast<ptrdiff_t>(begin), asked.begin() + static_cast<ptrdiff_t>(end)});
  }
}

void SlurmStarter::StartStep(std::vector<v1::AgentStart> starts) {
  Step* const step = &steps_.emplace_back();
  std::vector<std::string> hosts;
  step->unsent = SlurmFirstLines(options_.remote_muster, options_.program);
  for (const v1::AgentStart& start : starts) {
    hosts.push_back(start.host());
    step->nodes.insert(start.node());
    step_of_[start.node()] = step;
    absl::StrAppend(&step->unsent, AgentStartLine(start));
  }
  const absl::Status running = Run(step, hosts);
  if (running.ok()) return;
  step->last_errors = std::string(running.message());
  Release(step, "could not be started");
}

absl::Status SlurmStarter::Run(Step* step, const std::vector<std::string>& hosts) {
  ChildOptions options;
  options.program = "env";
  options.words = SrunWords(options_.srun, hosts);
  UniqueFd input, output, errors;
  MUSTER_RETURN_IF_ERROR(MakePipe(&input, &step->to));
  MUSTER_RETURN_IF_ERROR(MakePipe(&step->from, &output));
  MUSTER_RETURN_IF_ERROR(MakePipe(&step->errors, &errors));
  for (const UniqueFd* fd : {&step->to, &step->from, &step->errors}) DoNotBlock(*fd);
  options.descriptors = {{input.get(), STDIN_FILENO}, {output.get(), STDOUT_FILENO}, {errors.get(), STDERR_FILENO}};
  MUSTER_ASSIGN_OR_RETURN(step->srun,
                          Child::Start(loop_, options, [this, step](int status) { OnSrunEnded(step, status); }));
  for (const UniqueFd* fd : {&step->from, &step->errors}) {
    MUSTER_RETURN_IF_ERROR(loop_->Add(fd->get(), EPOLLIN, [this, step, fd = fd->get()](uint32_t) { Read(step, fd); }));
  }
  Flush(step);
  return absl::OkStatus();
}

// --- Down ---

void SlurmStarter::Write(Step* step, const std::string& text) {
  if (!step->to) return;
  step->unsent += text;
  Flush(step);
}

void SlurmStarter::Flush(Step* step) {
  while (!step->unsent.empty()) {
    const ssize_t bytes = ::write(step->to.get(), step->unsent.data(), step->unsent.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno != EAGAIN) step->unsent.clear();  // nobody reads: srun's end says why
    if (bytes < 0) break;
    step->unsent.erase(0, static_cast<size_t>(bytes));
  }
  const bool more = !step->unsent.empty();
  if (more == step->writing) return;
  step->writing = more;
  if (!more) return loop_->Remove(step->to.get());
  loop_->Add(step->to.get(), EPOLLOUT, [this, step](uint32_t) { Flush(step); }).IgnoreError();
}

void SlurmStarter::End(uint32_t node) {
  const auto found = step_of_.find(node);
  if (found == step_of_.end()) return;
  Step* const step = found->second;
  if (step->nodes.size() == 1) return Cut(step);
  Write(step, absl::StrCat("end ", node, "\n"));
  if (step->patience.count(node) != 0) return;
  step->patience[node] = loop_->After(kObeyWithin, [this, step, node] {
    step->patience.erase(node);
    Cut(step);
  });
}

// Has Slurm end all that runs in it, at once; the end of srun follows.
void SlurmStarter::Cut(Step* step) {
  if (step->srun != nullptr) ::kill(step->srun->pid(), SIGTERM);
}

void SlurmStarter::EndAll() {
  asked_.clear();
  step_of_.clear();
  for (Step& step : steps_) {
    Write(&step, "end all\n");
    if (step.writing) loop_->Remove(step.to.get());
    step.writing = false;
    step.to.Reset();
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
    for (const UniqueFd* fd : {&step.from, &step.errors}) {
      if (*fd) loop_->Remove(fd->get());
    }
    for (const auto& [node, timer] : step.patience) loop_->Cancel(timer);
  }
  steps_.clear();
}

// --- Up ---

void SlurmStarter::Read(Step* step, int fd) {
  const bool is_error = fd == step->errors.get();
  std::string& unread = is_error ? step->unread_errors : step->unread;
  char bytes[16 << 10];
  ssize_t count;
  while ((count = ::read(fd, bytes, sizeof bytes)) > 0 || (count < 0 && errno == EINTR)) {
    if (count > 0) unread.append(bytes, static_cast<size_t>(count));
    size_t begin = 0;
    for (size_t end; (end = unread.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const absl::string_view text = absl::string_view(unread).substr(begin, end - begin);
      if (is_error) {
        TakeError(step, text);
      } else {
        TakeLine(step, text);
      }
    }
    unread.erase(0, begin);
    if (unread.size() > kLineKept) unread.clear();  // no line of ours is as long
  }
  if (count == 0) loop_->Remove(fd);  // srun's end comes by itself
}

void SlurmStarter::TakeError(Step* step, absl::string_view text) {
  absl::StrAppend(&step->last_errors, text, "\n");
  if (step->last_errors.size() > kErrorsKept) step->last_errors.erase(0, step->last_errors.size() - kErrorsKept);
  if (absl::StartsWith(text, "muster: ")) say_(std::string(text));
}

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
    return Tell(
        *node, true, absl::StrCat("there is no muster on ", host, ": not at ",
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

void SlurmStarter::OnSrunEnded(Step* step, int wait_status) {
  for (const UniqueFd* fd : {&step->from, &step->errors}) Read(step, fd->get());
  if (!step->unread_errors.empty()) TakeError(step, std::exchange(step->unread_errors, ""));
  Release(step, HowItEnded(wait_status));
}

// Says what has become of all that is still on it.
void SlurmStarter::Release(Step* step, const std::string& how) {
  if (step->writing) loop_->Remove(step->to.get());
  for (const UniqueFd* fd : {&step->from, &step->errors}) {
    if (*fd) loop_->Remove(fd->get());
  }
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

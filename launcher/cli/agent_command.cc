// muster agent: one node's part of a job whose coordinator is another process.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "launcher/channel/authority.h"
#include "launcher/channel/coordinator_search.h"
#include "launcher/channel/join_key.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/join_key_file.h"
#include "launcher/cli/own_environment.h"
#include "launcher/cli/program.h"
#include "launcher/cli/subcommand.h"
#include "launcher/identity/token.h"
#include "launcher/process/agent_front.h"
#include "launcher/process/agent_process.h"
#include "launcher/process/exit_codes.h"
#include "launcher/process/last_words.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/fd.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kTicketBytesMax = 64 << 10;
constexpr absl::Duration kSuccessorAnswers = absl::Seconds(2);

constexpr char kUsage[] = R"(usage: muster agent --coordinator HOST:PORT --ticket-file FILE [options]
       muster agent --coordinator HOST:PORT --join-key-file FILE --node N [options]

Runs one node's workers of a job whose coordinator runs elsewhere (muster coordinator, which says
this line for each node; muster run starts its agents itself, by ssh on other hosts). It ends with
the job.

examples
  muster agent --coordinator 10.0.0.5:4242 --ticket-file node-3.ticket
  muster agent --coordinator 10.0.0.5:4242 --ticket-file node-3.ticket --host node-3 --slots 8
  muster agent --coordinator train-coordinator-0.train:4242 --join-key-file /run/muster/key --node 3
)";

constexpr char kAfter[] = R"(exit status
  0    the job is over                 70   a defect in muster
  64   wrong usage                     77   refused: a wrong ticket, or one used before
  69   no coordinator could be reached 130  Ctrl-C; 143 SIGTERM: the workers here were ended
  73   no temporary folder
)";

struct AgentFlags {
  std::string coordinator;
  bool from_stdin = false;
  int64_t ticket_fd = -1;
  int64_t line_fd = -1;
  bool home_if_no_folder = false;
  bool signals_stop_job = false;
  std::string ticket_file;
  std::string join_key_file;
  std::string token_file;
  int64_t node = -1;
  std::string host;
  std::string address;
  int64_t slots = 0;
  double orphan_after_seconds = 40;
  std::string temporary_folder;
  std::string last_words_file;
  bool verbose = false;
};

FlagSet Declare(AgentFlags* agent) {
  FlagSet flags("muster agent");
  flags.Text("--coordinator", "HOST:PORT", &agent->coordinator,
             "where the job's coordinator listens; several numeric addresses with\n"
             "commas between: the first that answers is taken");
  flags.Text("--ticket-file", "FILE", &agent->ticket_file, "the ticket that the coordinator has made for this node; good once");
  flags.Text("--join-key-file", "FILE", &agent->join_key_file,
             "instead of a ticket: the secret that muster run --starter join was\n"
             "given. The coordinator is waited for, its name asked for again and\n"
             "again, for --orphan-after");
  flags.Text("--token-file", "FILE", &agent->token_file,
             "the token that Kubernetes has signed for this pod, for a coordinator that\n"
             "wants to see it (muster run --token-keys)");
  flags.Count("--node", "N", &agent->node, 0, 99'999,
              "with a join key: this node's number, from 0, such as the index of a\n"
              "pod. Of two agents with one number the newer takes the node over");
  flags.Count("--ticket-fd", "N", &agent->ticket_fd, 0, 1 << 20, "read the ticket from this descriptor instead");
  flags.Switch("--stdin", &agent->from_stdin,
               "take all that is needed from standard input and end with it, as\nmuster run does it by ssh; only --host may be "
               "said then:\n"
               "of starts for several hosts this one's is taken");
  flags.Count("--line-fd", "N", &agent->line_fd, 0, 1 << 20, "end when nobody holds the other end of this pipe any more");
  flags.Switch("--home-if-no-folder", &agent->home_if_no_folder, "where the workers' folder does not exist start them in HOME");
  flags.Switch("--signals-stop-job", &agent->signals_stop_job,
               "SIGTERM, SIGINT and SIGHUP ask the coordinator to end the whole job,\nas batch systems mean it");
  flags.Text("--host", "NAME", &agent->host, "this node's name in messages; without it the machine's own");
  flags.Text("--address", "ADDRESS", &agent->address,
             "numeric address at which other nodes reach this one; without it the one\n"
             "from which the coordinator is reached");
  flags.Count("--slots", "N", &agent->slots, 1, v1::kLocalRanksMax,
              "workers that this node may hold; without it as many as the\ncoordinator wants here");
  flags.Seconds("--orphan-after", "SECONDS", &agent->orphan_after_seconds,
                "end the workers when there was no coordinator for so long (40)");
  flags.Text("--temporary-folder", "FOLDER", &agent->temporary_folder, "where the workers' TMPDIR is made; without it TMPDIR");
  flags.Text("--termination-message", "FILE", &agent->last_words_file,
             "write how it ended to FILE, as one line of JSON: where a container\nruntime looks for last words, such as "
             "/dev/termination-log");
  flags.Switch("-v --verbose", &agent->verbose, "say on stderr what the agent does");
  return flags;
}

absl::StatusOr<std::string> ReadTicket(const AgentFlags& agent) {
  const bool from_file = !agent.ticket_file.empty();
  const std::string what =
      from_file ? absl::StrCat("--ticket-file ", agent.ticket_file) : absl::StrCat("--ticket-fd ", agent.ticket_fd);
  UniqueFd source(from_file ? ::open(agent.ticket_file.c_str(), O_RDONLY | O_CLOEXEC) : static_cast<int>(agent.ticket_fd));
  if (!source) return ErrnoToStatus(errno, what);
  std::string text(kTicketBytesMax, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t bytes = ::read(source.get(), text.data() + size, text.size() - size);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return ErrnoToStatus(errno, what);
    if (bytes == 0) break;
    size += static_cast<size_t>(bytes);
  }
  text.resize(size);
  return std::string(absl::StripAsciiWhitespace(text));
}

// What stands there now: Kubernetes replaces it before it expires. Empty: nothing that could be shown, which is said.
std::string ReadToken(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kTokenBytesMax + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  const std::string token(absl::StripAsciiWhitespace(text));
  if (token.empty()) Log(LogLevel::kWarning, absl::StrCat("--token-file ", path, " cannot be read, or is empty"));
  return token;
}

absl::Status Check(const AgentFlags& agent) {
  if (agent.coordinator.rfind(':') == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("--coordinator ", agent.coordinator,
                                                   agent.coordinator.empty() ? "is missing; write" : " has no port; write",
                                                   " --coordinator HOST:PORT, as `muster coordinator` says it"));
  }
  const int rights = !agent.ticket_file.empty() + (agent.ticket_fd >= 0) + !agent.join_key_file.empty();
  if (rights != 1) {
    return absl::InvalidArgumentError(
        "one of --ticket-file FILE, --ticket-fd N and --join-key-file FILE is needed: the right to join");
  }
  if (agent.join_key_file.empty() != (agent.node < 0)) {
    return absl::InvalidArgumentError("--join-key-file FILE and --node N go together; a ticket is made for its node already");
  }
  return absl::OkStatus();
}

// Whoever waits here for a coordinator is often the first process of a container, which gets no signal that it does not take.
class EndingSignal {
 public:
  // `watched` false: signals do what they do by themselves.
  explicit EndingSignal(bool watched) {
    ::sigemptyset(&signals_);
    if (!watched) return;
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals_, signal);
    ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);  // as it is for the rest of this process
  }
  // The one that has come, or 0.
  int Take() {
    const timespec at_once = {};
    if (taken_ == 0) taken_ = std::max(0, ::sigtimedwait(&signals_, nullptr, &at_once));
    return taken_;
  }

 private:
  sigset_t signals_;
  int taken_ = 0;
};

// A ticket for the join key, of any job but `not_of_job`: its coordinator has said that it leaves its place to another.
absl::StatusOr<FetchedTicket> AskForTicket(const AgentFlags& agent, const std::string& not_of_job, absl::Duration within,
                                           const std::function<bool()>& give_up) {
  constexpr absl::Duration kAskAgain = absl::Milliseconds(200);
  // Read each time: a key that is mounted may be a newer one by now.
  MUSTER_ASSIGN_OR_RETURN(const std::string key, ReadJoinKey(agent.join_key_file));
  const absl::Time end = absl::Now() + within;
  for (;;) {
    MUSTER_ASSIGN_OR_RETURN(FetchedTicket fetched,
                            FetchTicket(agent.coordinator, key, static_cast<uint32_t>(agent.node), end - absl::Now(), give_up));
    if (fetched.ticket.job_id != not_of_job) return fetched;
    if (give_up && give_up()) return absl::CancelledError("not waited for any more: the coordinator's successor");
    if (absl::Now() + kAskAgain > end) {
      return absl::UnavailableError(absl::StrCat("nobody has come in the place of the coordinator at ", agent.coordinator,
                                                 " in ", absl::FormatDuration(within)));
    }
    absl::SleepFor(kAskAgain);
  }
}

// The ticket, or one that the coordinator gives for the join key: then the way to it is known as well.
absl::StatusOr<JoinTicket> TakeTicket(AgentFlags* agent, std::optional<FetchedTicket> successor, const std::string& not_of_job,
                                      EndingSignal* signal) {
  if (agent->join_key_file.empty()) {
    MUSTER_ASSIGN_OR_RETURN(const std::string text, ReadTicket(*agent));
    return JoinTicketFromText(text);
  }
  if (!successor) {
    MUSTER_ASSIGN_OR_RETURN(successor, AskForTicket(*agent, not_of_job, absl::Seconds(agent->orphan_after_seconds),
                                                    [signal] { return signal->Take() != 0; }));
  }
  agent->coordinator = successor->coordinator;
  if (agent->address.empty()) agent->address = successor->local_address;
  return std::move(successor->ticket);
}

int ExitCodeOf(const AgentFlags& agent, const absl::Status& why) {
  if (agent.join_key_file.empty()) return kExitUsage;
  if (absl::IsPermissionDenied(why)) return kExitRefused;
  return absl::IsInvalidArgument(why) ? kExitUsage : kExitUnavailable;
}

// What was said last of what a person must know, from whatever thread.
class LastError {
 public:
  void Set(absl::string_view line) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    line_ = std::string(line);
  }
  std::string Get() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return line_;
  }

 private:
  Mutex mutex_;
  std::string line_ ABSL_GUARDED_BY(mutex_);
};

// Agents of several nodes may share one stderr, so each says who it is.
void NameInLog(const std::string& host, bool verbose, std::shared_ptr<LastError> last_error) {
  const std::string prefix = absl::StrCat("muster: agent", host.empty() ? "" : " ", host, ": ");
  SetLogSink([prefix, verbose, last_error](LogLevel level, absl::string_view line) {
    if (level == LogLevel::kInfo && !verbose) return;
    if (level == LogLevel::kError) last_error->Set(line);
    const std::string text = absl::StrCat(prefix, line, "\n");
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  });
}

int Fail(int exit_code, const absl::Status& status) {
  Log(LogLevel::kError, status.message());
  return exit_code;
}

// All that is needed comes by stdin.
int ServeStdin(const std::string& host) {
  auto program = OwnProgram();
  if (!program.ok()) return Fail(kExitInternal, program.status());
  auto front = AgentFront::Create(*std::move(program), host);
  if (!front.ok()) return Fail(kExitInternal, front.status());
  return (*front)->Run();
}

// The way to the coordinator, and where other nodes reach this one: the address from which it is reached.
absl::Status TakeWay(const AgentFlags& agent, AgentProcessOptions* options) {
  const std::vector<std::string> coordinators = absl::StrSplit(agent.coordinator, ',');
  if (coordinators.size() == 1 && agent.line_fd < 0) {
    options->coordinator = agent.coordinator;
    if (!options->address.empty()) return absl::OkStatus();
    MUSTER_ASSIGN_OR_RETURN(options->address, AddressTowards(options->coordinator));
    return absl::OkStatus();
  }
  MUSTER_ASSIGN_OR_RETURN(const FoundCoordinator found, FindCoordinator(coordinators, options->ticket.authority_pem,
                                                                        options->orphan_after, options->line.get()));
  options->coordinator = found.coordinator;
  if (options->address.empty()) options->address = found.local_address;
  return absl::OkStatus();
}

// How this node's part in one job has ended. With `has_successor` another coordinator has come in its place, or is to come: `successor` is
// its ticket, where there is one already, and `job_id` the job that was.
struct Part {
  int exit_code = kExitOk;
  bool has_successor = false;
  std::optional<FetchedTicket> successor = std::nullopt;
  std::string job_id = "";
};

Part RunPart(AgentFlags agent, Part before) {
  const AgentFlags asked = agent;
  EndingSignal signal(/*watched=*/!agent.join_key_file.empty());
  auto ticket = TakeTicket(&agent, std::move(before.successor), before.job_id, &signal);
  if (signal.Take() != 0) {
    Log(LogLevel::kError, absl::StrCat("asked to end by ", ::sigabbrev_np(signal.Take()), " before there was a coordinator"));
    return {128 + signal.Take()};
  }
  if (!ticket.ok()) return {Fail(ExitCodeOf(agent, ticket.status()), ticket.status())};
  const auto own_folder = OwnFolder();
  if (!own_folder.ok()) return {Fail(kExitInternal, own_folder.status())};
  auto guard = FindGuard(*own_folder);
  if (!guard.ok()) return {Fail(kExitInternal, guard.status())};

  AgentProcessOptions options;
  options.ticket = *std::move(ticket);
  const std::string job_id = options.ticket.job_id;
  options.host = agent.host;
  options.address = agent.address;
  options.slots = static_cast<uint32_t>(agent.slots);
  options.orphan_after = absl::Seconds(agent.orphan_after_seconds);
  options.line.Reset(static_cast<int>(agent.line_fd));
  options.home_if_no_folder = agent.home_if_no_folder;
  options.signals_stop_job = agent.signals_stop_job;
  // Whoever holds a line ends with it, not with a coordinator.
  if (!agent.join_key_file.empty() && agent.line_fd < 0) {
    options.ask_for_successor = [asked] { return AskForTicket(asked, "", kSuccessorAnswers, nullptr); };
  }
  if (!agent.token_file.empty()) options.identity_token = [path = agent.token_file] { return ReadToken(path); };
  options.guard_path = *std::move(guard);
  options.environment = OwnEnvironment();
  options.find_program = [own_folder = *own_folder](std::vector<std::string>* argv,
                                                    const std::string& working_directory) -> absl::StatusOr<std::string> {
    const std::string path = Variable("PATH").value_or("/usr/local/bin:/usr/bin:/bin");
    MUSTER_ASSIGN_OR_RETURN(Startable found, FindCommand(*argv, working_directory, path, own_folder, Python()));
    *argv = std::move(found.argv);
    return std::move(found.path);
  };
  if (const absl::Status way = TakeWay(agent, &options); !way.ok()) {
    return {Fail(absl::IsInvalidArgument(way) ? kExitUsage : kExitUnavailable, way)};
  }
  auto session_folder =
      SessionFolder::CreateForNode(agent.temporary_folder.empty() ? TemporaryFolder() : agent.temporary_folder,
                                   absl::BytesToHexString(options.ticket.job_id));
  if (!session_folder.ok()) return {Fail(kExitCannotWrite, session_folder.status())};
  options.session_folder = *std::move(session_folder);
  auto process = AgentProcess::Create(std::move(options));
  if (!process.ok()) return {Fail(kExitInternal, process.status())};
  const int exit_code = (*process)->Run();
  return {exit_code, (*process)->has_successor() && exit_code == kExitUnavailable, (*process)->TakeSuccessor(), job_id};
}

int RunParts(const AgentFlags& agent) {
  Part part;
  do {
    part = RunPart(agent, std::move(part));
  } while (part.has_successor);
  return part.exit_code;
}

}  // namespace

HelpPage AgentPage() {
  AgentFlags unused;
  return {.before = kUsage, .flags = Declare(&unused).Describe(), .after = kAfter};
}

int AgentCommand(const std::vector<std::string>& arguments) {
  AgentFlags agent;
  FlagSet flags = Declare(&agent);
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(AgentPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  if (!rest->empty())
    return UsageError(absl::StrCat("muster agent takes no program (", rest->front(), "): the coordinator says it"));
  if (agent.from_stdin) return ServeStdin(agent.host);
  if (const absl::Status status = Check(agent); !status.ok()) return UsageError(status.message());
  const auto last_error = std::make_shared<LastError>();
  NameInLog(agent.host, agent.verbose, last_error);
  const int exit_code = RunParts(agent);
  if (!agent.last_words_file.empty()) {
    const absl::Status said = WriteLastWords(agent.last_words_file, AgentLastWords(exit_code, last_error->Get(), agent.host));
    if (!said.ok()) Log(LogLevel::kWarning, absl::StrCat("--termination-message: ", said.message()));
  }
  return exit_code;
}

}  // namespace muster

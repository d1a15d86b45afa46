#include "launcher/coordinator/verdict.h"

#include <errno.h>
#include <signal.h>

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/coordinator/blame_graph.h"
#include "launcher/coordinator/cause.h"
#include "launcher/coordinator/rank_summary.h"
#include "proto/muster/v1/control_memory.h"

namespace muster {
namespace {

constexpr size_t kCausesInSentence = 3;

bool HasOneOf(const std::string& text, const std::vector<absl::string_view>& words) {
  return std::any_of(words.begin(), words.end(), [&text](absl::string_view one) { return absl::StrContains(text, one); });
}

// Whether a program only says that another rank has gone. The kernel's words count where a library of PyTorch's says them: a program
// may as well miss its database. Source: gloo/transport/tcp/pair.cc, torch/csrc/distributed/c10d/socket.cpp, TCPStore.cpp,
// exception.h and ProcessGroupNCCL.cpp.
bool TellsOfALostPeer(const std::string& error) {
  static const auto& kOwnWords = *new std::vector<absl::string_view>{
      "failed to recv, got 0 bytes", "ncclRemoteError", "remote process exited", "Application timeout caused pair closure"};
  static const auto& kKernelsWords = *new std::vector<absl::string_view>{
      "Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe"};
  static const auto& kLibraries = *new std::vector<absl::string_view>{
      "gloo", "Gloo", "c10d", "torch.distributed", "NCCL", "TCPStore", "SocketImpl", "client socket has failed to connect"};
  return HasOneOf(error, kOwnWords) || (HasOneOf(error, kKernelsWords) && HasOneOf(error, kLibraries));
}

// Ranks without libmuster blame nobody: what they say stands in for it.
void DropEchoes(std::vector<Cause>* causes) {
  const auto is_echo = [](const Cause& cause) { return TellsOfALostPeer(cause.program_error); };
  if (!std::all_of(causes->begin(), causes->end(), is_echo)) std::erase_if(*causes, is_echo);
}

// What one blame says of the rank it points at.
struct Accusation {
  v1::AbortReason reason = v1::AbortReason::kNone;
  std::string message;
  uint64_t when_ms = 0;
  int exit_code = 0;  // 0: not known
};

bool CallsGone(v1::AbortReason reason) {
  return reason == v1::AbortReason::kPeerLost || reason == v1::AbortReason::kPeerLeft || reason == v1::AbortReason::kAgentLost;
}

bool NamesACause(const v1::PeerBlamed& blame) {
  if (blame.blamed_rank() == v1::kNoRank) return false;
  switch (static_cast<v1::AbortReason>(blame.reason())) {
    case v1::AbortReason::kPeerLost:
    case v1::AbortReason::kPeerLeft:
    case v1::AbortReason::kMismatch:
    case v1::AbortReason::kAborted:
    case v1::AbortReason::kDeadline:
    case v1::AbortReason::kAgentLost:  // of the blamed rank's node
    case v1::AbortReason::kMpi:
      return true;
    default:
      return false;
  }
}

// The evidence, by rank.
class Case {
 public:
  explicit Case(const Evidence& evidence);

  std::vector<Cause> Causes();
  int32_t EndedWith(const std::vector<Cause>& causes) const;
  // The first exit code of a worker's own among unexpected endings, 0 for none.
  int OwnExitCode() const;

 private:
  struct Rank {
    const Evidence::Member* member = nullptr;
    const v1::WorkerEnded* ended = nullptr;
    const Evidence::SpawnFailure* not_started = nullptr;
    const Evidence::LostAgent* agent_lost = nullptr;
    const Accusation* accused = nullptr;
  };

  bool FailedByItself(const Rank& rank) const;
  bool IsCause(const Rank& rank) const;
  bool EndedOf(const v1::PeerBlamed& blame) const;
  bool IsAnsweredByTheLost(const v1::PeerBlamed& blame) const;
  void AddRankCause(const Rank& rank, std::vector<Cause>& causes) const;
  Cause CauseOf(const Rank& rank) const;
  bool AccusationSaysMore(const Rank& rank) const;
  void DescribeAccusation(const Rank& rank, Cause& cause) const;
  static void DescribeLoss(const Evidence::LostAgent& lost, Cause& cause);
  void AddNodeCauses(std::vector<Cause>& causes) const;
  std::string Who(const Rank& rank) const;

  const Evidence& evidence_;
  std::map<uint32_t, Rank> ranks_;
  std::map<uint32_t, Accusation> accusations_;
};

Case::Case(const Evidence& evidence) : evidence_(evidence) {
  std::map<uint32_t, uint32_t> rank_of_slot;
  for (const Evidence::Member& member : evidence.members) {
    ranks_[member.rank].member = &member;
    rank_of_slot[member.slot] = member.rank;
  }
  for (const v1::WorkerEnded& ended : evidence.endings) {
    if (ranks_.contains(ended.rank())) ranks_[ended.rank()].ended = &ended;
  }
  for (const Evidence::SpawnFailure& failure : evidence.spawn_failures) {
    if (rank_of_slot.contains(failure.slot)) ranks_[rank_of_slot[failure.slot]].not_started = &failure;
  }
  for (const Evidence::LostAgent& lost : evidence.lost_agents) {
    for (auto& [number, rank] : ranks_) {
      if (rank.member->node == lost.node && rank.ended == nullptr) rank.agent_lost = &lost;
    }
  }
}

bool Case::FailedByItself(const Rank& rank) const {
  return rank.not_started != nullptr || rank.agent_lost != nullptr || (rank.ended != nullptr && IsFailure(*rank.ended));
}

// A root of the blame graph is a cause, unless we ended it and it is only called lost or gone: that shows our Stop, and those
// that blame it are victims of it.
bool Case::IsCause(const Rank& rank) const {
  if (FailedByItself(rank)) return true;
  if (rank.accused == nullptr) return false;
  return !CallsGone(rank.accused->reason) || rank.ended == nullptr || !rank.ended->expected();
}

// Whether who says this of a communicator of some ranks failed of it: it ended by its own hand, before two more steps were committed (the
// ranks of a step report it at different times).
bool Case::EndedOf(const v1::PeerBlamed& blame) const {
  if (!blame.of_some_ranks() || !NamesACause(blame) || evidence_.committed_step > blame.step() + 1) return false;
  // One that only let go of the communicator, or was ended by us, is not gone.
  const v1::WorkerEnded* const gone = ranks_.at(blame.blamed_rank()).ended;
  if (CallsGone(static_cast<v1::AbortReason>(blame.reason())) && (gone == nullptr || gone->expected())) return false;
  const v1::WorkerEnded* const ended = ranks_.at(blame.rank()).ended;
  if (ended == nullptr || !IsFailure(*ended)) return false;
  const v1::Ending& ending = ended->ending();
  return ending.kind() == v1::Ending::EXITED || (ending.kind() == v1::Ending::SIGNALED && ending.code() == SIGABRT);
}

// Whether the rank that is called lost or gone here has failed because of the one that says so.
bool Case::IsAnsweredByTheLost(const v1::PeerBlamed& blame) const {
  if (blame.of_some_ranks() || !CallsGone(static_cast<v1::AbortReason>(blame.reason()))) return false;
  return std::any_of(evidence_.blames.begin(), evidence_.blames.end(), [&](const v1::PeerBlamed& other) {
    return other.rank() == blame.blamed_rank() && other.blamed_rank() == blame.rank() && EndedOf(other);
  });
}

std::vector<Cause> Case::Causes() {
  BlameGraph graph;
  for (const auto& [number, rank] : ranks_) {
    if (FailedByItself(rank)) graph.AddRank(number);
  }
  for (const v1::PeerBlamed& blame : evidence_.blames) {
    if (!ranks_.contains(blame.rank()) || !ranks_.contains(blame.blamed_rank())) continue;
    if (!(IsFailure(blame) || EndedOf(blame)) || IsAnsweredByTheLost(blame)) continue;
    graph.AddBlame(blame.rank(), blame.blamed_rank());
    Accusation& accusation = accusations_[blame.blamed_rank()];
    if (accusation.reason == v1::AbortReason::kNone || blame.when_ms() < accusation.when_ms) {
      accusation = {static_cast<v1::AbortReason>(blame.reason()), blame.message(), blame.when_ms(), blame.exit_code()};
    }
  }
  for (auto& [number, accusation] : accusations_) ranks_[number].accused = &accusation;

  std::vector<Cause> causes;
  for (const uint32_t number : graph.Roots()) {
    if (IsCause(ranks_[number])) AddRankCause(ranks_[number], causes);
  }
  AddNodeCauses(causes);
  DropEchoes(&causes);
  std::stable_sort(causes.begin(), causes.end(), [](const Cause& a, const Cause& b) { return a.when_ms < b.when_ms; });
  return causes;
}

std::string Case::Who(const Rank& rank) const { return NameRank(rank.member->rank, rank.member->program, rank.member->host); }

// One cause a rank; ranks of one host whose program could not be started, or whose guard or agent went, make one together.
void Case::AddRankCause(const Rank& rank, std::vector<Cause>& causes) const {
  Cause cause = CauseOf(rank);
  const bool merges = rank.not_started != nullptr || cause.rank < 0;
  const auto same = [&cause](const Cause& known) {
    return known.host == cause.host && known.failure_class == cause.failure_class && known.program == cause.program;
  };
  if (merges && std::any_of(causes.begin(), causes.end(), same)) return;
  causes.push_back(std::move(cause));
}

// An exit code after a wrong call says less than the call; one of a rank that merely went says more than that it went.
bool Case::AccusationSaysMore(const Rank& rank) const {
  if (rank.accused == nullptr || rank.not_started != nullptr || rank.agent_lost != nullptr) return false;
  if (rank.ended == nullptr || !IsFailure(*rank.ended)) return true;
  const bool called_gone =
      rank.accused->reason == v1::AbortReason::kPeerLost || rank.accused->reason == v1::AbortReason::kPeerLeft;
  return rank.ended->ending().kind() == v1::Ending::EXITED && !called_gone;
}

Cause Case::CauseOf(const Rank& rank) const {
  Cause cause;
  cause.rank = static_cast<int32_t>(rank.member->rank);
  cause.host = rank.member->host;
  cause.program = rank.member->program;
  if (rank.ended != nullptr) {
    cause.pid = rank.ended->pid();
    cause.when_ms = rank.ended->when_ms();
    cause.last_op_seq = rank.ended->last_op_seq();
    cause.last_op = rank.ended->last_op();
  }
  if (AccusationSaysMore(rank)) {
    DescribeAccusation(rank, cause);
  } else if (rank.not_started != nullptr) {
    DescribeEnding(rank.not_started->ending, Who(rank), AtStep(evidence_.committed_step), cause);
  } else if (rank.agent_lost != nullptr) {
    cause.rank = -1;
    DescribeLoss(*rank.agent_lost, cause);
  } else {
    DescribeEnding(rank.ended->ending(), Who(rank), AtStep(evidence_.committed_step), cause);
  }
  return cause;
}

void Case::DescribeAccusation(const Rank& rank, Cause& cause) const {
  cause.worker_exit_code = rank.ended != nullptr && IsFailure(*rank.ended) ? rank.ended->ending().code() : OwnExitCode();
  cause.exit_code = cause.worker_exit_code != 0 ? cause.worker_exit_code : kExitInternal;
  cause.when_ms = rank.accused->when_ms;
  const std::string said = rank.accused->message.empty() ? "" : absl::StrCat(" (", rank.accused->message, ")");
  const std::string at_step = AtStep(evidence_.committed_step);
  if (rank.accused->exit_code != 0) cause.exit_code = cause.worker_exit_code = rank.accused->exit_code;
  switch (rank.accused->reason) {
    case v1::AbortReason::kMpi:
      cause.failure_class = "mpi";
      cause.sentence = absl::StrCat(Who(rank), " ", rank.accused->message);
      if (rank.ended == nullptr || rank.ended->ending().program_error().empty()) return;
      cause.program_error = rank.ended->ending().program_error();
      cause.program_trace = rank.ended->ending().program_trace();
      absl::StrAppend(&cause.sentence, ": ", cause.program_error);
      return;
    case v1::AbortReason::kMismatch:
      cause.failure_class = "wrong collective";
      cause.sentence = absl::StrCat(Who(rank), " made another collective call than the others", at_step, said);
      return;
    case v1::AbortReason::kDeadline:
      cause.failure_class = "never arrived";
      cause.sentence = absl::StrCat(Who(rank), " did not arrive at a collective in time", at_step, said);
      return;
    case v1::AbortReason::kAborted:
      cause.failure_class = "aborted";
      cause.sentence = absl::StrCat(Who(rank), " aborted the communicator", at_step, said);
      return;
    default:
      break;
  }
  if (rank.ended == nullptr) {
    cause.failure_class = "unknown";
    cause.sentence = absl::StrCat(Who(rank), " was lost", at_step, said);
    return;
  }
  cause.failure_class = "left early";
  cause.sentence = absl::StrCat(Who(rank), " left before the others", at_step,
                                ": a rank may end only after its last collective call, and must close its session");
}

void Case::DescribeLoss(const Evidence::LostAgent& lost, Cause& cause) {
  cause.failure_class = lost.whole_node ? "host lost" : "agent lost";
  cause.exit_code = kExitInternal;
  cause.when_ms = lost.when_ms;
  cause.sentence = absl::StrCat(lost.whole_node ? "host " : "the agent on host ", lost.host, " was lost (", lost.why, ")");
}

// Agents that were lost with no rank of their own left to name them.
void Case::AddNodeCauses(std::vector<Cause>& causes) const {
  if (!causes.empty() || evidence_.lost_agents.empty()) return;
  const Evidence::LostAgent& lost = evidence_.lost_agents.front();
  Cause cause;
  cause.host = lost.host;
  DescribeLoss(lost, cause);
  causes.push_back(std::move(cause));
}

int Case::OwnExitCode() const {
  const v1::WorkerEnded* first = nullptr;
  for (const v1::WorkerEnded& ended : evidence_.endings) {
    if (!IsFailure(ended) || !IsRankOwn(ended.ending().kind())) continue;
    if (first == nullptr || ended.when_ms() < first->when_ms()) first = &ended;
  }
  return first == nullptr ? 0 : ExitCodeOf(first->ending());
}

// Ranks that are no cause and did not end well by themselves.
int32_t Case::EndedWith(const std::vector<Cause>& causes) const {
  int32_t count = 0;
  for (const auto& [number, rank] : ranks_) {
    const bool is_cause =
        std::any_of(causes.begin(), causes.end(),
                    [number = static_cast<int32_t>(number)](const Cause& cause) { return cause.rank == number; });
    const bool well = rank.ended != nullptr && rank.ended->ending().kind() == v1::Ending::EXITED &&
                      rank.ended->ending().code() == 0 && !rank.ended->expected();
    if (!is_cause && !well && rank.not_started == nullptr) ++count;
  }
  return count;
}

// ": rank 4 on host a has not called ...", and the odd rank's place.
std::string WhereRanksWere(const Evidence& evidence, v1::Verdict* verdict) {
  if (!evidence.ranks_were_asked) return "";
  if (evidence.members.empty()) return ": its workers had not been started";
  const RankSummary summary = SummarizeRanks(evidence);
  for (const Evidence::Member& member : evidence.members) {
    if (static_cast<int32_t>(member.rank) != summary.odd_rank) continue;
    verdict->set_rank(summary.odd_rank);
    verdict->set_host(member.host);
    verdict->set_program(member.program);
  }
  return summary.sentence.empty() ? "" : absl::StrCat(": ", summary.sentence);
}

Judgement Stopped(const Evidence& evidence) {
  Judgement judgement;
  v1::Verdict& verdict = judgement.verdict;
  verdict.set_rank(-1);
  const std::string by = evidence.stop_by.empty() ? "" : absl::StrCat(" by ", evidence.stop_by);
  switch (*evidence.stop) {
    case StopKind::kInterrupt:
      verdict.set_exit_code(130);
      verdict.set_sentence(absl::StrCat("interrupted (SIGINT)", by));
      break;
    case StopKind::kTerminate:
      verdict.set_exit_code(143);
      verdict.set_sentence(absl::StrCat("terminated (SIGTERM)", by));
      break;
    case StopKind::kHangup:
      verdict.set_exit_code(129);
      verdict.set_sentence(evidence.stop_by.empty() ? "the terminal hung up (SIGHUP)" : absl::StrCat("hung up (SIGHUP)", by));
      break;
    case StopKind::kTimeout:
      verdict.set_exit_code(124);
      verdict.set_sentence(absl::StrCat("the job was stopped by ",
                                        evidence.stop_detail.empty() ? "--timeout" : evidence.stop_detail,
                                        AtStep(evidence.committed_step), WhereRanksWere(evidence, &verdict)));
  }
  verdict.set_failure_class(*evidence.stop == StopKind::kTimeout ? "timeout" : "stopped");
  return judgement;
}

// Workers were ended, nobody asked for it, and no cause is known.
bool EndedUnasked(const Evidence& evidence) {
  return std::any_of(evidence.endings.begin(), evidence.endings.end(),
                     [](const v1::WorkerEnded& ended) { return ended.expected(); });
}

void SetFault(const Evidence::Fault& fault, Judgement& judgement) {
  judgement.verdict.set_exit_code(fault.exit_code);
  judgement.verdict.set_sentence(fault.sentence);
  judgement.verdict.set_failure_class(fault.failure_class);
}

void Sum(const Case& whole, Judgement& judgement) {
  const std::vector<Cause>& causes = judgement.causes;
  const Cause& first = causes.front();
  v1::Verdict& verdict = judgement.verdict;
  verdict.set_exit_code(first.exit_code);
  verdict.set_origin(first.worker_exit_code != 0 ? "worker" : "muster");
  verdict.set_failure_class(first.failure_class);
  verdict.set_rank(first.rank);
  verdict.set_host(first.host);
  verdict.set_program(first.program);
  verdict.set_signal(first.signal);
  verdict.set_worker_exit_code(first.worker_exit_code);
  verdict.set_program_error(first.program_error);
  verdict.set_ended_with_it(whole.EndedWith(causes));
  std::string sentence;
  for (size_t i = 0; i < std::min(causes.size(), kCausesInSentence); ++i) {
    absl::StrAppend(&sentence, i == 0 ? "" : "; ", causes[i].sentence);
  }
  if (causes.size() > kCausesInSentence) absl::StrAppend(&sentence, "; and ", causes.size() - kCausesInSentence, " more");
  if (const int others = verdict.ended_with_it(); others > 0) {
    absl::StrAppend(&sentence, "; ", others, first.rank < 0 ? "" : " other", others == 1 ? " rank" : " ranks",
                    " ended because of it");
  }
  verdict.set_sentence(sentence);
}

}  // namespace

bool IsFailure(const v1::WorkerEnded& ended) {
  return !ended.expected() && !(ended.ending().kind() == v1::Ending::EXITED && ended.ending().code() == 0);
}

bool IsFailure(const v1::PeerBlamed& blame) { return !blame.of_some_ranks() && NamesACause(blame); }

bool IsCurable(const Evidence& evidence) {
  if (evidence.stop || (evidence.fault && !evidence.fault->curable)) return false;
  return std::none_of(evidence.spawn_failures.begin(), evidence.spawn_failures.end(), [](const auto& failure) {
    const v1::Ending& ending = failure.ending;
    if (ending.kind() != v1::Ending::SPAWN_FAILED) return ending.kind() != v1::Ending::TIMED_OUT;
    // Of what comes before the exec (a folder, a limit, a pipe) only the machine's want of something may pass.
    return ending.code() != EAGAIN && ending.code() != ENOMEM && ending.code() != EMFILE && ending.code() != ENFILE;
  });
}

Judgement Judge(const Evidence& evidence) {
  Judgement judgement;
  judgement.verdict.set_rank(-1);
  judgement.verdict.set_origin("muster");
  Case whole(evidence);
  if (evidence.stop) {
    judgement = Stopped(evidence);
    judgement.verdict.set_origin("muster");
  } else if (judgement.causes = whole.Causes(); !judgement.causes.empty()) {
    Sum(whole, judgement);
  } else if (evidence.fault) {
    SetFault(*evidence.fault, judgement);
  } else if (EndedUnasked(evidence)) {
    SetFault({.exit_code = kExitInternal,
              .failure_class = "stopped",
              .sentence = "the workers were ended while no coordinator was there to ask for it"},
             judgement);
  }
  judgement.verdict.set_committed_step(evidence.committed_step);
  return judgement;
}

}  // namespace muster

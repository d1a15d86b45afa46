#include "runtime/session/agent_session.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/muster/v1/control_wake.h"
#include "runtime/backend/mpi/mpi.h"
#include "runtime/backend/mpi/mpi_library.h"
#include "runtime/backend/native/native.h"
#include "runtime/base/log.h"
#include "runtime/base/sealed_memory.h"
#include "runtime/base/status.h"
#include "runtime/session/nccl_world.h"
#include "runtime/session/options.h"
#include "runtime/session/process_seat.h"

namespace muster {
namespace {

SessionTable MakeTable(absl::Duration join_timeout) {
  session::Options options;
  options.limits = session::Options::DefaultLimits(join_timeout);
  return SessionTable(options);
}

}  // namespace

AgentSession::Parts::~Parts() {
  // Started operations finish first, while the line still brings news of an end that would let them fail.
  world.reset();
  link.reset();
  line.reset();
  if (control != nullptr) ::munmap(control, static_cast<size_t>(control_bytes));
}

AgentSession::AgentSession(const SessionOptions& options)
    : owner_(::getpid()),
      options_(options),
      join_deadline_(absl::Now() + options.join_timeout),
      table_(MakeTable(options.join_timeout)) {
  inbox_.Open(0);  // others may be faster and offer windows at once
}

absl::StatusOr<std::unique_ptr<Session>> AgentSession::Create(const SessionOptions& options) {
  std::unique_ptr<AgentSession> session(new AgentSession(options));
  AgentSession* const borrowed = session.get();
  MUSTER_RETURN_IF_ERROR(ProcessSeat::Take([borrowed, mpi = options.backend == kMpiBackend] {
    if (mpi && borrowed->parts_->world != nullptr)
      borrowed->parts_->world.reset();  // a process that ends without ending MPI is at fault
    borrowed->Step(session::LeaveRequested{});
  }));
  session->has_seat_ = true;
  MUSTER_RETURN_IF_ERROR(session->Join());
  MUSTER_RETURN_IF_ERROR(session->AwaitMembership());
  MUSTER_RETURN_IF_ERROR(session->MakeWorld());
  return session;
}

AgentSession::~AgentSession() {
  if (::getpid() != owner_) {                           // a forked child
    [[maybe_unused]] static Parts* volatile abandoned;  // reachable: no leak to those who look for leaks
    abandoned = parts_.release();
    return;
  }
  if (has_seat_) ProcessSeat::GiveBack();  // from here on exit has nothing to do
  parts_->world.reset();
  Step(session::LeaveRequested{});
}

absl::Status AgentSession::Join() {
  MUSTER_ASSIGN_OR_RETURN(const std::string job_id, JobIdBytes(options_.job_id));
  MUSTER_ASSIGN_OR_RETURN(parts_->life, LifeLine::Create(static_cast<uint32_t>(options_.slot)));
  auto line = AgentLine::Connect(options_.socket, job_id, join_deadline_);
  if (!line.ok()) {
    Step(session::ConnectFailed{line.status()});
    return absl::OkStatus();
  }
  parts_->line = *std::move(line);
  ProcessSeat::CloseInChildren(parts_->line->descriptors());
  MUSTER_RETURN_IF_ERROR(parts_->line->Listen(LineEvents()));
  Step(session::Connected{});
  return absl::OkStatus();
}

AgentLine::Events AgentSession::LineEvents() {
  AgentLine::Events events;
  events.begun = [this](Membership membership) {
    MutexLock lock(mutex_);
    if (table_.state() != session::State::kHelloSent) return;
    const session::GenerationBegun begun{membership.generation, membership.rank, membership.world_size};
    membership_ = std::move(membership);
    StepLocked(begun);
  };
  events.refused = [this](const absl::Status& reason) { Step(session::Refused{std::string(reason.message()), reason.code()}); };
  events.window_shared = [this](uint64_t communicator, uint32_t window, uint32_t local_rank, uint64_t, UniqueFd memory) {
    inbox_.Put(communicator, window, local_rank, std::move(memory));
  };
  events.over = [this](uint64_t generation, std::string message) {
    Step(session::GenerationOver{generation, std::move(message)});
  };
  events.closed = [this](const absl::Status&) { Step(session::SocketClosed{}); };
  return events;
}

absl::Status AgentSession::AwaitMembership() {
  MutexLock lock(mutex_);
  while (table_.state() == session::State::kHelloSent) {
    const auto next = std::min_element(timers_.begin(), timers_.end());
    const absl::Duration left = *next - absl::Now();
    if (left <= absl::ZeroDuration()) {
      *next = absl::InfiniteFuture();
      StepLocked(session::TimerFired{static_cast<session::Timer>(next - timers_.begin())});
    } else {
      changed_.WaitFor(mutex_, left);
    }
  }
  return join_failure_;
}

absl::Status AgentSession::MakeWorld() {
  checkpoint_ = {membership_.checkpoint_path, membership_.checkpoint_every_steps, membership_.checkpoint_keep};
  if (options_.backend == kMpiBackend) return MakeMpiWorld();
  MUSTER_RETURN_IF_ERROR(MakeNativeWorld());
  return options_.backend == kNativeBackend ? absl::OkStatus() : MakeNcclWorldOrLeaveIt();
}

absl::Status AgentSession::MakeNcclWorldOrLeaveIt() {
  NcclWorldOptions nccl;
  nccl.nccl_library = options_.nccl_library;
  nccl.cuda_library = options_.cuda_library;
  nccl.nccl_host_id = options_.nccl_host_id;
  nccl.local_rank = local_rank();
  nccl.host = membership_.host;
  nccl.deadline = join_deadline_;
  nccl.interrupted = [this](Communicator& control) {
    absl::Status over = WhyNativeIsOver(control);
    if (over.ok()) return over;
    MutexLock lock(mutex_);
    return break_.ok() ? over : absl::Status(break_.code(), break_.message());
  };
  nccl.failed = BlameThroughNative;
  std::unique_ptr<Communicator>& world = parts_->world;
  if (options_.backend == kNcclBackend) {
    MUSTER_ASSIGN_OR_RETURN(world, MakeNcclWorld(&world, std::move(nccl)));
  } else {
    MUSTER_ASSIGN_OR_RETURN(world, ChooseWorld(std::move(world), /*one_machine=*/membership_.nodes == 1, std::move(nccl)));
  }
  return absl::OkStatus();
}

absl::Status AgentSession::MakeMpiWorld() {
  MpiOptions mpi;
  mpi.generation = generation();
  mpi.interrupted = [this] { return WhyOver(); };
  mpi.failed = [this](const Failure& failure) {
    ReportBlame(failure.rank, failure.reason, /*op_seq=*/0, std::string(failure.status.message()));
  };
  MUSTER_ASSIGN_OR_RETURN(mpi.api, OpenMpiLibrary(options_.mpi_library));
  MUSTER_ASSIGN_OR_RETURN(parts_->world, CreateMpiCommunicator(std::move(mpi)));
  const Communicator& world = *parts_->world;
  if (world.rank() == rank() && world.world_size() == world_size()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("MPI says rank ", world.rank(), " of ", world.world_size(),
                                                    ", muster says rank ", rank(), " of ", world_size(),
                                                    ": this program's MPI library is not served by muster; see that "
                                                    "OMPI_MCA_schizo and the PMIX_ variables are as `muster run` "
                                                    "sets them, and that muster was built with PMIx (package libpmix-dev)"));
}

absl::Status AgentSession::WhyOver() {
  const uint64_t word = parts_->control->abort_word.load();
  if (word == v1::kNoAbort) return absl::OkStatus();
  BlameFor(word);
  MutexLock lock(mutex_);
  return break_.ok() ? StatusOfAbort(word, "during a collective") : break_;
}

absl::Status AgentSession::MakeNativeWorld() {
  AgentLinkParts parts;
  parts.line = parts_->line.get();
  parts.inbox = &inbox_;
  parts.meshes = &parts_->meshes;
  parts.control = parts_->control;
  parts.membership = &membership_;
  MUSTER_ASSIGN_OR_RETURN(parts.job_id, JobIdBytes(options_.job_id));
  parts.blame = [this](session::CollectiveFailed failed) { Step(std::move(failed)); };
  parts_->link = std::make_unique<AgentLink>(std::move(parts));
  NativeOptions native;
  native.rank = rank();
  native.world_size = world_size();
  native.local_rank = local_rank();
  native.generation = generation();
  native.host = membership_.host;
  native.control = parts_->control;
  native.link = parts_->link.get();
  if (membership_.nodes > 1) {
    for (uint32_t i = 0; i < membership_.world_size; ++i) {
      native.node_of_rank.push_back(static_cast<int>(v1::PeerEntryOf(parts_->control, i).node));
    }
    MUSTER_ASSIGN_OR_RETURN(native.mesh, ConnectMesh(native.node_of_rank));
  }
  auto made = CreateNativeCommunicator(std::move(native));
  if (!made.ok()) parts_->link->MeshEnds();
  MUSTER_ASSIGN_OR_RETURN(parts_->world, std::move(made));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Mesh>> AgentSession::ConnectMesh(const std::vector<int>& node_of_rank) {
  std::vector<NodeLink::MeshPlace> peers;
  for (const int peer : MeshPeers(node_of_rank, rank())) peers.push_back({peer, 0});
  const auto aborted = [this] { return parts_->control->abort_word.load() != v1::kNoAbort; };
  auto connected =
      parts_->link->Connect(std::move(membership_.listener), peers, join_deadline_, [&] { return aborted() || !IsMember(); });
  if (connected.ok()) return connected;
  if (!absl::IsAborted(connected.status())) {
    const auto reason = absl::IsDeadlineExceeded(connected.status()) ? v1::AbortReason::kDeadline : v1::AbortReason::kPeerLost;
    const uint32_t blamed = RankBlamedFor(connected.status());
    v1::RaiseAbort(parts_->control, v1::PackAbort(reason, blamed, 0));  // local ranks need not wait for this one
    ReportBlame(blamed, reason, /*op_seq=*/0, std::string(connected.status().message()));
    return absl::Status(connected.status().code(), connected.status().message());
  }
  MutexLock lock(mutex_);
  if (!break_.ok()) return break_;
  return aborted() ? StatusOfAbort(parts_->control->abort_word.load(), "while ranks on other nodes were being connected")
                   : connected.status();
}

bool AgentSession::IsMember() {
  MutexLock lock(mutex_);
  return table_.state() == session::State::kMember;
}

void AgentSession::ReportStep(int64_t committed_step, int64_t checkpoint_step) {
  Step(session::StepCommitted{committed_step, checkpoint_step});
}

// --- The table and what it asks for ---

void AgentSession::Step(const session::Event& event) {
  MutexLock lock(mutex_);
  StepLocked(event);
}

void AgentSession::StepLocked(const session::Event& event) {
  raised_.push_back(event);
  while (!raised_.empty()) {
    const session::Event next = std::move(raised_.front());
    raised_.erase(raised_.begin());
    for (const session::Action& action : table_.Step(next)) {
      // Not std::visit: its lambda would hide from the analysis that the lock is held.
      if (const auto* hello = std::get_if<session::SendHello>(&action)) Do(*hello);
      if (const auto* enter = std::get_if<session::EnterGeneration>(&action)) Do(*enter);
      if (const auto* broken = std::get_if<session::BreakCommunicators>(&action)) Do(*broken);
      if (const auto* blame = std::get_if<session::SendBlame>(&action)) Do(*blame);
      if (const auto* step = std::get_if<session::SendStep>(&action)) Do(*step);
      if (const auto* leave = std::get_if<session::SendLeave>(&action)) Do(*leave);
      if (const auto* left = std::get_if<session::MarkLeft>(&action)) Do(*left);
      if (const auto* close = std::get_if<session::CloseSocket>(&action)) Do(*close);
      if (const auto* failed = std::get_if<session::FailJoin>(&action)) Do(*failed);
      if (const auto* set = std::get_if<session::SetTimer>(&action)) Do(*set);
      if (const auto* cancel = std::get_if<session::CancelTimer>(&action)) Do(*cancel);
      if (const auto* warn = std::get_if<session::Warn>(&action)) Do(*warn);
    }
  }
  changed_.SignalAll();
}

void AgentSession::Do(const session::SendHello&) {
  // If it cannot be sent the line is closed or refused, and its events say so.
  parts_->line->SayHello(static_cast<uint32_t>(options_.slot), parts_->life->page_fd(), MUSTER_VERSION).IgnoreError();
  parts_->life->ClosePageFd();
}

void AgentSession::Do(const session::EnterGeneration&) {
  const absl::Status mapped = MapControl();
  if (!mapped.ok()) join_failure_ = mapped;
}

absl::Status AgentSession::MapControl() {
  const UniqueFd control = std::move(membership_.control);
  struct stat status = {};
  if (::fstat(control.get(), &status) != 0 || status.st_size < static_cast<int64_t>(sizeof(v1::ControlHeader))) {
    return absl::InternalError("the agent's control memory is too small");
  }
  MUSTER_RETURN_IF_ERROR(CheckSealedMemory(control.get(), status.st_size));
  MUSTER_ASSIGN_OR_RETURN(void* memory, MapSharedMemory(control.get(), status.st_size));
  parts_->control = static_cast<v1::ControlHeader*>(memory);
  parts_->control_bytes = status.st_size;
  if (parts_->control->magic != v1::kControlMagic || parts_->control->version != v1::kControlVersion ||
      parts_->control->total_bytes != static_cast<uint64_t>(status.st_size) ||
      parts_->control->local_size != membership_.local_world_size || parts_->control->world_size != membership_.world_size) {
    return absl::FailedPreconditionError(absl::StrCat("the agent's control memory has version ", parts_->control->version,
                                                      ", libmuster ", MUSTER_VERSION, " knows ", v1::kControlVersion,
                                                      "; build the program against the installed muster"));
  }
  const uint64_t peers_end = parts_->control->peers_offset + uint64_t{membership_.world_size} * sizeof(v1::PeerEntry);
  if (membership_.nodes > 1 && (parts_->control->peers_offset == 0 || peers_end > parts_->control->total_bytes)) {
    return absl::InternalError("the agent's control memory lacks the table of the other nodes' ranks");
  }
  return absl::OkStatus();
}

void AgentSession::Do(const session::BreakCommunicators& action) {
  if (break_.ok()) break_ = action.status;
  inbox_.Fail(action.status);
  if (parts_->control == nullptr) return;
  const auto reason = absl::IsUnavailable(action.status) ? v1::AbortReason::kAgentLost : v1::AbortReason::kGenerationOver;
  v1::RaiseAbort(parts_->control, v1::PackAbort(reason, v1::kNoRank, 0));
}

void AgentSession::Do(const session::SendBlame& action) {
  parts_->line->ReportBlame(action.blamed_rank, static_cast<v1::AbortReason>(action.reason), action.op_seq, action.message,
                            action.of_some_ranks);
}

void AgentSession::Do(const session::SendStep& action) { parts_->line->ReportStep(action.step, action.checkpoint_step); }

void AgentSession::Do(const session::SendLeave&) {
  // The members' word first: once the agent has the frame, this rank is no loss to it any more.
  parts_->meshes.LeaveAll(membership_.rank);
  if (parts_->control != nullptr) v1::MarkLeft(parts_->control, membership_.local_rank);
  parts_->line->SayLeave();
  raised_.push_back(session::LeaveSent{});
}

void AgentSession::Do(const session::MarkLeft&) {
  if (parts_->control != nullptr) v1::MarkLeft(parts_->control, membership_.local_rank);
  if (parts_->life != nullptr) parts_->life->Leave();
}

void AgentSession::Do(const session::CloseSocket&) {
  if (parts_->line != nullptr) parts_->line->Stop();
}

void AgentSession::Do(const session::FailJoin& action) { join_failure_ = action.status; }

void AgentSession::Do(const session::SetTimer& action) {
  timers_[static_cast<size_t>(action.timer)] = absl::Now() + action.after;
}

void AgentSession::Do(const session::CancelTimer& action) {
  timers_[static_cast<size_t>(action.timer)] = absl::InfiniteFuture();
}

void AgentSession::Do(const session::Warn& action) {
  Log(LogLevel::kWarning, absl::StrCat("slot ", options_.slot, ": ", action.line));
}

void AgentSession::BlameFor(uint64_t abort_word) {
  if (abort_word == v1::kNoAbort) return;
  ReportBlame(v1::AbortRankOf(abort_word), v1::AbortReasonOf(abort_word), /*op_seq=*/0, "");
}

void AgentSession::ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& message) {
  Step(session::CollectiveFailed{rank, static_cast<uint32_t>(reason), op_seq, message});
}

}  // namespace muster

#include "launcher/agent/worker_port.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/agent/worker_port_impl.h"
#include "proto/muster/v1/operation_text.h"
#include "runtime/base/log.h"
#include "runtime/base/sealed_memory.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr uint32_t kProtocolVersion = 1;
// CreateWindow is collective, so a rank is never ahead by more than one window of a peer that has joined.
constexpr size_t kUndeliveredMax = 16;
constexpr size_t kTextBytesMax = 255;             // worker.options
constexpr size_t kCheckpointPathBytesMax = 1023;  // worker.options

}  // namespace

WorkerPortImpl::WorkerPortImpl(EventLoop* loop, Events events)
    : loop_(loop), events_(std::move(events)), watcher_(FutexWaitingHere(), [this](uint64_t life, LifeEnd end) {
        if (end == LifeEnd::kDied) targets_.AbortFor(life, 0);  // before anything else: peers are waiting
        loop_->Post([this, alive = alive_, life, end] {
          if (*alive) OnLifeEnded(life, end);
        });
      }) {}

WorkerPortImpl::~WorkerPortImpl() {
  *alive_ = false;
  if (stale_messages_ > 0) Log(LogLevel::kInfo, absl::StrCat("dropped ", stale_messages_, " messages of other generations"));
}

absl::Status WorkerPortImpl::Listen() {
  WorkerConnections::Handlers handlers;
  handlers.frame = [this](Id id, Frame frame) { return OnFrame(id, std::move(frame)); };
  handlers.closed = [this](Id id) { OnClosed(id); };
  handlers.refused = [this](pid_t pid, absl::string_view reason) {
    OnRefused({absl::StrCat("a connection to the agent: ", reason), absl::StrCat("process ", pid), 1});
  };
  MUSTER_ASSIGN_OR_RETURN(connections_, WorkerConnections::Listen(loop_, std::move(handlers)));
  return absl::OkStatus();
}

void WorkerPortImpl::OnRefused(RefusalCount refused) const {
  if (events_.refused) events_.refused(std::move(refused));
}

const WorkerSlot* WorkerPortImpl::Find(uint32_t slot) const {
  const auto found = slots_.find(slot);
  return found == slots_.end() ? nullptr : &found->second;
}

bool WorkerPortImpl::HasJoined(uint32_t slot) const {
  const WorkerSlot* entry = Find(slot);
  return entry != nullptr && entry->state != WorkerSlotState::kExpected && entry->state != WorkerSlotState::kEnded;
}

bool WorkerPortImpl::HasLeft(uint32_t slot) const {
  const WorkerSlot* entry = Find(slot);
  return entry != nullptr && entry->state == WorkerSlotState::kLeft;
}

pid_t WorkerPortImpl::SessionProcessOf(uint32_t slot) const {
  const WorkerSlot* entry = Find(slot);
  return entry == nullptr ? 0 : entry->session;
}

std::optional<uint32_t> WorkerPortImpl::LocalRankOf(uint32_t slot) const {
  if (!generation_.has_value()) return std::nullopt;
  for (uint32_t i = 0; i < generation_->places.size(); ++i) {
    if (generation_->places[i].slot == slot) return i;
  }
  return std::nullopt;
}

LastOperation WorkerPortImpl::LastOperationOf(uint32_t slot) const {
  const std::optional<uint32_t> local_rank = LocalRankOf(slot);
  if (!local_rank.has_value() || control_ == nullptr) return {};
  const v1::SplitFlightEntry last = control_->LastOperation(*local_rank);
  const v1::FlightEntry& entry = last.entry;
  if (entry.op_seq == 0) return {};
  std::string where;
  if (last.communicator != 0) {
    where = absl::StrFormat(" in communicator %06x of %d ranks", last.communicator & 0xffffff, last.world_size);
  }
  return {entry.op_seq,
          Describe(entry.what, v1::Detail::kFull) + where,
          entry.end_ns != 0,
          Describe(entry.what, v1::Detail::kBrief) + where,
          entry.end_ns != 0 ? entry.end_ns : entry.begin_ns,
          last.communicator};
}

v1::AgentToWorker WorkerPortImpl::NewMessage() const {
  v1::AgentToWorker message;
  if (generation_.has_value()) {
    message.set_job_id(generation_->job_id);
    message.set_generation(generation_->generation);
  }
  return message;
}

// --- Joining ---

void WorkerPortImpl::ExpectWorker(uint32_t number, uint32_t spawn, pid_t pid, UniqueFd listener) {
  if (over_.has_value()) ForgetWorkers();
  WorkerSlot& slot = slots_[number];
  Forget(slot, number);
  slot.spawn = spawn;
  slot.worker = pid;
  slot.listener = std::move(listener);
  targets_.Expect(number, spawn);
  std::map<Id, EarlyHello> hellos;
  for (auto next = early_hellos_.begin(); next != early_hellos_.end();) {
    const auto early = next++;
    if (early->second.message.hello().slot() == number) hellos.insert(early_hellos_.extract(early));
  }
  for (auto& [id, hello] : hellos) {
    const absl::Status joined = Join(id, hello.message, hello.frame);
    if (!joined.ok()) connections_->Refuse(id, joined);
  }
}

// As if nobody had been expected in the slot.
void WorkerPortImpl::Forget(WorkerSlot& slot, uint32_t number) {
  if (slot.connection.has_value()) {
    slot_of_.erase(*slot.connection);
    connections_->Close(*slot.connection);
  }
  watcher_.Forget(LifeOf(number, slot.spawn));
  slot = WorkerSlot();
}

void WorkerPortImpl::ForgetWorkers() {
  targets_.Clear();
  for (auto& [number, slot] : slots_) Forget(slot, number);
  slots_.clear();
  generation_.reset();
  control_.reset();
  over_.reset();
}

absl::Status WorkerPortImpl::OnFrame(Id id, Frame frame) {
  v1::WorkerMessage message;
  if (!message.ParseFromString(frame.bytes)) return absl::InvalidArgumentError("a frame that is no message of a worker");
  const auto known = slot_of_.find(id);
  if (known == slot_of_.end()) return OnHello(id, std::move(message), std::move(frame));
  if (!generation_.has_value() || message.generation() != generation_->generation || message.job_id() != generation_->job_id) {
    ++stale_messages_;
    return absl::OkStatus();
  }
  const uint32_t slot = known->second;
  absl::Status handled = OnMemberMessage(slot, message, std::move(frame));
  if (!handled.ok()) OnClosed(id);
  return handled;
}

void WorkerPortImpl::OnClosed(Id id) {
  early_hellos_.erase(id);
  // No sign of death: a worker may have closed it, and a forked child may hold it open. The life page tells.
  const auto known = slot_of_.find(id);
  if (known == slot_of_.end()) return;
  slots_[known->second].connection.reset();
  slot_of_.erase(known);
}

absl::Status WorkerPortImpl::CheckMayJoin(Id id, const v1::WorkerHello& hello) const {
  if (hello.protocol_version() != kProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat("libmuster ", hello.muster_version(), " speaks protocol ",
                                                      hello.protocol_version(), ", this muster speaks ", kProtocolVersion,
                                                      "; build the program anew"));
  }
  if (over_.has_value()) return absl::UnavailableError(*over_);
  const WorkerSlot* slot = Find(hello.slot());
  const pid_t pid = connections_->PeerOf(id).pid;
  if (slot->state == WorkerSlotState::kEnded) {
    return absl::UnavailableError(absl::StrCat("the worker of slot ", hello.slot(), " has ended already"));
  }
  if (!DescendsFrom(pid, slot->worker)) {
    return absl::PermissionDeniedError(
        absl::StrCat("process ", pid, " does not descend from the worker of slot ", hello.slot(), ", process ", slot->worker));
  }
  if (slot->state == WorkerSlotState::kExpected) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat("slot ", hello.slot(), " has had its session, of process ", slot->session,
                                               "; a worker opens one session, in one process"));
}

absl::Status WorkerPortImpl::OnHello(Id id, v1::WorkerMessage message, Frame frame) {
  if (!message.has_hello() || frame.fds.size() != 1 || early_hellos_.contains(id)) {
    return absl::InvalidArgumentError("the first frame is no Hello with a life page");
  }
  if (!MayComeToBeExpected(id, message.hello().slot())) return Join(id, message, frame);
  early_hellos_.emplace(id, EarlyHello{std::move(message), std::move(frame)});
  return absl::OkStatus();
}

// Nobody has been announced for the slot, or somebody who is gone: the Hello waits for ExpectWorker, or for the connection's
// end.
bool WorkerPortImpl::MayComeToBeExpected(Id id, uint32_t slot) const {
  if (over_.has_value()) return false;
  const WorkerSlot* entry = Find(slot);
  if (entry == nullptr || entry->worker == 0) return true;
  const bool gone = entry->state != WorkerSlotState::kExpected && entry->state != WorkerSlotState::kJoined;
  return gone && !DescendsFrom(connections_->PeerOf(id).pid, entry->worker);
}

absl::Status WorkerPortImpl::Join(Id id, const v1::WorkerMessage& message, const Frame& frame) {
  MUSTER_RETURN_IF_ERROR(CheckMayJoin(id, message.hello()));
  const uint32_t number = message.hello().slot();
  MUSTER_ASSIGN_OR_RETURN(std::shared_ptr<MappedLifePage> life, MappedLifePage::Map(frame.fds[0].get(), number));
  if (generation_.has_value() && message.job_id() != generation_->job_id) {
    return absl::InvalidArgumentError("MUSTER_JOB_ID names another job");
  }
  if (const absl::Status made = generation_.has_value() ? MakeControl() : absl::OkStatus(); !made.ok()) {
    Log(LogLevel::kError, absl::StrCat("generation ", generation_->generation, " cannot begin here: ", made.message()));
    EndGeneration(std::string(made.message()));
    return absl::UnavailableError(made.message());
  }
  WorkerSlot& slot = slots_[number];
  MUSTER_RETURN_IF_ERROR(watcher_.Watch(LifeOf(number, slot.spawn), life));
  connections_->Settle(id);
  slot.state = WorkerSlotState::kJoined;
  slot.session = connections_->PeerOf(id).pid;
  slot.job_id = message.job_id();
  slot.life = std::move(life);
  slot.connection = id;
  slot_of_[id] = number;
  const std::optional<uint32_t> local_rank = LocalRankOf(number);
  if (local_rank.has_value()) {
    AdviseWaiting();
    MakeMember(*local_rank);
  }
  if (events_.joined) events_.joined(number, slot.spawn);
  return absl::OkStatus();
}

// --- Generations ---

absl::Status WorkerPortImpl::BeginGeneration(const LocalGeneration& generation) {
  if (generation.checkpoint.path().size() > kCheckpointPathBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the checkpoint path has ", generation.checkpoint.path().size(),
                                                   " bytes, more than ", kCheckpointPathBytesMax));
  }
  if (control_ != nullptr) control_->Abort(v1::PackAbort(v1::AbortReason::kGenerationOver, v1::kNoRank, 0));
  control_.reset();
  generation_ = generation;
  over_.reset();
  targets_.Set(nullptr, generation);
  bool any_joined = false;
  for (auto& [number, slot] : slots_) {
    slot.member = false;
    slot.undelivered.clear();
    any_joined = any_joined || slot.state == WorkerSlotState::kJoined;
  }
  if (!any_joined) return absl::OkStatus();
  MUSTER_RETURN_IF_ERROR(MakeControl());
  for (uint32_t i = 0; i < generation.places.size(); ++i) MakeMember(i);
  return absl::OkStatus();
}

// For the first worker that joins: programs without libmuster never need it, and its 30 MB for 64 ranks take 6 ms.
absl::Status WorkerPortImpl::MakeControl() {
  if (control_ != nullptr) return absl::OkStatus();
  const LocalGeneration& generation = *generation_;
  MUSTER_ASSIGN_OR_RETURN(control_, ControlSegment::Create(generation.generation, generation.job_id, generation.world_size,
                                                           static_cast<uint32_t>(generation.places.size()), generation.peers));
  window_memory_ = FindWindowMemory();
  quota_millicores_ = QuotaMillicores();
  targets_.Set(control_, generation);
  AdviseWaiting();
  for (const auto& [number, slot] : slots_) AccountForEnded(number);
  return absl::OkStatus();
}

// Answers a Hello, if there is one.
void WorkerPortImpl::MakeMember(uint32_t local_rank) {
  const LocalGeneration::Place& place = generation_->places[local_rank];
  WorkerSlot& slot = slots_[place.slot];
  if (slot.state != WorkerSlotState::kJoined || slot.member || !slot.connection.has_value()) return;
  if (slot.job_id != generation_->job_id) {
    const Id id = *slot.connection;
    OnClosed(id);
    return connections_->Refuse(id, absl::InvalidArgumentError("MUSTER_JOB_ID names another job"));
  }
  if (generation_->nodes > 1 && !slot.listener) {
    const Id id = *slot.connection;
    OnClosed(id);
    return connections_->Refuse(id, absl::InternalError("the agent has no listening socket for this worker"));
  }
  v1::AgentToWorker message = NewMessage();
  v1::Generation& begin = *message.mutable_begin();
  begin.set_rank(place.rank);
  begin.set_world_size(generation_->world_size);
  begin.set_local_rank(local_rank);
  begin.set_local_world_size(static_cast<uint32_t>(generation_->places.size()));
  begin.set_restarts(generation_->restarts);
  begin.set_key(generation_->key);
  begin.set_memory_limit_bytes(window_memory_.bytes);
  begin.set_memory_limit_source(window_memory_.source.substr(0, kTextBytesMax));
  begin.set_host(generation_->host.substr(0, kTextBytesMax));
  begin.set_spawn(slot.spawn);
  begin.set_nodes(generation_->nodes);
  begin.set_checkpoint_path(generation_->checkpoint.path());
  begin.set_checkpoint_every_steps(generation_->checkpoint.every_steps());
  begin.set_checkpoint_keep(generation_->checkpoint.keep());
  std::vector<int> descriptors = {control_->fd()};
  if (generation_->nodes > 1) descriptors.push_back(slot.listener.get());
  slot.member = true;
  connections_->Send(*slot.connection, message, descriptors);
  slot.listener.Reset();  // the message has its own
  for (const OfferedWindow& window : std::exchange(slot.undelivered, {})) Deliver(slot, window);
}

// A worker may have changed its mask before it joined.
void WorkerPortImpl::AdviseWaiting() {
  std::vector<v1::ProcessorMask> masks;
  for (const LocalGeneration::Place& place : generation_->places) {
    const WorkerSlot* slot = Find(place.slot);
    const pid_t pid = slot == nullptr ? 0 : slot->session != 0 ? slot->session : slot->worker;
    masks.push_back(pid > 0 ? ProcessorsOf(pid) : ProcessorsOf(0));
  }
  control_->SetWaiting(v1::AdviseWaiting(masks, quota_millicores_));
}

void WorkerPortImpl::EndGeneration(const std::string& reason) {
  over_ = reason;
  if (control_ != nullptr) control_->Abort(v1::PackAbort(v1::AbortReason::kGenerationOver, v1::kNoRank, 0));
  v1::AgentToWorker message = NewMessage();
  message.mutable_over()->set_message(reason.substr(0, kTextBytesMax));
  const std::map<Id, uint32_t> connected = slot_of_;  // a send may end a connection
  for (const auto& [id, slot] : connected) connections_->Send(id, message);
}

// --- Members' messages ---

absl::Status WorkerPortImpl::OnMemberMessage(uint32_t slot, const v1::WorkerMessage& message, Frame frame) {
  switch (message.kind_case()) {
    case v1::WorkerMessage::kWindowOffer:
      return ShareWindow(slot, message.window_offer(), std::move(frame));
    case v1::WorkerMessage::kStep:
      if (events_.step_committed) {
        events_.step_committed(slot, Find(slot)->spawn, message.step().committed_step(), message.step().checkpoint_step());
      }
      return absl::OkStatus();
    case v1::WorkerMessage::kBlame:
      OnBlame(slot, message.blame());
      return absl::OkStatus();
    case v1::WorkerMessage::kLeave:
      SetLeft(slot);
      return absl::OkStatus();
    case v1::WorkerMessage::kWindowRelease:
      return absl::OkStatus();  // members map windows themselves; the agent keeps none
    case v1::WorkerMessage::kHello:
      return absl::InvalidArgumentError("a second Hello on one connection");
    case v1::WorkerMessage::kRefusals:
      OnRefused({message.refusals().what(), message.refusals().from(), message.refusals().count()});
      return absl::OkStatus();
    case v1::WorkerMessage::KIND_NOT_SET:
      break;
  }
  return absl::OkStatus();  // of a newer libmuster
}

void WorkerPortImpl::OnBlame(uint32_t slot, const v1::Blame& blame) {
  const bool known = blame.reason() <= static_cast<uint32_t>(v1::AbortReason::kAgentLost);
  const uint32_t rank = blame.rank() < generation_->world_size ? blame.rank() : v1::kNoRank;
  if (known && events_.blamed) {
    events_.blamed(slot, Find(slot)->spawn, rank, static_cast<v1::AbortReason>(blame.reason()), blame.op_seq(),
                   blame.message().substr(0, 512), blame.of_some_ranks());
  }
}

absl::Status WorkerPortImpl::ShareWindow(uint32_t slot, const v1::WindowOffer& offer, Frame frame) {
  const std::optional<uint32_t> local_rank = LocalRankOf(slot);
  if (!local_rank.has_value() || frame.fds.size() != 1 || offer.bytes() == 0 || offer.bytes() > uint64_t{1} << 62 ||
      static_cast<size_t>(offer.members_size()) > generation_->places.size()) {
    return absl::InvalidArgumentError("an offer of a window that is none");
  }
  MUSTER_RETURN_IF_ERROR(CheckSealedMemory(frame.fds[0].get(), static_cast<int64_t>(offer.bytes())));
  const OfferedWindow window{offer.communicator(), offer.window(), *local_rank, offer.bytes(),
                             std::make_shared<UniqueFd>(std::move(frame.fds[0]))};
  const auto& members = offer.members();
  for (uint32_t i = 0; i < generation_->places.size(); ++i) {
    if (i == *local_rank || (!members.empty() && std::find(members.begin(), members.end(), i) == members.end())) continue;
    WorkerSlot& peer = slots_[generation_->places[i].slot];
    if (peer.member) {
      Deliver(peer, window);
    } else if (peer.undelivered.size() >= kUndeliveredMax * generation_->places.size()) {
      return absl::ResourceExhaustedError("too many windows for a rank that has not joined");
    } else {
      peer.undelivered.push_back(window);
    }
  }
  return absl::OkStatus();
}

void WorkerPortImpl::Deliver(const WorkerSlot& slot, const OfferedWindow& window) {
  if (!slot.connection.has_value()) return;
  v1::AgentToWorker message = NewMessage();
  v1::WindowShared& shared = *message.mutable_window_shared();
  shared.set_communicator(window.communicator);
  shared.set_window(window.window);
  shared.set_local_rank(window.local_rank);
  shared.set_bytes(window.bytes);
  connections_->Send(*slot.connection, message, {window.memory->get()});
}

// --- Ends ---

void WorkerPortImpl::OnLifeEnded(uint64_t life, LifeEnd end) {
  const uint32_t number = SlotOfLife(life);
  const WorkerSlot* slot = Find(number);
  if (slot == nullptr || slot->spawn != SpawnOfLife(life)) return;  // an earlier process of the slot
  if (end == LifeEnd::kLeft) {
    SetLeft(number);
  } else {
    SetLost(number, 0);
  }
}

void WorkerPortImpl::SetLeft(uint32_t number) {
  WorkerSlot& slot = slots_[number];
  if (slot.state != WorkerSlotState::kJoined) return;
  slot.state = WorkerSlotState::kLeft;
  slot.undelivered.clear();
  watcher_.Forget(LifeOf(number, slot.spawn));
  AccountForEnded(number);  // it may have left without ever mapping the control memory
  if (events_.left) events_.left(number, slot.spawn);
}

void WorkerPortImpl::SetLost(uint32_t number, uint32_t detail) {
  WorkerSlot& slot = slots_[number];
  if (slot.state != WorkerSlotState::kJoined) return;
  slot.state = WorkerSlotState::kLost;
  slot.undelivered.clear();
  watcher_.Forget(LifeOf(number, slot.spawn));
  targets_.AbortFor(LifeOf(number, slot.spawn), detail);
  if (events_.lost) events_.lost(number, slot.spawn);
}

void WorkerPortImpl::WorkerEnded(uint32_t number, uint32_t spawn, int wait_status) {
  const auto found = slots_.find(number);
  if (found == slots_.end() || found->second.spawn != spawn) return;
  WorkerSlot& slot = found->second;
  slot.listener.Reset();  // peers that dial it are refused instead of waiting
  if (slot.state == WorkerSlotState::kJoined && slot.life->left()) return SetLeft(number);
  if (slot.state == WorkerSlotState::kJoined) return SetLost(number, static_cast<uint32_t>(wait_status));
  if (slot.state != WorkerSlotState::kExpected) return;
  slot.state = WorkerSlotState::kEnded;
  slot.wait_status = wait_status;
  AccountForEnded(number);
}

// Tells the generation's members of a rank that can contribute nothing (more).
void WorkerPortImpl::AccountForEnded(uint32_t number) {
  const std::optional<uint32_t> local_rank = LocalRankOf(number);
  if (!local_rank.has_value() || control_ == nullptr) return;
  const WorkerSlot& slot = slots_[number];
  const bool well = slot.state == WorkerSlotState::kLeft || (slot.state == WorkerSlotState::kEnded && slot.wait_status == 0);
  if (well) control_->MarkLeft(*local_rank);
  if (!well && (slot.state == WorkerSlotState::kLost || slot.state == WorkerSlotState::kEnded)) {
    targets_.AbortFor(LifeOf(number, slot.spawn), static_cast<uint32_t>(slot.wait_status.value_or(0)));
  }
}

absl::StatusOr<std::unique_ptr<WorkerPort>> WorkerPort::Create(EventLoop* loop, Events events) {
  auto port = std::make_unique<WorkerPortImpl>(loop, std::move(events));
  MUSTER_RETURN_IF_ERROR(port->Listen());
  return std::unique_ptr<WorkerPort>(std::move(port));
}

}  // namespace muster

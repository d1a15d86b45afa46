#include "launcher/mpi/pmix_port.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<PmixPort>> PmixPort::Open(EventLoop* loop, NodeExchange* exchange, Options options,
                                                         MpiEvents events) {
  MUSTER_ASSIGN_OR_RETURN(LoopbackListener listener, ListenOnLoopback());
  std::unique_ptr<PmixPort> port(new PmixPort(loop, exchange, std::move(options), std::move(events)));
  port->listener_ = std::move(listener.socket);
  port->port_ = listener.port;
  return port;
}

PmixPort::~PmixPort() {
  *alive_ = false;
  if (listening_) loop_->Remove(listener_.get());
}

absl::Status PmixPort::Begin(const MpiWorld& world) {
  world_ = world;
  exchange_->OnQuestion([this, alive = alive_](uint32_t asker, uint32_t rank, const std::string&, NodeExchange::Reply reply) {
    if (!*alive) return;
    events_.awaited(ARankOf(asker));
    // No program of this node has come yet: what is asked for will be there when the server is.
    if (link_ == nullptr && !failed_) StartOrFail();
    if (link_ == nullptr) return reply(absl::UnavailableError("no PMIx server on this node"));
    const uint64_t id = ++next_question_;
    questions_[id] = std::move(reply);
    v1::PmixCommand command;
    command.mutable_asked()->set_id(id);
    command.mutable_asked()->set_rank(rank);
    Send(std::move(command));
  });
  MUSTER_RETURN_IF_ERROR(loop_->Add(listener_.get(), EPOLLIN, [this](uint32_t) { StartOrFail(); }));
  listening_ = true;
  return absl::OkStatus();
}

std::string PmixPort::ARankOf(uint32_t node) const {
  const auto found = std::find(world_.nodes.begin(), world_.nodes.end(), node);
  if (found == world_.nodes.end()) return absl::StrCat("a rank of node ", node);
  return absl::StrCat("a rank on host ", world_.hosts[static_cast<size_t>(found - world_.nodes.begin())]);
}

void PmixPort::StartOrFail() {
  if (const absl::Status started = StartServer(); !started.ok()) ServerGone(std::string(started.message()));
}

absl::Status PmixPort::StartServer() {
  if (std::exchange(listening_, false)) loop_->Remove(listener_.get());
  UniqueFd listener = std::move(listener_);
  if (::access(options_.program.c_str(), X_OK) != 0) {
    return absl::NotFoundError(
        absl::StrCat("it is not at ", options_.program, "; install the whole of muster, built where libpmix-dev is there"));
  }
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return ErrnoToStatus(errno, "a socket pair");
  UniqueFd ours(ends[0]), theirs(ends[1]);
  FrameLink::Callbacks callbacks;
  callbacks.message = [this](const std::string& bytes) { OnReport(bytes); };
  callbacks.closed = [](const absl::Status&) {};  // its end says why
  MUSTER_ASSIGN_OR_RETURN(link_, FrameLink::Create(loop_, std::move(ours), std::move(callbacks)));
  v1::PmixCommand command;
  v1::PmixWorld& world = *command.mutable_world();
  world.set_name_space(MpiNameSpace(world_.job_id, world_.generation));
  for (const std::string& host : world_.hosts) world.add_hosts(host);
  for (const MpiPlace& place : world_.places) {
    v1::PmixPlace& told = *world.add_places();
    told.set_node(place.node);
    told.set_local_rank(place.local_rank);
    told.set_application(place.application);
  }
  world.set_node(world_.node);
  world.mutable_application_workers()->Add(world_.application_workers.begin(), world_.application_workers.end());
  world.set_folder(options_.folder);
  Send(std::move(command));
  options_.start(std::move(theirs), std::move(listener));
  return absl::OkStatus();
}

void PmixPort::Send(v1::PmixCommand command) {
  if (link_ == nullptr) return;
  command.set_job_id(world_.job_id);
  command.set_generation(world_.generation);
  link_->Send(command.SerializeAsString());
}

void PmixPort::ReadNow() {
  if (link_ != nullptr) link_->ReadNow();
}

void PmixPort::ServerGone(const std::string& how) {
  link_.reset();
  for (auto& [id, reply] : std::exchange(questions_, {}))
    reply(absl::UnavailableError("the PMIx server of that node has ended"));
  if (std::exchange(failed_, true)) return;
  events_.failed(
      absl::StrCat("cannot be part of an MPI world: it needs muster-pmix, muster's PMIx server for Open MPI programs; ", how));
}

void PmixPort::OnReport(const std::string& bytes) {
  v1::PmixReport report;
  if (!report.ParseFromString(bytes) || report.job_id() != world_.job_id || report.generation() != world_.generation) {
    return events_.log(LogLevel::kWarning, "muster-pmix sent what is no message of this generation");
  }
  switch (report.kind_case()) {
    case v1::PmixReport::kJoined:
      return events_.joined(report.joined().rank());
    case v1::PmixReport::kLeft:
      return events_.left(report.left().rank());
    case v1::PmixReport::kAbort:
      return events_.aborted(report.abort().rank(), report.abort().code());
    case v1::PmixReport::kFence:
      return OnFence(std::move(*report.mutable_fence()));
    case v1::PmixReport::kAsked:
      return OnAsked(report.asked());
    case v1::PmixReport::kAnswer: {
      auto question = questions_.extract(report.answer().id());
      if (question.empty()) return;
      if (report.answer().failed())
        return question.mapped()(absl::UnavailableError("the PMIx server of that node does not have it"));
      return question.mapped()(std::move(*report.mutable_answer()->mutable_data()));
    }
    case v1::PmixReport::kNotice:
      return events_.log(report.notice().error() ? LogLevel::kError : LogLevel::kInfo, report.notice().text());
    default:
      return;
  }
}

void PmixPort::OnFence(v1::PmixFence fence) {
  std::vector<uint32_t> nodes;
  for (const uint32_t index : fence.nodes()) {
    if (index < world_.nodes.size()) nodes.push_back(world_.nodes[index]);
  }
  std::sort(nodes.begin(), nodes.end());
  exchange_->Gather(
      absl::StrCat(kPmixGathers, fence.name()), nodes, fence.rank(), std::move(*fence.mutable_data()),
      [this, alive = alive_, id = fence.id()](absl::StatusOr<NodeExchange::Parts> parts) {
        if (!*alive) return;
        v1::PmixCommand command;
        command.mutable_fenced()->set_id(id);
        command.mutable_fenced()->set_failed(!parts.ok());
        if (parts.ok()) {
          for (const auto& [node, data] : *parts) command.mutable_fenced()->mutable_data()->append(data);
        } else {
          events_.failed(absl::StrCat("cannot exchange addresses with the other nodes: ", parts.status().message()));
        }
        Send(std::move(command));
      });
}

void PmixPort::OnAsked(const v1::PmixAsked& asked) {
  exchange_->Ask(asked.rank(), "", [this, alive = alive_, id = asked.id()](absl::StatusOr<std::string> data) {
    if (!*alive) return;
    v1::PmixCommand command;
    command.mutable_answer()->set_id(id);
    command.mutable_answer()->set_failed(!data.ok());
    if (data.ok()) command.mutable_answer()->set_data(*std::move(data));
    Send(std::move(command));
  });
}

}  // namespace muster

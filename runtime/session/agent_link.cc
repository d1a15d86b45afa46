#include "runtime/session/agent_link.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"
#include "runtime/session/process_seat.h"

namespace muster {
namespace {

std::vector<uint32_t> AllSeats(const v1::ControlHeader* control) {
  std::vector<uint32_t> seats(control->local_size);
  std::iota(seats.begin(), seats.end(), 0u);
  return seats;
}

}  // namespace

void MeshList::Add(Mesh* mesh) {
  MutexLock lock(mutex_);
  meshes_.insert(mesh);
}

void MeshList::Remove(Mesh* mesh) {
  MutexLock lock(mutex_);
  meshes_.erase(mesh);
}

void MeshList::LeaveAll(uint32_t job_rank) {
  MutexLock lock(mutex_);
  for (Mesh* const mesh : meshes_) mesh->Abort({.reason = v1::AbortReason::kPeerLeft, .rank = job_rank, .text = ""});
}

AgentLink::AgentLink(AgentLinkParts parts)
    : AgentLink(parts, /*number=*/0, AllSeats(parts.control), static_cast<int>(parts.membership->local_rank)) {}

AgentLink::AgentLink(AgentLinkParts parts, uint64_t number, std::vector<uint32_t> seats, int local_rank)
    : parts_(std::move(parts)), number_(number), seats_(std::move(seats)), local_rank_(local_rank) {
  parts_.inbox->Open(number_);
}

AgentLink::~AgentLink() { parts_.inbox->Close(number_); }

absl::Status AgentLink::OfferWindow(uint32_t window, int fd, int64_t bytes) {
  if (number_ == 0) return parts_.line->OfferWindow(window, fd, bytes);
  return parts_.line->OfferWindow(window, fd, bytes, number_, seats_);
}

absl::StatusOr<std::vector<UniqueFd>> AgentLink::CollectWindow(uint32_t window, absl::Time deadline) {
  std::vector<uint32_t> others = seats_;
  others.erase(others.begin() + local_rank_);
  MUSTER_ASSIGN_OR_RETURN(std::vector<UniqueFd> all, parts_.inbox->Collect(number_, window, others, *parts_.control, deadline));
  all.insert(all.begin() + local_rank_, UniqueFd());
  return all;
}

absl::StatusOr<UniqueFd> AgentLink::CollectControl(absl::Time deadline) {
  MUSTER_ASSIGN_OR_RETURN(std::vector<UniqueFd> one,
                          parts_.inbox->Collect(number_, kControlWindow, {&seats_[0], 1}, *parts_.control, deadline));
  return std::move(one[0]);
}

void AgentLink::ReleaseWindow(uint32_t window) {
  parts_.inbox->Forget(number_, window);
  if (number_ == 0) parts_.line->ReleaseWindow(window);
}

void AgentLink::ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& message) {
  const bool of_some_ranks = number_ != 0 && !v1::EndsGeneration(reason);
  parts_.blame({rank, static_cast<uint32_t>(reason), op_seq, message, of_some_ranks});
}

std::unique_ptr<NodeLink> AgentLink::Open(uint64_t number, std::vector<uint32_t> seats, int local_rank) {
  return std::unique_ptr<NodeLink>(new AgentLink(parts_, number, std::move(seats), local_rank));
}

absl::StatusOr<UniqueFd> AgentLink::Listen(uint16_t* port) {
  const v1::PeerEntry& own = v1::PeerEntryOf(parts_.control, parts_.membership->rank);
  union {
    sockaddr_in6 v6;  // the largest, so all of it is zero
    sockaddr_in v4;
    sockaddr any;
  } bound = {};
  socklen_t length = own.family == 6 ? sizeof bound.v6 : sizeof bound.v4;
  if (own.family == 6) {
    bound.v6.sin6_family = AF_INET6;
    std::copy_n(own.address, sizeof bound.v6.sin6_addr, reinterpret_cast<uint8_t*>(&bound.v6.sin6_addr));
  } else {
    bound.v4.sin_family = AF_INET;
    std::copy_n(own.address, sizeof bound.v4.sin_addr, reinterpret_cast<uint8_t*>(&bound.v4.sin_addr));
  }
  UniqueFd listener(::socket(bound.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return ErrnoToStatus(errno, "socket for connections of a communicator");
  if (::bind(listener.get(), &bound.any, length) != 0 || ::getsockname(listener.get(), &bound.any, &length) != 0) {
    return ErrnoToStatus(errno, "bind to this node's address for connections of a communicator");
  }
  *port = ntohs(own.family == 6 ? bound.v6.sin6_port : bound.v4.sin_port);
  return listener;
}

absl::StatusOr<std::unique_ptr<Mesh>> AgentLink::Connect(UniqueFd listener, const std::vector<MeshPlace>& peers,
                                                         absl::Time deadline, absl::FunctionRef<bool()> interrupted) {
  MeshOptions options;
  options.job_id = parts_.job_id;
  options.generation = parts_.membership->generation;
  options.communicator = number_;
  options.key = parts_.membership->key;
  options.rank = static_cast<int>(parts_.membership->rank);
  options.spawn = parts_.membership->spawn;
  for (const MeshPlace& peer : peers) {
    const v1::PeerEntry& entry = v1::PeerEntryOf(parts_.control, static_cast<uint32_t>(peer.job_rank));
    SocketAddress address = {.family = entry.family, .bytes = {}, .port = peer.port == 0 ? entry.port : peer.port};
    std::copy(std::begin(entry.address), std::end(entry.address), address.bytes.begin());
    options.peers.push_back(
        {peer.job_rank, entry.spawn, address, std::string(entry.host, ::strnlen(entry.host, sizeof entry.host))});
  }
  options.listener = std::move(listener);
  options.refused = [line = parts_.line](const MeshRefusal& refusal) { line->ReportRefusal(refusal.what, refusal.from); };
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Mesh> mesh, Mesh::Connect(std::move(options), deadline, interrupted));
  ProcessSeat::CloseInChildren(mesh->descriptors());
  mesh_ = mesh.get();
  parts_.meshes->Add(mesh_);
  return mesh;
}

void AgentLink::MeshEnds() {
  if (mesh_ != nullptr) parts_.meshes->Remove(mesh_);
  mesh_ = nullptr;
}

}  // namespace muster

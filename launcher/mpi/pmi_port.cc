#include "launcher/mpi/pmi_port.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <type_traits>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "launcher/mpi/pmi_line.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kConnectionsMax = 1024;  // four for each of the most ranks that a node may have

}  // namespace

absl::StatusOr<std::unique_ptr<PmiPort>> PmiPort::Open(EventLoop* loop, NodeExchange* exchange, MpiEvents events) {
  MUSTER_ASSIGN_OR_RETURN(LoopbackListener listener, ListenOnLoopback());
  return std::unique_ptr<PmiPort>(new PmiPort(loop, exchange, std::move(events), std::move(listener)));
}

PmiPort::PmiPort(EventLoop* loop, NodeExchange* exchange, MpiEvents events, LoopbackListener listener)
    : loop_(loop), exchange_(exchange), events_(std::move(events)), listener_(std::move(listener)) {}

PmiPort::~PmiPort() {
  *alive_ = false;
  for (const auto& [descriptor, connection] : connections_) loop_->Remove(descriptor);
}

absl::Status PmiPort::Begin(const MpiWorld& world) {
  table_.emplace(world);
  ranks_ = world.LocalRanks();
  world_size_ = static_cast<uint32_t>(world.places.size());
  LoopbackDoor::Callbacks callbacks;
  callbacks.taken = [this](UniqueFd client) { Take(std::move(client)); };
  callbacks.log = [this](const std::string& line) { events_.log(LogLevel::kWarning, line); };
  MUSTER_ASSIGN_OR_RETURN(
      door_, LoopbackDoor::Open(loop_, listener_.socket.get(), "the port of MPICH programs", std::move(callbacks)));
  return absl::OkStatus();
}

void PmiPort::Take(UniqueFd client) {
  if (connections_.size() >= kConnectionsMax) return;  // closes it
  const int descriptor = client.get();
  if (!loop_->Add(descriptor, EPOLLIN, [this, descriptor](uint32_t) { Read(descriptor); }).ok()) return;
  connections_[descriptor].socket = std::move(client);
}

void PmiPort::ReadNow() {
  std::vector<int> descriptors;
  for (const auto& [descriptor, connection] : connections_) descriptors.push_back(descriptor);
  for (const int descriptor : descriptors) {
    if (connections_.contains(descriptor)) Read(descriptor);
  }
}

void PmiPort::Read(int descriptor) {
  const std::shared_ptr<bool> alive = alive_;
  while (*alive && connections_.contains(descriptor)) {
    char buffer[kPmiLineBytesMax];
    const ssize_t bytes = ::recv(descriptor, buffer, sizeof buffer, MSG_DONTWAIT);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno == EAGAIN) return;
    if (bytes <= 0) return Close(descriptor);  // what that means is said by the end of its process
    std::string& received = connections_[descriptor].received;
    received.append(buffer, static_cast<size_t>(bytes));
    // A client waits for the answer to each line, so that more than one is here only if it does not speak this protocol.
    size_t end = 0;
    while (*alive && connections_.contains(descriptor) &&
           (end = connections_[descriptor].received.find('\n')) != std::string::npos) {
      const std::string line = connections_[descriptor].received.substr(0, end);
      connections_[descriptor].received.erase(0, end + 1);
      OnLine(descriptor, line);
    }
    if (*alive && connections_.contains(descriptor) && connections_[descriptor].received.size() >= kPmiLineBytesMax) {
      Drop(descriptor, absl::StrCat("a line of more than ", kPmiLineBytesMax, " bytes"));
    }
  }
}

void PmiPort::OnLine(int descriptor, absl::string_view line) {
  const Connection& connection = connections_[descriptor];
  if (!connection.rank) return Greet(descriptor, line);
  Do(table_->Line(*connection.rank, line));
}

// Source: MPICH, src/pmi/simple/simple_pmi.c: PMII_Set_from_port.
void PmiPort::Greet(int descriptor, absl::string_view line) {
  const auto parsed = ParsePmiLine(line);
  uint32_t rank = 0;
  if (!parsed.ok() || parsed->command != "initack" || !absl::SimpleAtoi(parsed->value("pmiid"), &rank) ||
      !std::binary_search(ranks_.begin(), ranks_.end(), rank)) {
    return Drop(descriptor, "it did not begin with the number of a rank of this node");
  }
  if (ConnectionOf(rank)) return Drop(descriptor, absl::StrCat("rank ", rank, " has a connection already"));
  connections_[descriptor].rank = rank;
  Send(descriptor, absl::StrCat("cmd=initack\ncmd=set size=", world_size_, "\ncmd=set rank=", rank, "\ncmd=set debug=0"));
}

std::optional<int> PmiPort::ConnectionOf(uint32_t rank) const {
  for (const auto& [descriptor, connection] : connections_) {
    if (connection.rank == rank) return descriptor;
  }
  return std::nullopt;
}

void PmiPort::Do(PmiTable::Actions actions) {
  const std::shared_ptr<bool> alive = alive_;
  for (PmiTable::Action& action : actions) {
    if (!*alive) return;
    std::visit(
        [this, &alive](auto& one) {
          using T = std::decay_t<decltype(one)>;
          if constexpr (std::is_same_v<T, PmiTable::Reply>) {
            if (const auto to = ConnectionOf(one.rank)) Send(*to, one.line);
          } else if constexpr (std::is_same_v<T, PmiTable::Drop>) {
            if (const auto of = ConnectionOf(one.rank)) Drop(*of, one.why);
          } else if constexpr (std::is_same_v<T, PmiTable::Joined>) {
            events_.joined(one.rank);
          } else if constexpr (std::is_same_v<T, PmiTable::Left>) {
            events_.left(one.rank);
          } else if constexpr (std::is_same_v<T, PmiTable::Aborted>) {
            events_.aborted(one.rank, one.exit_code);
          } else if constexpr (std::is_same_v<T, PmiTable::Unsupported>) {
            events_.log(LogLevel::kError,
                        absl::StrCat("rank ", one.rank, " called ", one.what,
                                     ", which muster does not support; "
                                     "start all programs of the world on the command line: -np 1 A : -np 2 B"));
          } else {
            exchange_->Gather(one.name, {}, ranks_.front(), std::move(one.data),
                              [this, alive](absl::StatusOr<NodeExchange::Parts> parts) {
                                if (!*alive) return;
                                if (!parts.ok()) {
                                  const std::string why(parts.status().message());
                                  events_.failed(absl::StrCat("cannot exchange addresses with the other nodes: ", why));
                                  return Do(table_->NotExchanged(why));
                                }
                                events_.met_by_pmi();
                                std::vector<std::string> texts;
                                for (auto& [node, text] : *parts) texts.push_back(std::move(text));
                                Do(table_->Exchanged(texts));
                              });
          }
        },
        action);
  }
}

// The client reads each answer before it asks again, so an answer that does not fit at once has no reader.
void PmiPort::Send(int descriptor, const std::string& line) {
  const std::string text = line + "\n";
  if (::send(descriptor, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) != static_cast<ssize_t>(text.size()))
    Close(descriptor);
}

void PmiPort::Drop(int descriptor, const std::string& why) {
  const auto& rank = connections_[descriptor].rank;
  const std::string who = rank ? absl::StrCat("of rank ", *rank) : "that had not said whose it is";
  events_.log(LogLevel::kWarning, absl::StrCat("closed a connection to the port of MPICH programs ", who, ": ", why));
  Close(descriptor);
}

void PmiPort::Close(int descriptor) {
  loop_->Remove(descriptor);
  connections_.erase(descriptor);
}

}  // namespace muster

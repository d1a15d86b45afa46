#include "launcher/guard/guard_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <deque>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/guard/guard_protocol.h"
#include "launcher/guard/guard_start.h"
#include "launcher/guard/process_tree.h"
#include "launcher/guard/shared_memory.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using guard::Reply;
using guard::ReplyType;
using guard::Request;
using guard::RequestType;

// Freeing the memory of the dead takes 25 ms per GiB.
constexpr int kEndTimeoutMilliseconds = 60'000;

// A request on its way, with the descriptors that travel beside it.
struct Outgoing {
  Request request = {};
  std::vector<UniqueFd> descriptors;
};

// Strings, each ended by a NUL, in a memfd that nobody can change any more. errno in `error` on failure.
UniqueFd SealStrings(const SpawnRequest& spawn, uint64_t* bytes, int* error) {
  std::string blob;
  const auto append = [&blob](const std::string& text) { blob.append(text.c_str(), strlen(text.c_str()) + 1); };
  append(spawn.program);
  append(spawn.working_directory);
  append(spawn.cpus);
  append(spawn.memory_nodes);
  for (const std::string& argument : spawn.argv) append(argument);
  for (const std::string& setting : spawn.env) append(setting);
  *bytes = blob.size();
  *error = E2BIG;
  if (blob.size() > guard::kBlobBytesMax) return UniqueFd();
  UniqueFd memory(memfd_create("muster-spawn", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  for (size_t written = 0; memory && written < blob.size();) {
    const ssize_t count = write(memory.get(), blob.data() + written, blob.size() - written);
    if (count <= 0) break;
    written += static_cast<size_t>(count);
    if (written == blob.size() &&
        fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0) {
      return memory;
    }
  }
  *error = errno;
  return UniqueFd();
}

// 0 when sent, else errno.
int Send(int socket, const Outgoing& outgoing) {
  iovec data = {const_cast<Request*>(&outgoing.request), sizeof(Request)};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(guard::kSpawnDescriptors * sizeof(int))] = {};
  if (!outgoing.descriptors.empty()) {
    std::array<int, guard::kSpawnDescriptors> descriptors;
    for (size_t i = 0; i < descriptors.size(); ++i) descriptors[i] = outgoing.descriptors[i].get();
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptors);
    memcpy(CMSG_DATA(header), descriptors.data(), sizeof descriptors);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

class GuardProcess final : public GuardClient {
 public:
  GuardProcess(EventLoop* loop, StartedGuard started, std::string session_folder, std::vector<pid_t> spared, Events events)
      : loop_(loop),
        guard_(std::move(started)),
        session_folder_(std::move(session_folder)),
        spared_(std::move(spared)),
        events_(std::move(events)) {}

  absl::Status Listen() {
    MUSTER_RETURN_IF_ERROR(loop_->Add(guard_.socket.get(), EPOLLIN, [this](uint32_t ready) { OnSocket(ready); }));
    return loop_->Add(guard_.keeper_pidfd.get(), EPOLLIN, [this](uint32_t) { OnGuardDeath(); });
  }

  ~GuardProcess() override {
    *alive_ = false;
    StopListening();
    if (reaped_) return;
    guard_.socket.Reset();  // the guard's sign to end the tree
    pollfd ended = {.fd = guard_.keeper_pidfd.get(), .events = POLLIN, .revents = 0};
    while (poll(&ended, 1, kEndTimeoutMilliseconds) < 0 && errno == EINTR) {
    }
    if (ended.revents == 0) {
      Log(LogLevel::kWarning, "the guard did not end its tree within 60 s; ending it and the tree from here");
      kill(guard_.keeper, SIGKILL);  // the guard then comes to this process, with all it has
    }
    EndTreeFromHere();
  }

  void Spawn(SpawnRequest spawn) override {
    Outgoing outgoing;
    int error = 0;
    UniqueFd strings = SealStrings(spawn, &outgoing.request.blob_bytes, &error);
    starting_[spawn.slot] = {spawn.program, spawn.working_directory, spawn.cpus};
    if (!strings) {
      const Reply failed = {ReplyType::kSpawnFailed, spawn.slot, error,
                            error == E2BIG ? guard::Stage::kExecve : guard::Stage::kRequest};
      loop_->Post([this, alive = alive_, failed] {
        if (*alive) Dispatch(failed, UniqueFd());
      });
      return;
    }
    outgoing.request.type = RequestType::kSpawn;
    outgoing.request.slot = spawn.slot;
    outgoing.request.controlling_terminal = spawn.controlling_terminal ? 1 : 0;
    outgoing.request.binding_is_optional = spawn.binding_is_optional ? 1 : 0;
    outgoing.request.argument_count = static_cast<uint32_t>(spawn.argv.size());
    outgoing.request.environment_count = static_cast<uint32_t>(spawn.env.size());
    for (UniqueFd* fd : {&spawn.stdin_fd, &spawn.stdout_fd, &spawn.stderr_fd, &strings})
      outgoing.descriptors.push_back(std::move(*fd));
    Enqueue(std::move(outgoing));
  }

  void Signal(uint32_t slot, int signal) override {
    Enqueue({.request = {.type = RequestType::kSignal, .slot = slot, .signal = signal}});
  }
  void EndTree() override { Enqueue({.request = {.type = RequestType::kEndTree}}); }
  void RemoveSharedMemory() override {
    if (!session_folder_.empty()) guard::RemoveSharedMemory(session_folder_, began_ns_);
  }
  void Finish() override {
    if (reaped_) return;
    StopListening();
    guard_.socket.Reset();
    queue_.clear();
  }
  TreeCover cover() const override { return guard_.cover; }
  pid_t pid() const override { return guard_.guard; }

 private:
  struct Starting {
    std::string program;
    std::string working_directory;
    std::string cpus;
  };

  void Enqueue(Outgoing outgoing) {
    if (reaped_ || !guard_.socket) return;
    queue_.push_back(std::move(outgoing));
    SendQueued();
  }

  // The socket holds some two hundred requests; beyond that they wait here, so that neither side waits for the other.
  void SendQueued() {
    while (!queue_.empty()) {
      const int error = Send(guard_.socket.get(), queue_.front());
      if (error == EINTR) continue;
      // ETOOMANYREFS: more descriptors are under way than this user may have; the guard is taking them out.
      if (error == EAGAIN || error == ETOOMANYREFS) break;
      if (error != 0) queue_.clear();  // the guard is gone, its pidfd will tell
      if (error == 0) queue_.pop_front();
    }
    if (waits_to_send_ != !queue_.empty() && listening_) {
      waits_to_send_ = !queue_.empty();
      (void)loop_->Modify(guard_.socket.get(), waits_to_send_ ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
  }

  void OnSocket(uint32_t ready) {
    if ((ready & EPOLLOUT) != 0) SendQueued();
    if ((ready & ~static_cast<uint32_t>(EPOLLOUT)) != 0) ReceiveAll();
  }

  // False if this object is gone.
  bool ReceiveAll() {
    const auto alive = alive_;
    while (true) {
      Reply reply = {};
      UniqueFd descriptor;
      const ssize_t bytes = ReceiveReply(guard_.socket.get(), &reply, &descriptor, MSG_DONTWAIT);
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes < 0 && errno == EAGAIN) return true;
      if (bytes != sizeof reply) {
        if (listening_) loop_->Remove(guard_.socket.get());  // at its end; the pidfd follows
        listening_ = false;
        return true;
      }
      Dispatch(reply, std::move(descriptor));
      if (!*alive) return false;
    }
  }

  void Dispatch(const Reply& reply, UniqueFd descriptor) {
    switch (reply.type) {
      case ReplyType::kSpawned: {
        starting_.erase(reply.slot);
        const pid_t pid = PidOf(descriptor.get());
        if (events_.spawned) events_.spawned(reply.slot, pid, std::move(descriptor));
        return;
      }
      case ReplyType::kSpawnFailed: {
        const std::string stage = StageName(reply);
        starting_.erase(reply.slot);
        if (events_.spawn_failed) events_.spawn_failed(reply.slot, reply.value, stage);
        return;
      }
      case ReplyType::kEnded:
        if (events_.ended) events_.ended(reply.slot, reply.value);
        return;
      case ReplyType::kTreeEnded:
        if (events_.tree_ended) events_.tree_ended();
        return;
      case ReplyType::kReady:
      case ReplyType::kStartFailed:
        return;
    }
  }

  std::string StageName(const Reply& reply) const {
    const auto found = starting_.find(reply.slot);
    const Starting names = found == starting_.end() ? Starting{} : found->second;
    switch (reply.stage) {
      case guard::Stage::kExecve:
        return absl::StrCat("execve ", names.program);
      case guard::Stage::kChdir:
        return absl::StrCat("chdir ", names.working_directory);
      case guard::Stage::kBind:
        return absl::StrCat("binding to processors ", names.cpus);
      case guard::Stage::kFork:
        return "fork";
      case guard::Stage::kGroup:
        return "process group";
      case guard::Stage::kTerminal:
        return "controlling terminal";
      case guard::Stage::kDescriptors:
        return "dup2";
      default:
        return "spawn request";
    }
  }

  void OnGuardDeath() {
    if (!ReceiveAll()) return;  // its last words
    StopListening();
    Log(LogLevel::kInfo,
        absl::StrCat("the guard (pid ", guard_.guard, ") died; ending its workers and their descendants from here"));
    EndTreeFromHere();
    if (events_.lost) events_.lost();
  }

  // Keeper or guard is dead: what it had under it has come to this process, itself a subreaper.
  void EndTreeFromHere() {
    while (waitpid(guard_.keeper, nullptr, 0) < 0 && errno == EINTR) {
    }
    reaped_ = true;
    guard_.socket.Reset();
    queue_.clear();
    if (!guard::EndDescendants(spared_, kEndTimeoutMilliseconds, nullptr)) {
      Log(LogLevel::kError,
          "processes of the job are left: they belong to another user, or did not end within 60 s of SIGKILL");
    }
    if (session_folder_.empty()) return;
    guard::RemoveSharedMemory(session_folder_, began_ns_);
    guard::RemoveFolder(session_folder_.c_str());
  }

  void StopListening() {
    if (std::exchange(listening_, false)) loop_->Remove(guard_.socket.get());
    if (std::exchange(watching_, false)) loop_->Remove(guard_.keeper_pidfd.get());
  }

  EventLoop* const loop_;
  StartedGuard guard_;
  const std::string session_folder_;
  const int64_t began_ns_ = guard::FileTimeNow();
  const std::vector<pid_t> spared_;  // children this process had before the guard
  const Events events_;
  std::deque<Outgoing> queue_;
  std::unordered_map<uint32_t, Starting> starting_;
  bool waits_to_send_ = false;
  bool listening_ = true;  // to the socket
  bool watching_ = true;   // the keeper's pidfd
  bool reaped_ = false;
  // Callbacks may destroy this object.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace

absl::StatusOr<BegunGuard> GuardClient::Begin(const std::string& guard_path, const std::string& session_folder) {
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<BegunGuard::Impl> begun, BeginGuard(guard_path, session_folder));
  return BegunGuard(std::move(begun));
}

absl::StatusOr<std::unique_ptr<GuardClient>> GuardClient::Start(EventLoop* loop, BegunGuard begun, Events events) {
  MUSTER_RETURN_IF_ERROR(AwaitGuard(begun.impl_.get()));
  const std::unique_ptr<BegunGuard::Impl> ready = std::move(begun.impl_);
  auto client = std::make_unique<GuardProcess>(loop, std::move(ready->started), std::move(ready->session_folder),
                                               std::move(ready->spared), std::move(events));
  MUSTER_RETURN_IF_ERROR(client->Listen());
  return client;
}

absl::StatusOr<std::unique_ptr<GuardClient>> GuardClient::Start(EventLoop* loop, const std::string& guard_path,
                                                                const std::string& session_folder, Events events) {
  MUSTER_ASSIGN_OR_RETURN(BegunGuard begun, Begin(guard_path, session_folder));
  return Start(loop, std::move(begun), std::move(events));
}

}  // namespace muster

#include "tests/support/local_agent.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <future>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace muster::testing {

LocalAgent::LocalAgent() : job_id_("0123456789abcdef"), loop_(EventLoop::Create().value()) {
  thread_ = std::thread([this] { loop_->Run(); });
  std::promise<void> done;
  loop_->Post([&] {
    WorkerPort::Events events;
    events.joined = [this](uint32_t slot, uint32_t spawn) { Record({Event::kJoined, slot, spawn}); };
    events.left = [this](uint32_t slot, uint32_t spawn) { Record({Event::kLeft, slot, spawn}); };
    events.lost = [this](uint32_t slot, uint32_t spawn) { Record({Event::kLost, slot, spawn}); };
    events.blamed = [this](uint32_t slot, uint32_t spawn, uint32_t rank, v1::AbortReason reason, uint64_t, std::string message,
                           bool of_some_ranks) {
      Record({.kind = Event::kBlamed,
              .slot = slot,
              .spawn = spawn,
              .blamed_rank = rank,
              .reason = reason,
              .message = std::move(message),
              .of_some_ranks = of_some_ranks});
    };
    events.step_committed = [this](uint32_t slot, uint32_t spawn, int64_t step, int64_t checkpoint_step) {
      Record({.kind = Event::kStep, .slot = slot, .spawn = spawn, .step = step, .checkpoint_step = checkpoint_step});
    };
    events.refused = [this](RefusalCount refused) {
      Record({.kind = Event::kRefused, .message = std::move(refused.what), .count = refused.count});
    };
    port_ = WorkerPort::Create(loop_.get(), std::move(events)).value();
    socket_ = port_->socket_name();
    done.set_value();
  });
  done.get_future().wait();
}

LocalAgent::~LocalAgent() {
  for (auto& [slot, worker] : workers_) {
    if (worker.pidfd) ::syscall(SYS_pidfd_send_signal, worker.pidfd.get(), SIGKILL, nullptr, 0);
  }
  ClosePort();
  loop_->Quit();
  thread_.join();
  for (auto& [slot, worker] : workers_) {
    int status;
    if (worker.pid > 0) ::waitpid(worker.pid, &status, 0);
  }
}

std::string LocalAgent::job_id_hex() const { return absl::BytesToHexString(job_id_); }

void LocalAgent::Do(const std::function<void(WorkerPort&)>& act) {
  std::promise<void> done;
  loop_->Post([&] {
    act(*port_);
    done.set_value();
  });
  done.get_future().wait();
}

void LocalAgent::ClosePort() {
  std::promise<void> done;
  loop_->Post([&] {
    for (auto& [slot, worker] : workers_) {
      if (worker.pidfd) loop_->Remove(worker.pidfd.get());
    }
    port_.reset();
    done.set_value();
  });
  done.get_future().wait();
}

pid_t LocalAgent::Start(uint32_t slot, std::vector<std::string> argv, UniqueFd listener) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  std::vector<std::string> environment = {absl::StrCat("MUSTER_SOCKET=", socket_), absl::StrCat("MUSTER_JOB_ID=", job_id_hex()),
                                          absl::StrCat("MUSTER_SLOT=", slot), "WORLD_SIZE=99"};
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  std::vector<char*> arguments, variables;
  for (std::string& argument : argv) arguments.push_back(argument.data());
  for (std::string& variable : environment) variables.push_back(variable.data());
  arguments.push_back(nullptr);
  variables.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(write_end.get(), STDOUT_FILENO);
    ::execve(arguments[0], arguments.data(), variables.data());
    ::_exit(127);
  }
  write_end.Reset();
  Expect(slot, pid, std::move(listener));
  const uint32_t spawn = workers_[slot].spawn;
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  const int watched = pidfd.get();
  workers_[slot] = {spawn, pid, std::move(pidfd), std::move(read_end)};
  Do([&, this](WorkerPort&) {
    const absl::Status added = loop_->Add(watched, EPOLLIN, [this, slot, spawn, pid, watched](uint32_t) {
      loop_->Remove(watched);
      siginfo_t information = {};
      ::waitid(P_PID, static_cast<id_t>(pid), &information, WEXITED | WNOWAIT);  // Join reaps it
      const int status = information.si_code == CLD_EXITED ? W_EXITCODE(information.si_status, 0) : information.si_status;
      if (port_ != nullptr) port_->WorkerEnded(slot, spawn, status);
      Record({.kind = Event::kEnded, .slot = slot, .spawn = spawn, .wait_status = status});
    });
    EXPECT_TRUE(added.ok()) << added;
  });
  return pid;
}

void LocalAgent::Expect(uint32_t slot, pid_t pid, UniqueFd listener) {
  const uint32_t spawn = ++workers_[slot].spawn;
  Do([&](WorkerPort& port) { port.ExpectWorker(slot, spawn, pid, std::move(listener)); });
}

void LocalAgent::Begin(uint32_t ranks, uint64_t generation) {
  LocalGeneration local = NewGeneration(generation);
  local.world_size = ranks;
  for (uint32_t i = 0; i < ranks; ++i) local.places.push_back({i, i});
  Begin(local);
}

void LocalAgent::BeginNode(uint32_t node, std::vector<v1::PeerEntry> peers, uint64_t generation) {
  LocalGeneration local = NewGeneration(generation);
  local.world_size = static_cast<uint32_t>(peers.size());
  local.nodes = peers.back().node + 1;
  for (uint32_t rank = 0; rank < peers.size(); ++rank) {
    if (peers[rank].node == node) local.places.push_back({peers[rank].slot, rank});
  }
  local.peers = std::move(peers);
  Begin(local);
}

LocalGeneration LocalAgent::NewGeneration(uint64_t generation) const {
  LocalGeneration local;
  local.generation = generation;
  local.job_id = job_id_;
  local.key = std::string(32, 'k');
  local.host = "test-host";
  return local;
}

void LocalAgent::Begin(const LocalGeneration& local) {
  Do([&](WorkerPort& port) {
    const absl::Status begun = port.BeginGeneration(local);
    EXPECT_TRUE(begun.ok()) << begun;
  });
}

int LocalAgent::Join(uint32_t slot) {
  Worker& worker = workers_[slot];
  const int status = Await([&](const Event& event) {
                       return event.kind == Event::kEnded && event.slot == slot && event.spawn == worker.spawn;
                     }).wait_status;
  int ignored;
  ::waitpid(worker.pid, &ignored, 0);
  worker.pid = -1;
  worker.pidfd.Reset();
  return status;
}

std::string LocalAgent::Output(uint32_t slot) {
  std::string text;
  char buffer[4096];
  ssize_t bytes;
  while ((bytes = ::read(workers_[slot].output.get(), buffer, sizeof buffer)) > 0)
    text.append(buffer, static_cast<size_t>(bytes));
  return text;
}

std::string LocalAgent::Line(uint32_t slot) {
  std::string line;
  char letter;
  while (::read(workers_[slot].output.get(), &letter, 1) == 1 && letter != '\n') line.push_back(letter);
  return line;
}

void LocalAgent::Record(Event event) {
  event.when = absl::Now();
  MutexLock lock(mutex_);
  ++counts_[event.kind];
  events_.push_back(std::move(event));
  changed_.SignalAll();
}

std::vector<LocalAgent::Event> LocalAgent::events() {
  MutexLock lock(mutex_);
  return events_;
}

LocalAgent::Event LocalAgent::Await(const std::function<bool(const Event&)>& matches) {
  const absl::Time deadline = absl::Now() + kTestPatience;
  MutexLock lock(mutex_);
  while (true) {
    for (const Event& event : events_) {
      if (matches(event)) return event;
    }
    if (absl::Now() >= deadline) {
      ADD_FAILURE() << "the event did not come";
      return {};
    }
    changed_.WaitFor(mutex_, absl::Seconds(1));
  }
}

LocalAgent::Event LocalAgent::Await(Event::Kind kind, uint32_t slot) {
  return Await([&](const Event& event) { return event.kind == kind && event.slot == slot; });
}

size_t LocalAgent::Count(Event::Kind kind) {
  MutexLock lock(mutex_);
  return counts_[kind];
}

void LocalAgent::AwaitCount(Event::Kind kind, size_t count, Event::Kind or_any) {
  const absl::Time deadline = absl::Now() + kTestPatience;
  MutexLock lock(mutex_);
  while (counts_[kind] < count && counts_[or_any] == 0) {
    if (absl::Now() >= deadline) {
      ADD_FAILURE() << counts_[kind] << " events came, not " << count;
      return;
    }
    changed_.WaitFor(mutex_, absl::Seconds(1));
  }
}

int CountDescriptors(const std::string& text) {
  int count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(folder)) {
    char target[PATH_MAX];
    const ssize_t length = ::readlink(absl::StrCat("/proc/self/fd/", entry->d_name).c_str(), target, sizeof target);
    if (length > 0 && std::string(target, static_cast<size_t>(length)).find(text) != std::string::npos) ++count;
  }
  ::closedir(folder);
  return count;
}

}  // namespace muster::testing

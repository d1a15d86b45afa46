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
    events.joined = [this](uint32_t slot) { Record({Event::kJoined, slot}); };
    events.left = [this](uint32_t slot) { Record({Event::kLeft, slot}); };
    events.lost = [this](uint32_t slot) { Record({Event::kLost, slot}); };
    events.blamed = [this](uint32_t slot, uint32_t rank, v1::AbortReason reason, uint64_t, std::string message) {
      Record({.kind = Event::kBlamed, .slot = slot, .blamed_rank = rank, .reason = reason, .message = std::move(message)});
    };
    events.step_committed = [this](uint32_t slot, int64_t step) { Record({.kind = Event::kStep, .slot = slot, .step = step}); };
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

pid_t LocalAgent::Start(uint32_t slot, std::vector<std::string> argv) {
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
  Expect(slot, pid);
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  const int watched = pidfd.get();
  workers_[slot] = {pid, std::move(pidfd), std::move(read_end)};
  Do([&, this](WorkerPort&) {
    const absl::Status added = loop_->Add(watched, EPOLLIN, [this, slot, pid, watched](uint32_t) {
      loop_->Remove(watched);
      siginfo_t information = {};
      ::waitid(P_PID, static_cast<id_t>(pid), &information, WEXITED | WNOWAIT);  // Join reaps it
      const int status = information.si_code == CLD_EXITED ? W_EXITCODE(information.si_status, 0) : information.si_status;
      if (port_ != nullptr) port_->WorkerEnded(slot, status);
      Record({.kind = Event::kEnded, .slot = slot, .wait_status = status});
    });
    EXPECT_TRUE(added.ok()) << added;
  });
  return pid;
}

void LocalAgent::Expect(uint32_t slot, pid_t pid) {
  Do([&](WorkerPort& port) { port.ExpectWorker(slot, pid); });
}

void LocalAgent::Begin(uint32_t ranks, uint64_t generation) {
  LocalGeneration local;
  local.generation = generation;
  local.job_id = job_id_;
  local.key = std::string(32, 'k');
  local.world_size = ranks;
  local.host = "test-host";
  for (uint32_t i = 0; i < ranks; ++i) local.places.push_back({i, i});
  Do([&](WorkerPort& port) {
    const absl::Status begun = port.BeginGeneration(local);
    EXPECT_TRUE(begun.ok()) << begun;
  });
}

int LocalAgent::Join(uint32_t slot) {
  const int status = Await(Event::kEnded, slot).wait_status;
  Worker& worker = workers_[slot];
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

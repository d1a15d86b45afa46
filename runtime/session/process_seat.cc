#include "runtime/session/process_seat.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/mutex.h"

namespace muster {
namespace {

// What a descriptor stands for, however its number is used later.
struct Opened {
  int descriptor = -1;
  dev_t device = 0;
  ino_t inode = 0;
};

struct Seat {
  Mutex mutex;
  bool handlers_registered ABSL_GUARDED_BY(mutex) = false;
  pid_t owner ABSL_GUARDED_BY(mutex) = 0;  // 0: free
  std::function<void()> leave_at_exit ABSL_GUARDED_BY(mutex);
  std::vector<Opened> descriptors ABSL_GUARDED_BY(mutex);
};

Seat& TheSeat() {
  static auto* seat = new Seat;  // never destroyed: exit handlers use it
  return *seat;
}

void LeaveAtExit() {
  Seat& seat = TheSeat();
  MutexLock lock(seat.mutex);
  if (seat.owner == ::getpid() && seat.leave_at_exit) seat.leave_at_exit();
}

// The lock is held across fork, so that the child finds the seat whole.
void BeforeFork() ABSL_NO_THREAD_SAFETY_ANALYSIS { TheSeat().mutex.Lock(); }
void AfterForkInParent() ABSL_NO_THREAD_SAFETY_ANALYSIS { TheSeat().mutex.Unlock(); }
void AfterForkInChild() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Seat& seat = TheSeat();
  for (const Opened& opened : seat.descriptors) {
    struct stat now;
    const bool same = ::fstat(opened.descriptor, &now) == 0 && now.st_dev == opened.device && now.st_ino == opened.inode;
    if (same) ::close(opened.descriptor);
  }
  seat.descriptors.clear();
  seat.owner = 0;
  seat.mutex.Unlock();
}

}  // namespace

absl::Status ProcessSeat::Take(std::function<void()> leave_at_exit) {
  Seat& seat = TheSeat();
  MutexLock lock(seat.mutex);
  if (seat.owner != 0) return absl::AlreadyExistsError("this process has a session already; close it first, or share it");
  if (!seat.handlers_registered) {
    if (std::atexit(LeaveAtExit) != 0 || ::pthread_atfork(BeforeFork, AfterForkInParent, AfterForkInChild) != 0) {
      return absl::ResourceExhaustedError("no memory to register what is done at exit and at fork");
    }
    seat.handlers_registered = true;
  }
  seat.owner = ::getpid();
  seat.leave_at_exit = std::move(leave_at_exit);
  return absl::OkStatus();
}

void ProcessSeat::CloseInChildren(std::span<const int> descriptors) {
  MutexLock lock(TheSeat().mutex);
  for (const int descriptor : descriptors) {
    struct stat opened;
    if (::fstat(descriptor, &opened) != 0) continue;
    std::erase_if(TheSeat().descriptors,
                  [descriptor](const Opened& old) { return old.descriptor == descriptor; });  // closed since
    TheSeat().descriptors.push_back({descriptor, opened.st_dev, opened.st_ino});
  }
}

void ProcessSeat::GiveBack() {
  Seat& seat = TheSeat();
  MutexLock lock(seat.mutex);
  seat.owner = 0;
  seat.leave_at_exit = nullptr;
  seat.descriptors.clear();
}

}  // namespace muster

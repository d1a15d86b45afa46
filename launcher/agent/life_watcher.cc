#include "launcher/agent/life_watcher.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/sealed_memory.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kPagesInVector = v1::kFutexWaitvMax - 1;  // one word is the group's own
constexpr timespec kSingleLook = {0, 100'000'000};         // how long a thread with one page may miss a Forget

long WaitVector(futex_waitv* words, size_t count) {
  return ::syscall(SYS_futex_waitv, words, count, 0, nullptr, CLOCK_MONOTONIC);
}

// Asks the kernel to wake us when the holder unlocks or dies. The value to wait for, or how the life has ended.
struct Armed {
  uint32_t word = 0;
  std::optional<LifeEnd> end;
};
Armed Arm(const MappedLifePage& page) {
  std::atomic_ref<uint32_t> word(*page.futex_word());
  uint32_t value = word.load();
  while (true) {
    // `left` is written before the unlock, so it is looked at after the word.
    const bool released = (value & FUTEX_OWNER_DIED) != 0 || (value & FUTEX_TID_MASK) == 0;
    if (page.left()) return {value, LifeEnd::kLeft};
    if (released) return {value, LifeEnd::kDied};
    if ((value & FUTEX_WAITERS) != 0 || word.compare_exchange_weak(value, value | FUTEX_WAITERS)) {
      return {value | FUTEX_WAITERS, std::nullopt};
    }
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<MappedLifePage>> MappedLifePage::Map(int fd, uint32_t slot) {
  MUSTER_RETURN_IF_ERROR(CheckSealedMemory(fd, v1::kLifePageBytes));
  MUSTER_ASSIGN_OR_RETURN(void* memory, MapSharedMemory(fd, v1::kLifePageBytes));
  std::shared_ptr<MappedLifePage> mapped(new MappedLifePage(static_cast<v1::LifePage*>(memory)));
  const v1::LifePage& page = *mapped->page_;
  if (page.magic != v1::kLifePageMagic || page.version != v1::kLifePageVersion || page.slot != slot) {
    return absl::InvalidArgumentError(absl::StrCat("the descriptor is not the life page of slot ", slot));
  }
  return mapped;
}

MappedLifePage::~MappedLifePage() { ::munmap(page_, v1::kLifePageBytes); }

FutexWaiting FutexWaitingHere() {
  // No words at all are an invalid argument to a kernel that knows the call.
  return WaitVector(nullptr, 0) != 0 && errno == EINVAL ? FutexWaiting::kVector : FutexWaiting::kSingle;
}

// Up to `capacity` pages and the thread that waits for them.
class LifeWatcher::Group {
 public:
  Group(FutexWaiting waiting, const std::function<void(uint64_t, LifeEnd)>& ended)
      : waiting_(waiting), ended_(ended), capacity_(waiting == FutexWaiting::kVector ? kPagesInVector : 1) {}

  ~Group() {
    {
      MutexLock lock(mutex_);
      stop_ = true;
    }
    Kick();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Start() {
    sigset_t all, before;  // signals are for the main thread
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    absl::Status started;
    try {
      thread_ = std::thread([this] { Run(); });
    } catch (const std::system_error& error) {
      started = absl::ResourceExhaustedError(absl::StrCat("start a thread that watches workers: ", error.what()));
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
  }

  bool Add(uint64_t life, const std::shared_ptr<MappedLifePage>& page) {
    {
      MutexLock lock(mutex_);
      if (entries_.size() >= capacity_) return false;
      entries_.push_back({life, page});
    }
    Kick();
    return true;
  }

  void Remove(uint64_t life) {
    {
      MutexLock lock(mutex_);
      std::erase_if(entries_, [life](const Entry& entry) { return entry.life == life; });
    }
    Kick();
  }

 private:
  struct Entry {
    uint64_t life;
    std::shared_ptr<MappedLifePage> page;
  };

  void Kick() {
    kick_.fetch_add(1);
    ::syscall(SYS_futex, &kick_, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  }

  void Run() {
    while (true) {
      const uint32_t kick = kick_.load();
      std::vector<Entry> entries;
      {
        MutexLock lock(mutex_);
        if (stop_) return;
        entries = entries_;
      }
      std::vector<uint32_t> values;
      bool ended = false;
      for (const Entry& entry : entries) {
        const Armed armed = Arm(*entry.page);
        values.push_back(armed.word);
        if (!armed.end.has_value()) continue;
        ended = true;
        if (Take(entry)) ended_(entry.life, *armed.end);
      }
      if (!ended) Wait(kick, entries, values);
    }
  }

  // False if the page is not ours to report any more.
  bool Take(const Entry& entry) {
    MutexLock lock(mutex_);
    return std::erase_if(entries_, [&](const Entry& other) { return other.page == entry.page; }) > 0;
  }

  void Wait(uint32_t kick, const std::vector<Entry>& entries, const std::vector<uint32_t>& values) {
    if (entries.empty() || waiting_ == FutexWaiting::kVector) {
      std::vector<futex_waitv> words(1 + entries.size());
      words[0] = {kick, reinterpret_cast<uint64_t>(&kick_), FUTEX_32, 0};
      for (size_t i = 0; i < entries.size(); ++i) {
        words[i + 1] = {values[i], reinterpret_cast<uint64_t>(entries[i].page->futex_word()), FUTEX_32, 0};
      }
      const long result = entries.empty() ? ::syscall(SYS_futex, &kick_, FUTEX_WAIT, kick, nullptr, nullptr, 0)
                                          : WaitVector(words.data(), words.size());
      if (result >= 0 || errno == EAGAIN || errno == EINTR) return;
      // Out of memory, say. Looking at times is slower, but nothing is lost.
      if (!complained_) Log(LogLevel::kWarning, ErrnoToStatus(errno, "futex_waitv; looking every 100 ms instead").message());
      complained_ = true;
      ::nanosleep(&kSingleLook, nullptr);
      return;
    }
    ::syscall(SYS_futex, entries[0].page->futex_word(), FUTEX_WAIT, values[0], &kSingleLook, nullptr, 0);
  }

  const FutexWaiting waiting_;
  const std::function<void(uint64_t, LifeEnd)>& ended_;
  const size_t capacity_;
  std::atomic<uint32_t> kick_ = 0;
  bool complained_ = false;
  std::thread thread_;

  Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

LifeWatcher::LifeWatcher(FutexWaiting waiting, std::function<void(uint64_t life, LifeEnd end)> ended)
    : waiting_(waiting), ended_(std::move(ended)) {}

LifeWatcher::~LifeWatcher() = default;

absl::Status LifeWatcher::Watch(uint64_t life, std::shared_ptr<MappedLifePage> page) {
  for (const auto& group : groups_) {
    if (group->Add(life, page)) return absl::OkStatus();
  }
  auto group = std::make_unique<Group>(waiting_, ended_);
  MUSTER_RETURN_IF_ERROR(group->Start());
  group->Add(life, page);
  groups_.push_back(std::move(group));
  return absl::OkStatus();
}

void LifeWatcher::Forget(uint64_t life) {
  for (const auto& group : groups_) group->Remove(life);
}

}  // namespace muster

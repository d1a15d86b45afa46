#include "runtime/rendezvous/life_line.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <new>
#include <system_error>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/base/sealed_memory.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

void Await(sem_t* semaphore) {
  while (::sem_wait(semaphore) != 0) {
  }
}

void FormatPage(void* memory, uint32_t slot) {
  auto* page = new (memory) v1::LifePage();
  page->magic = v1::kLifePageMagic;
  page->version = v1::kLifePageVersion;
  page->slot = slot;
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&page->mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LifeLine>> LifeLine::Create(uint32_t slot) {
  MUSTER_ASSIGN_OR_RETURN(UniqueFd fd, MakeSealedMemory("muster-life", v1::kLifePageBytes));
  MUSTER_ASSIGN_OR_RETURN(void* memory, MapSharedMemory(fd.get(), v1::kLifePageBytes));
  FormatPage(memory, slot);
  std::unique_ptr<LifeLine> line(new LifeLine(std::move(fd), static_cast<v1::LifePage*>(memory)));
  // The user's signal handlers must not run on our thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  absl::Status started;
  try {
    line->holder_ = std::thread([line = line.get()] { line->Hold(); });
  } catch (const std::system_error& error) {
    started = ErrnoToStatus(error.code().value(), "start the thread that holds the life page");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  MUSTER_RETURN_IF_ERROR(started);
  Await(&line->held_);
  return line;
}

LifeLine::LifeLine(UniqueFd page_fd, v1::LifePage* page) : page_fd_(std::move(page_fd)), page_(page) {
  ::sem_init(&held_, 0, 0);
  ::sem_init(&released_, 0, 0);
}

LifeLine::~LifeLine() {
  Leave();
  ::munmap(page_, v1::kLifePageBytes);
  ::sem_destroy(&held_);
  ::sem_destroy(&released_);
}

void LifeLine::Leave() {
  if (!holder_.joinable()) return;
  ::sem_post(&released_);
  holder_.join();
}

void LifeLine::Hold() {
  MUSTER_CHECK(::pthread_mutex_lock(&page_->mutex) == 0, "a life page that nobody else has");
  page_->state.store(v1::LifeState::kJoined);
  ::sem_post(&held_);
  Await(&released_);
  page_->state.store(v1::LifeState::kLeft);
  ::pthread_mutex_unlock(&page_->mutex);
}

}  // namespace muster

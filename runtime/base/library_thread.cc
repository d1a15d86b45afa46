#include "runtime/base/library_thread.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace muster {

absl::StatusOr<std::unique_ptr<std::thread>> StartLibraryThread(absl::string_view what, std::function<void()> body) {
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&blocked, fault);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  absl::StatusOr<std::unique_ptr<std::thread>> thread;
  try {
    thread = std::make_unique<std::thread>(std::move(body));
  } catch (const std::system_error& error) {
    thread = absl::ResourceExhaustedError(absl::StrCat("cannot make ", what, ": ", error.what()));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace muster

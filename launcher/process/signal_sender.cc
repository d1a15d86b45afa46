#include "launcher/process/signal_sender.h"

#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

std::string UserName(uint32_t uid) {
  passwd entry = {};
  passwd* found = nullptr;
  char text[4096];
  if (::getpwuid_r(uid, &entry, text, sizeof text, &found) == 0 && found != nullptr) return found->pw_name;
  return absl::StrCat("uid ", uid);
}

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

}  // namespace

std::string SenderOf(const signalfd_siginfo& signal) {
  if (signal.ssi_code == SI_KERNEL) return signal.ssi_signo == SIGINT ? "Ctrl-C" : "";
  if (signal.ssi_pid == 0) return "";
  const std::string folder = absl::StrCat("/proc/", signal.ssi_pid);
  std::string name, program, subcommand;
  std::ifstream(folder + "/comm") >> name;
  std::ifstream words(folder + "/cmdline");
  std::getline(words, program, '\0');
  std::getline(words, subcommand, '\0');
  if (name == "muster" && subcommand == "cancel") return absl::StrCat("muster cancel of ", UserName(signal.ssi_uid), "@", HostName());
  return absl::StrCat("process ", signal.ssi_pid, name.empty() ? "" : absl::StrCat(" (", name, ")"), " of user ",
                      UserName(signal.ssi_uid));
}

}  // namespace muster

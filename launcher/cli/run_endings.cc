#include "launcher/cli/run_endings.h"

#include <signal.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

constexpr double kGraceSecondsMax = 1e6;  // in milliseconds it must fit 32 bits

// "TERM", "SIGTERM", "sigterm" and "15"; 0 where there is no such signal.
int SignalOf(const std::string& text) {
  int number = 0;
  if (absl::SimpleAtoi(text, &number)) return number > 0 && ::sigabbrev_np(number) != nullptr ? number : 0;
  const std::string upper = absl::AsciiStrToUpper(text);
  const absl::string_view name = absl::StripPrefix(upper, "SIG");
  for (number = 1; number < NSIG; ++number) {
    const char* known = ::sigabbrev_np(number);
    if (known != nullptr && name == known) return number;
  }
  return 0;
}

uint32_t Milliseconds(double seconds) { return seconds > 0 ? std::max(1u, static_cast<uint32_t>(seconds * 1e3)) : 0; }

}  // namespace

void DeclareEndings(FlagSet* flags, EndingOptions* options) {
  flags->Seconds("--timeout -timeout", "SECONDS", &options->timeout_seconds,
                 "end the job after SECONDS, with exit status 124, and say where each\n"
                 "rank was: the odd one out first");
  flags->Seconds("--kill-grace", "SECONDS", &options->kill_grace_seconds,
                 "asked to stop (Ctrl-C, SIGTERM, SIGHUP, muster cancel, --timeout),\n"
                 "workers get SIGTERM, and SIGKILL so long after it (5)",
                 kGraceSecondsMax);
  flags->Seconds("--failure-grace", "SECONDS", &options->failure_grace_seconds,
                 "the same when a rank has failed and the others are ended (0.4)", kGraceSecondsMax);
  flags->Text("--stop-signal", "NAME", &options->stop_signal_name,
              "what workers get first when the job is asked to stop, such as INT or\n"
              "USR1 (TERM)");
  flags->Seconds("--orphan-after", "SECONDS", &options->orphan_after_seconds,
                 "with --nodes or --detach: agents whose coordinator has died end their\n"
                 "workers after SECONDS (5)");
}

absl::Status SettleEndings(EndingOptions* options) {
  if (options->stop_signal_name.empty()) return absl::OkStatus();
  options->stop_signal = SignalOf(options->stop_signal_name);
  if (options->stop_signal == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--stop-signal ", options->stop_signal_name, ": there is no such signal; `kill -l` lists them"));
  }
  if (options->stop_signal == SIGKILL || options->stop_signal == SIGSTOP) {
    return absl::InvalidArgumentError(absl::StrCat("--stop-signal ", options->stop_signal_name,
                                                   ": no program can take it; muster sends SIGKILL itself after --kill-grace"));
  }
  return absl::OkStatus();
}

void AddEndings(const EndingOptions& options, v1::Launch* launch) {
  launch->set_timeout_seconds(options.timeout_seconds);
  launch->mutable_job()->mutable_ending()->set_kill_grace_ms(Milliseconds(options.kill_grace_seconds));
  launch->mutable_job()->mutable_ending()->set_stop_signal(static_cast<uint32_t>(options.stop_signal));
  launch->mutable_ending()->set_failure_grace_ms(Milliseconds(options.failure_grace_seconds));
  launch->mutable_ending()->set_orphan_after_ms(static_cast<int64_t>(options.orphan_after_seconds * 1e3));
}

}  // namespace muster

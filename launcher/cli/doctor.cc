// muster doctor: what this machine offers, and what muster can promise on it.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/machine_checks.h"
#include "launcher/cli/subcommand.h"
#include "launcher/process/exit_codes.h"

namespace muster {
namespace {

const char* Word(CheckLevel level) {
  switch (level) {
    case CheckLevel::kOk:
      return "ok";
    case CheckLevel::kWarning:
      return "warn";
    case CheckLevel::kFailure:
      return "FAIL";
  }
  return "";
}

std::string Lines(const std::vector<Check>& checks) {
  std::string text;
  for (const Check& check : checks) {
    std::string line = Word(check.level);
    line.resize(6, ' ');
    absl::StrAppend(&line, check.name);
    line.resize(std::max<size_t>(line.size() + 1, 25), ' ');
    absl::StrAppend(&text, line, check.finding, check.remedy.empty() ? "" : absl::StrCat(" -> ", check.remedy), "\n");
  }
  return text;
}

std::string Json(const std::vector<Check>& checks, bool healthy) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    nlohmann::ordered_json item = {{"name", check.name},
                                   {"level", check.level == CheckLevel::kFailure ? "fail" : Word(check.level)},
                                   {"finding", check.finding}};
    if (!check.remedy.empty()) item["remedy"] = check.remedy;
    list.push_back(std::move(item));
  }
  const nlohmann::ordered_json report = {{"healthy", healthy}, {"muster_version", MUSTER_VERSION}, {"checks", std::move(list)}};
  return report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

constexpr char kUsage[] = R"(usage: muster doctor [options]

Checks what this machine offers and what muster can promise on it, one line a check: ok, warn
(works, with less) or FAIL, with the remedy. Exit status 1 if one fails.

examples
  muster doctor
  muster doctor --json | jq .healthy
)";

FlagSet Declare(bool* json) {
  FlagSet flags("muster doctor");
  flags.Switch("--json", json, "one JSON object instead of lines");
  return flags;
}

}  // namespace

HelpPage DoctorPage() {
  bool unused = false;
  return {.before = kUsage, .flags = Declare(&unused).Describe()};
}

int DoctorCommand(const std::vector<std::string>& arguments) {
  bool json = false;
  FlagSet flags = Declare(&json);
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(DoctorPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  if (!rest->empty()) return UsageError(absl::StrCat("muster doctor takes no ", rest->front(), "; see `muster doctor --help`"));

  const std::vector<Check> checks = CheckMachine();
  const bool healthy =
      std::none_of(checks.begin(), checks.end(), [](const Check& check) { return check.level == CheckLevel::kFailure; });
  const int printed = Print(json ? Json(checks, healthy) : Lines(checks));
  if (printed != kExitOk) return printed;
  return healthy ? kExitOk : kExitCheckFailed;
}

}  // namespace muster

// muster checkpoint: what a checkpoint folder holds, and whether it is whole.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/job_text.h"
#include "launcher/cli/subcommand.h"
#include "launcher/process/exit_codes.h"
#include "runtime/base/status.h"
#include "runtime/checkpoint/load.h"

namespace muster {
namespace {

constexpr char kUsage[] = R"(usage: muster checkpoint ls [options] [DIR]
       muster checkpoint verify [DIR]

ls shows the checkpoints in DIR (here, if left out), oldest first: step, files, bytes, generation of the
writers, age, and state: complete; unfinished, a save that is going on or never ended; or damaged, when
its manifest is. It reads manifests only.
verify reads every byte and compares it with the manifest's checksums, one line a checkpoint. DIR may
also be one checkpoint. Exit status 65 if one is damaged, or none is complete.

examples
  muster checkpoint ls /data/words
  muster checkpoint verify /data/words            all of them
  muster checkpoint verify /data/words/step-400   one
)";

// What DIR means: a folder of checkpoints, or one of them.
struct Place {
  std::string folder;
  std::vector<CheckpointEntry> entries;
};

absl::StatusOr<Place> Look(const std::string& given) {
  FileSystem& files = PosixFileSystem();
  Place place{given, {}};
  while (place.folder.size() > 1 && place.folder.back() == '/') place.folder.pop_back();
  std::optional<int64_t> only;
  const size_t slash = place.folder.find_last_of('/');
  absl::string_view name = absl::string_view(place.folder).substr(slash == std::string::npos ? 0 : slash + 1);
  if (int64_t step = 0; absl::ConsumePrefix(&name, "step-") && absl::SimpleAtoi(name, &step)) {
    only = step;
    place.folder = slash == std::string::npos ? "." : slash == 0 ? "/" : place.folder.substr(0, slash);
  }
  if (const auto names = files.List(only ? given : place.folder); !names.ok()) {
    return Annotate(names.status(), "no checkpoints can be read; give the folder that the job wrote them to");
  }
  MUSTER_ASSIGN_OR_RETURN(place.entries, ListCheckpoints(files, place.folder));
  if (only) std::erase_if(place.entries, [&only](const CheckpointEntry& entry) { return entry.step != *only; });
  return place;
}

const char* State(const CheckpointEntry& entry) {
  return !entry.committed ? "unfinished" : entry.damage.ok() ? "complete" : "damaged";
}

std::string Table(const std::vector<CheckpointEntry>& entries) {
  std::string text =
      absl::StrFormat("%12s  %6s  %15s  %10s  %6s  %s\n", "STEP", "FILES", "BYTES", "GENERATION", "AGE", "STATE");
  for (const CheckpointEntry& entry : entries) {
    std::string files = "-", bytes = "-", generation = "-", age = "-";
    if (entry.content) {
      files = absl::StrCat(entry.files);
      bytes = absl::StrCat(entry.bytes);
      generation = absl::StrCat(entry.content->generation);
      age = Age(std::max(absl::Now() - absl::FromUnixMillis(entry.committed_unix_ms), absl::ZeroDuration()));
    }
    absl::StrAppendFormat(&text, "%12d  %6s  %15s  %10s  %6s  %s\n", entry.step, files, bytes, generation, age, State(entry));
  }
  return text;
}

std::string Json(const std::vector<CheckpointEntry>& entries) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const CheckpointEntry& entry : entries) {
    nlohmann::ordered_json item = {{"step", entry.step}, {"state", State(entry)}, {"folder", entry.path}};
    if (entry.content) {
      item["files"] = entry.files;
      item["bytes"] = entry.bytes;
      item["generation"] = entry.content->generation;
      item["job_id"] = entry.content->job_id;
      item["committed_unix_ms"] = entry.committed_unix_ms;
      item["attributes"] = entry.content->attributes;
    }
    if (!entry.damage.ok()) item["damage"] = entry.damage.message();
    list.push_back(std::move(item));
  }
  return list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

int List(const Place& place, bool json) {
  const int printed = Print(json ? Json(place.entries) : Table(place.entries));
  if (printed != kExitOk) return printed;
  if (place.entries.empty()) Say(absl::StrCat("no checkpoints in ", place.folder));
  for (const CheckpointEntry& entry : place.entries) {
    if (!entry.damage.ok()) Say(absl::StrCat("step ", entry.step, ": ", entry.damage.message()));
  }
  return kExitOk;
}

// Whether a job that goes on has removed it while it was read.
bool IsGone(const Place& place, int64_t step) {
  const auto now = ListCheckpoints(PosixFileSystem(), place.folder);
  return now.ok() && std::none_of(now->begin(), now->end(),
                                  [step](const CheckpointEntry& entry) { return entry.step == step && entry.committed; });
}

int Verify(const Place& place) {
  int complete = 0, damaged = 0;
  for (const CheckpointEntry& entry : place.entries) {
    std::string line = absl::StrCat("step-", entry.step, ": ");
    if (!entry.committed) {
      absl::StrAppend(&line, "unfinished: a save that is going on or never ended; it is not used");
    } else if (absl::Status status = VerifyCheckpoint(PosixFileSystem(), entry); status.ok()) {
      ++complete;
      absl::StrAppend(&line, "complete, ", entry.files, entry.files == 1 ? " file, " : " files, ", entry.bytes, " bytes");
    } else if (IsGone(place, entry.step)) {
      absl::StrAppend(&line, "removed meanwhile");
    } else {
      ++damaged;
      absl::StrAppend(&line, "damaged: ", status.message());
    }
    if (const int printed = Print(absl::StrCat(line, "\n")); printed != kExitOk) return printed;
  }
  if (damaged > 0) {
    Say(absl::StrCat(damaged, " of ", damaged + complete, " damaged in ", place.folder,
                     "; a job resumes from the newest complete one. Restore a damaged one from a copy, or remove its folder"));
    return kExitDamaged;
  }
  if (complete == 0) {
    Say(absl::StrCat("no complete checkpoint in ", place.folder));
    return kExitDamaged;
  }
  return kExitOk;
}

FlagSet Declare(const std::string& verb, bool* json) {
  FlagSet flags(verb.empty() ? "muster checkpoint" : absl::StrCat("muster checkpoint ", verb));
  if (verb != "verify") {
    flags.Switch("--json", json,
                 "of ls: a JSON array of objects: step, state, folder, files,\nbytes, generation, job_id, committed_unix_ms, "
                 "attributes, damage");
  }
  return flags;
}

}  // namespace

HelpPage CheckpointPage() {
  bool unused = false;
  return {.before = kUsage, .flags = Declare("", &unused).Describe(), .operand = Operand::kFolder, .words = {"ls", "verify"}};
}

int CheckpointCommand(const std::vector<std::string>& arguments) {
  const std::string verb = arguments.empty() ? "" : arguments[0];
  const bool lists = verb == "ls", verifies = verb == "verify";
  bool json = false;
  FlagSet flags = Declare(lists || verifies ? verb : "", &json);
  const auto rest = flags.Parse({arguments.begin() + (lists || verifies ? 1 : 0), arguments.end()});
  if (flags.help_wanted()) return Print(HelpText(CheckpointPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  if (!lists && !verifies) {
    return UsageError(
        absl::StrCat(verb.empty() ? "muster checkpoint needs a word" : absl::StrCat("muster checkpoint knows no ", verb),
                     ": ls or verify; see `muster checkpoint --help`"));
  }
  if (rest->size() > 1)
    return UsageError(absl::StrCat("muster checkpoint ", verb, " takes one folder, not also ", rest->at(1)));
  const auto place = Look(rest->empty() ? "." : rest->front());
  if (!place.ok()) return UsageError(place.status().message());
  return lists ? List(*place, json) : Verify(*place);
}

}  // namespace muster

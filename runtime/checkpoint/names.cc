#include "runtime/checkpoint/names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

constexpr char kStep[] = "step-";
constexpr char kManifestToBe[] = "manifest";
constexpr char kDataFile[] = ".safetensors";

std::string Prefix(const SaveName& save) { return absl::StrFormat("g%d-%08x-", save.generation, save.save_id); }

// Takes digits only, so that a number has one name.
template <typename Number>
bool ParseDigits(absl::string_view text, Number* number) {
  for (const char digit : text) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(digit))) return false;
  }
  return absl::SimpleAtoi(text, number);
}

}  // namespace

std::string TrimFolder(absl::string_view folder) {
  while (folder.size() > 1 && absl::EndsWith(folder, "/")) folder.remove_suffix(1);
  return std::string(folder);
}

std::string ParentFolder(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : TrimFolder(path.substr(0, slash));
}

std::string StepFolderName(int64_t step) { return absl::StrCat(kStep, step); }

std::optional<int64_t> StepOfFolderName(absl::string_view name) {
  int64_t step = 0;
  absl::string_view digits = name;
  if (!absl::ConsumePrefix(&digits, kStep) || !ParseDigits(digits, &step) || StepFolderName(step) != name) return std::nullopt;
  return step;
}

std::string StepFolder(const std::string& folder, int64_t step) {
  return absl::StrCat(TrimFolder(folder) == "/" ? "" : TrimFolder(folder), "/", StepFolderName(step));
}

SaveName SaveOf(const CheckpointContent& content) { return {content.generation, content.save_id}; }

std::string ManifestToBeName(const SaveName& save) { return absl::StrCat(Prefix(save), kManifestToBe); }

std::string DataFileName(const SaveName& save, int index) {
  return absl::StrFormat("%s%05d%s", Prefix(save), index, kDataFile);
}

std::optional<SaveFile> ParseSaveFileName(absl::string_view name) {
  SaveFile file;
  absl::string_view rest = name;
  const size_t dash = rest.find('-');
  if (!absl::ConsumePrefix(&rest, "g") || dash == absl::string_view::npos || rest.size() < dash + 9) return std::nullopt;
  if (!ParseDigits(rest.substr(0, dash - 1), &file.save.generation)) return std::nullopt;
  if (!absl::SimpleHexAtoi(rest.substr(dash, 8), &file.save.save_id)) return std::nullopt;
  rest.remove_prefix(dash + 8);
  if (absl::ConsumeSuffix(&rest, kDataFile) && absl::ConsumePrefix(&rest, "-")) {
    int index = 0;
    if (!ParseDigits(rest, &index)) return std::nullopt;
    file.index = index;
  }
  // One name each: whatever else was accepted above is none of ours.
  const std::string canonical = file.index ? DataFileName(file.save, *file.index) : ManifestToBeName(file.save);
  if (canonical != name) return std::nullopt;
  return file;
}

}  // namespace muster

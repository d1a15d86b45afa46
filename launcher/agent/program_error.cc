#include "launcher/agent/program_error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/base/fd.h"

namespace muster {
namespace {

using Json = nlohmann::json;

bool ContinuesCharacter(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

// The first line of `text`, what is no character of a line made a space.
std::string OneLine(absl::string_view text) {
  text = absl::StripLeadingAsciiWhitespace(text);
  text = absl::StripTrailingAsciiWhitespace(text.substr(0, text.find_first_of("\r\n")));
  std::string line(text.substr(0, kProgramErrorBytesMax));
  if (text.size() > line.size()) {
    size_t end = line.size();
    while (end > 0 && ContinuesCharacter(text[end])) --end;
    line = absl::StrCat(line.substr(0, end), "...");
  }
  for (char& byte : line) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(byte))) byte = ' ';
  }
  return line;
}

std::string EndOf(const std::string& text) {
  if (text.size() <= kProgramTraceBytesMax) return text;
  size_t begin = text.size() - kProgramTraceBytesMax;
  while (begin < text.size() && ContinuesCharacter(text[begin])) ++begin;
  return absl::StrCat("...", text.substr(begin));
}

// A library's own depths say less than the line of the program that called it.
bool IsOfALibrary(absl::string_view path) {
  return absl::StrContains(path, "/dist-packages/") || absl::StrContains(path, "/site-packages/") ||
         absl::StrContains(path, "/lib/python") || absl::StartsWith(path, "<");
}

// " (train.py, line 41)": the innermost call of a Python traceback that is the program's own; empty where it does not tell.
std::string InnermostCall(absl::string_view trace) {
  std::string place;
  bool is_own = false;
  for (absl::string_view line : absl::StrSplit(trace, '\n')) {
    line = absl::StripLeadingAsciiWhitespace(line);
    if (!absl::StartsWith(line, "File \"")) continue;
    const std::vector<absl::string_view> parts = absl::StrSplit(line.substr(6), absl::MaxSplits("\", line ", 1));
    if (parts.size() < 2) continue;
    const size_t slash = parts[0].rfind('/');
    const absl::string_view name = slash == absl::string_view::npos ? parts[0] : parts[0].substr(slash + 1);
    const absl::string_view number = parts[1].substr(0, parts[1].find_first_not_of("0123456789"));
    const bool own = !IsOfALibrary(parts[0]);
    if (name.empty() || number.empty() || number.size() > 9 || (is_own && !own)) continue;
    is_own = own;
    place = OneLine(absl::StrCat("(", name, ", line ", number, ")"));
  }
  return place.empty() ? "" : absl::StrCat(" ", place);
}

// Between two of these Open MPI says that MPI_Abort was called, which mpi4py does after the traceback.
bool IsRule(absl::string_view line) {
  constexpr size_t kCharactersMin = 40;
  line = absl::StripAsciiWhitespace(line);
  return line.size() >= kCharactersMin && line.find_first_not_of('-') == absl::string_view::npos;
}

std::string TextOf(const Json& object, const char* name) {
  if (!object.is_object()) return "";
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

std::string ProgramErrorFile(const std::string& temporary_folder, uint32_t rank) {
  return absl::StrCat(temporary_folder, "/error-of-rank-", rank, ".json");
}

std::optional<ProgramError> ParseProgramError(absl::string_view text) {
  const Json file = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!file.is_object() || !file.contains("message")) return std::nullopt;
  const Json& message = file["message"];
  std::string said, trace;
  if (message.is_string()) {
    said = message.get<std::string>();
  } else if (message.is_object()) {
    said = TextOf(message, "message");
    if (message.contains("extraInfo")) trace = TextOf(message["extraInfo"], "py_callstack");
  }
  ProgramError error;
  error.error = OneLine(said);
  if (error.error.empty()) return std::nullopt;
  absl::StrAppend(&error.error, InnermostCall(trace));
  error.trace = EndOf(trace);
  return error;
}

std::optional<ProgramError> ParseTraceback(absl::string_view text) {
  constexpr absl::string_view kBegin = "Traceback (most recent call last):";
  constexpr int kLinesAfterMax = 5;  // of threads and libraries that end with the interpreter
  const size_t begin = text.rfind(kBegin);
  if (begin == absl::string_view::npos) return std::nullopt;
  const size_t line_begin = text.substr(0, begin).rfind('\n') + 1;  // 0 where there is none
  const absl::string_view prefix = text.substr(line_begin, begin - line_begin);
  ProgramError error;
  std::string said;
  int after = 0;
  bool in_box = false;
  for (absl::string_view line : absl::StrSplit(text.substr(line_begin), '\n')) {
    absl::ConsumePrefix(&line, prefix);
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    if (said.empty()) absl::StrAppend(&error.trace, line, "\n");
    if (line == kBegin || absl::ascii_isspace(static_cast<unsigned char>(line[0]))) continue;
    if (!said.empty() && IsRule(line)) {
      in_box = !in_box;
      continue;
    }
    if (!said.empty() && !in_box && ++after > kLinesAfterMax) return std::nullopt;
    if (said.empty()) said = OneLine(line);
  }
  if (said.empty()) return std::nullopt;
  error.error = absl::StrCat(said, InnermostCall(error.trace));
  error.trace = EndOf(error.trace);
  return error;
}

void ErrorTails::Add(uint32_t rank, absl::string_view text) {
  constexpr size_t kKept = 2 * kProgramTraceBytesMax;
  std::string& tail = tails_[rank];
  if (text.size() >= kKept) tail.clear();
  absl::StrAppend(&tail, text.substr(text.size() - std::min(text.size(), kKept)));
  // Now and then, so that short lines are not moved each time.
  if (tail.size() > 2 * kKept) tail.erase(0, tail.size() - kKept);
}

absl::string_view ErrorTails::Of(uint32_t rank) const {
  const auto tail = tails_.find(rank);
  return tail == tails_.end() ? absl::string_view() : absl::string_view(tail->second);
}

std::optional<ProgramError> ReadProgramError(const std::string& file) {
  // Whatever stands there in the file's stead must not hold us up.
  UniqueFd source(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status = {};
  if (!source || ::fstat(source.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  std::string text(kProgramErrorFileBytesMax + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t bytes = ::read(source.get(), text.data() + size, text.size() - size);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return std::nullopt;
    if (bytes == 0) break;
    size += static_cast<size_t>(bytes);
  }
  if (size > kProgramErrorFileBytesMax) return std::nullopt;
  return ParseProgramError(absl::string_view(text).substr(0, size));
}

}  // namespace muster

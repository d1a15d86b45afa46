#include "launcher/agent/output_pattern.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr absl::string_view kLetters = "rRhjgs%";

std::string Expand(absl::string_view text, const OutputPattern::Place& place) {
  std::string path;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || i + 1 == text.size()) {
      path += text[i];
      continue;
    }
    const std::string rank = absl::StrCat(place.rank);
    switch (text[++i]) {
      case 'R':
        if (const auto digits = static_cast<size_t>(RankDigits(place.ranks)); rank.size() < digits) {
          path.append(digits - rank.size(), '0');
        }
        [[fallthrough]];
      case 'r':
        path += rank;
        break;
      case 'h':
        path += place.host;
        break;
      case 'j':
        path += place.job_id;
        break;
      case 'g':
        absl::StrAppend(&path, place.generation);
        break;
      case 's':
        path += place.which == OutputStream::kStdout ? "stdout" : "stderr";
        break;
      default:
        path += text[i];
    }
  }
  return path;
}

struct Qualifiers {
  bool no_copy = false, no_job_id = false;
};

// Takes ":nocopy,nojobid" from the end of `text`. What follows another ':' is part of a name, unless it is nearly a qualifier.
absl::Status TakeQualifiers(absl::string_view* text, Qualifiers* found) {
  const std::vector<std::string> known = {"nocopy", "nojobid"};
  for (size_t colon = text->rfind(':'); colon != absl::string_view::npos; colon = text->rfind(':')) {
    const std::vector<std::string> words = absl::StrSplit(text->substr(colon + 1), ',');
    for (const std::string& word : words) {
      if (std::find(known.begin(), known.end(), word) != known.end()) continue;
      const std::string nearest = NearestName(word, known);
      if (nearest.empty()) return absl::OkStatus();
      return absl::InvalidArgumentError(absl::StrCat("there is no :", word, "; did you mean :", nearest, "?"));
    }
    for (const std::string& word : words) (word == "nocopy" ? found->no_copy : found->no_job_id) = true;
    text->remove_suffix(text->size() - colon);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OutputPattern> OutputPattern::Parse(absl::string_view text, absl::string_view folder) {
  const absl::string_view typed = text;
  Qualifiers qualifiers;
  MUSTER_RETURN_IF_ERROR(TakeQualifiers(&text, &qualifiers));
  if (text.empty()) return absl::InvalidArgumentError("names no folder; write a folder, or a pattern such as logs/%r.log");
  const bool is_pattern = absl::StrContains(text, '%');
  for (size_t i = text.find('%'); i != absl::string_view::npos; i = text.find('%', i + 2)) {
    if (i + 1 < text.size() && absl::StrContains(kLetters, text[i + 1])) continue;
    return absl::InvalidArgumentError(absl::StrCat("there is no ", text.substr(i, 2),
                                                   "; there are %r rank, %R rank with leading zeros, %h host, %j job id, %g "
                                                   "generation, %s stdout or stderr, and %% for a %"));
  }
  if (is_pattern && qualifiers.no_job_id) {
    return absl::InvalidArgumentError(":nojobid is about mpirun's folder 1, which a pattern does not have; leave it out");
  }
  if (is_pattern && absl::EndsWith(text, "/")) {
    return absl::InvalidArgumentError(absl::StrCat(typed, " names a folder; add a file name such as %r.log"));
  }
  std::string path(text);
  if (!absl::StartsWith(path, "/")) {
    // A % of the folder we are in is no pattern.
    std::string escaped;
    for (const char c : folder) escaped.append(c == '%' ? 2 : 1, c);
    path = absl::StrCat(escaped, absl::EndsWith(escaped, "/") ? "" : "/", path);
  }
  if (!is_pattern) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    absl::StrAppend(&path, qualifiers.no_job_id ? "" : "/1", "/rank.%R/%s");
  }
  OutputPattern pattern(std::move(path));
  pattern.files_only_ = qualifiers.no_copy;
  return pattern;
}

bool OutputPattern::has(char letter) const {
  for (size_t i = text_.find('%'); i != std::string::npos && i + 1 < text_.size(); i = text_.find('%', i + 2)) {
    if (text_[i + 1] == letter || (letter == 'r' && text_[i + 1] == 'R')) return true;
  }
  return false;
}

std::string OutputPattern::Path(const Place& place) const { return Expand(text_, place); }

std::string OutputPattern::CommonFolder(const Place& place) const {
  const absl::string_view text = text_;
  size_t end = 0;  // of what is common, at a '/'
  for (size_t next = text.find('/', 1); next != absl::string_view::npos; next = text.find('/', next + 1)) {
    const OutputPattern part(std::string(text.substr(end, next - end)));
    if (part.has('r') || part.has('g') || part.has('s')) break;
    end = next;
  }
  return end == 0 ? "/" : Expand(text.substr(0, end), place);
}

}  // namespace muster

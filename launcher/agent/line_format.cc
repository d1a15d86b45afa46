#include "launcher/agent/line_format.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace muster {

int RankDigits(uint32_t ranks) {
  int digits = 1;
  for (uint32_t greatest = std::max(ranks, 1u) - 1; greatest >= 10; greatest /= 10) ++digits;
  return digits;
}

// Without red, which means an error to most readers, and without black and white, one of which is the background.
absl::string_view RankColor(uint32_t rank) {
  static constexpr absl::string_view kColors[] = {"\033[36m", "\033[33m", "\033[32m", "\033[35m", "\033[34m",
                                                  "\033[96m", "\033[93m", "\033[92m", "\033[95m", "\033[94m"};
  return kColors[rank % std::size(kColors)];
}

const std::string& LineFormat::TimeText(absl::Time when, bool as_mpirun) {
  const int64_t ms = absl::ToUnixMillis(when), shown = as_mpirun ? ms - ms % 1000 : ms;
  if (shown == time_ms_) return time_text_;
  time_text_ = absl::FormatTime(as_mpirun ? "%a %b %e %H:%M:%S %Y" : "%Y-%m-%dT%H:%M:%E3S", absl::FromUnixMillis(shown), zone_);
  time_ms_ = shown;
  return time_text_;
}

std::string LineFormat::Mark(uint32_t rank, OutputStream which, absl::string_view host, absl::Time when) {
  const bool as_mpirun = !marks_.rank && !marks_.host;
  std::string mark(color_ ? RankColor(rank) : "");
  if (marks_.timestamp) absl::StrAppend(&mark, TimeText(when, as_mpirun));
  if (as_mpirun) {
    if (marks_.tag) absl::StrAppend(&mark, "[1,", rank, "]");
    absl::StrAppend(&mark, which == OutputStream::kStdout ? "<stdout>:" : "<stderr>:");
  } else {
    if (marks_.timestamp) mark += ' ';
    const std::string number = marks_.rank ? absl::StrCat(rank) : "";
    const auto width = static_cast<size_t>(RankDigits(marks_.ranks));
    if (marks_.rank && number.size() < width) mark.append(width - number.size(), ' ');
    absl::StrAppend(&mark, number, marks_.rank && marks_.host ? " " : "", marks_.host ? host : "", ":");
  }
  if (color_) absl::StrAppend(&mark, kColorEnd);
  if (!as_mpirun) mark += ' ';
  return mark;
}

void LineFormat::Append(uint32_t rank, OutputStream which, absl::string_view host, absl::Time when, absl::string_view lines,
                        std::string* out, size_t line_bytes_max) {
  const std::string mark = Mark(rank, which, host, when);
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    const size_t length = std::min(end, line_bytes_max);
    out->append(mark).append(lines.data(), length).push_back('\n');
    lines.remove_prefix(length);
    if (length == end && !lines.empty()) lines.remove_prefix(1);
  }
}

}  // namespace muster

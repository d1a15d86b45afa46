#include "launcher/cli/rank_list.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace muster {

absl::StatusOr<RankList> RankList::Parse(absl::string_view text) {
  constexpr int64_t kRankMax = int64_t{1} << 31;
  RankList list;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    const absl::string_view last_text = ends.second.data() == nullptr || ends.second.empty() ? ends.first : ends.second;
    const bool digits = !part.empty() && absl::ascii_isdigit(static_cast<unsigned char>(part.front())) &&
                        absl::ascii_isdigit(static_cast<unsigned char>(part.back()));
    int64_t first = 0, last = 0;
    if (!digits || !absl::SimpleAtoi(ends.first, &first) || !absl::SimpleAtoi(last_text, &last) || first > last ||
        last > kRankMax) {
      return absl::InvalidArgumentError(absl::StrCat("\"", part, "\" is no rank; write ranks and ranges such as 3 or 0,2-5"));
    }
    list.ranges_.emplace_back(first, last);
  }
  return list;
}

bool RankList::contains(int64_t rank) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [rank](const auto& range) { return rank >= range.first && rank <= range.second; });
}

int64_t RankList::greatest() const {
  int64_t greatest = 0;
  for (const auto& range : ranges_) greatest = std::max(greatest, range.second);
  return greatest;
}

}  // namespace muster

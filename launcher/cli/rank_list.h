// Ranks as people list them: 0,2-5.
#ifndef MUSTER_LAUNCHER_CLI_RANK_LIST_H_
#define MUSTER_LAUNCHER_CLI_RANK_LIST_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

class RankList {
 public:
  // "3", "0,2-5". Errors: InvalidArgument, which names the part that is wrong.
  static absl::StatusOr<RankList> Parse(absl::string_view text);

  bool contains(int64_t rank) const;
  int64_t greatest() const;
  // Whether it names one rank.
  bool is_single() const { return ranges_.size() == 1 && ranges_[0].first == ranges_[0].second; }

 private:
  std::vector<std::pair<int64_t, int64_t>> ranges_;  // first and last
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RANK_LIST_H_

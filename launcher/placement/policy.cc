#include "launcher/placement/policy.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

struct Word {
  const char* name;
  PlacementLevel level;
};
constexpr Word kWords[] = {
    {"none", PlacementLevel::kNone},       {"slot", PlacementLevel::kSlot},         {"node", PlacementLevel::kNode},
    {"package", PlacementLevel::kPackage}, {"socket", PlacementLevel::kPackage},    {"numa", PlacementLevel::kNuma},
    {"l3cache", PlacementLevel::kL3Cache}, {"l2cache", PlacementLevel::kL2Cache},   {"l1cache", PlacementLevel::kL1Cache},
    {"core", PlacementLevel::kCore},       {"hwthread", PlacementLevel::kHwthread},
};

// `usable`: which levels the flag takes.
template <typename Usable>
absl::StatusOr<PlacementLevel> LevelOf(absl::string_view flag, absl::string_view value, absl::string_view name, Usable usable) {
  std::vector<std::string> names;
  for (const Word& word : kWords) {
    if (!usable(word.level)) continue;
    if (absl::EqualsIgnoreCase(word.name, name)) return word.level;
    names.push_back(word.name);
  }
  return absl::InvalidArgumentError(absl::StrCat(flag, " ", value, ": '", name, "' is none of ", absl::StrJoin(names, ", ")));
}

absl::Status Modifier(absl::string_view flag, absl::string_view value, absl::string_view modifier, absl::string_view known) {
  return absl::InvalidArgumentError(absl::StrCat(flag, " ", value, ": '", modifier, "' is no modifier; ", known));
}

bool TakeCount(absl::string_view text, uint32_t* count) {
  return absl::SimpleAtoi(text, count) && *count >= 1 && *count <= 100'000;
}

}  // namespace

const char* LevelName(PlacementLevel level) {
  for (const Word& word : kWords) {
    if (word.level == level) return word.name;
  }
  return "none";
}

absl::Status ParseMapBy(absl::string_view value, PlacementPolicy* policy) {
  constexpr char kFlag[] = "--map-by";
  std::vector<std::string> words = absl::StrSplit(value, ':');
  size_t next = 1;
  const auto usable = [](PlacementLevel level) { return level != PlacementLevel::kNone; };
  if (absl::EqualsIgnoreCase(words[0], "ppr")) {
    if (words.size() < 3 || !TakeCount(words[1], &policy->per_object)) {
      return absl::InvalidArgumentError(
          absl::StrCat(kFlag, " ", value, ": a pattern is ppr:N:OBJECT, N ranks on each object, such as ppr:2:package"));
    }
    const auto object = [](PlacementLevel level) { return level > PlacementLevel::kSlot; };
    MUSTER_ASSIGN_OR_RETURN(policy->map_by, LevelOf(kFlag, value, words[2], object));
    next = 3;
  } else if (!words[0].empty()) {
    MUSTER_ASSIGN_OR_RETURN(policy->map_by, LevelOf(kFlag, value, words[0], usable));
  }
  // Modifiers are separated by commas, and by colons as users of later versions write them.
  for (; next < words.size(); ++next) {
    for (const absl::string_view modifier : absl::StrSplit(words[next], ',')) {
      const std::string upper = absl::AsciiStrToUpper(modifier);
      if (upper == "SPAN") {
        policy->span = true;
      } else if (upper == "OVERSUBSCRIBE") {
        policy->oversubscribe = true;
      } else if (upper == "NOOVERSUBSCRIBE") {
        policy->oversubscribe = false;
      } else if (upper.starts_with("PE=")) {
        if (!TakeCount(upper.substr(3), &policy->cpus_per_rank)) {
          return absl::InvalidArgumentError(
              absl::StrCat(kFlag, " ", value, ": PE=N is processors for each rank, such as PE=2"));
        }
      } else {
        return Modifier(kFlag, value, modifier, "it takes PE=N, SPAN, OVERSUBSCRIBE and NOOVERSUBSCRIBE");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ParseRankBy(absl::string_view value, PlacementPolicy* policy) {
  constexpr char kFlag[] = "--rank-by";
  const std::pair<std::string, std::string> parts = absl::StrSplit(value, absl::MaxSplits(':', 1));
  MUSTER_ASSIGN_OR_RETURN(
      policy->rank_by, LevelOf(kFlag, value, parts.first, [](PlacementLevel level) { return level != PlacementLevel::kNone; }));
  const std::string upper = absl::AsciiStrToUpper(parts.second);
  policy->rank_span = upper == "SPAN";
  policy->rank_fill = upper == "FILL";
  if (!upper.empty() && !policy->rank_span && !policy->rank_fill)
    return Modifier(kFlag, value, parts.second, "it takes SPAN and FILL");
  return absl::OkStatus();
}

absl::Status ParseBindTo(absl::string_view value, PlacementPolicy* policy) {
  constexpr char kFlag[] = "--bind-to";
  const std::vector<std::string> words = absl::StrSplit(value, absl::ByAnyChar(":,"));
  if (!words[0].empty()) {
    MUSTER_ASSIGN_OR_RETURN(policy->bind_to, LevelOf(kFlag, value, words[0], [](PlacementLevel level) {
                              return level != PlacementLevel::kSlot && level != PlacementLevel::kNode;
                            }));
  }
  for (size_t i = 1; i < words.size(); ++i) {
    if (absl::EqualsIgnoreCase(words[i], "overload-allowed")) {
      policy->overload_allowed = true;
    } else if (absl::EqualsIgnoreCase(words[i], "if-supported")) {
      policy->if_supported = true;
    } else {
      return Modifier(kFlag, value, words[i], "it takes overload-allowed and if-supported");
    }
  }
  return absl::OkStatus();
}

}  // namespace muster

#include "launcher/cli/help_page.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace muster {

std::string HelpText(const HelpPage& page) {
  std::string text = page.before;
  if (std::any_of(page.flags.begin(), page.flags.end(), [](const FlagDescription& flag) { return !flag.without_effect; })) {
    const bool grouped = page.flags.front().heading.empty();
    absl::StrAppend(&text, grouped ? "\noptions\n" : "", FlagsText(page.flags));
  }
  if (!page.after.empty()) absl::StrAppend(&text, "\n", page.after);
  return text;
}

}  // namespace muster

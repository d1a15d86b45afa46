// The manual: a help page as a page of man(7), so that both are made from one source.
#ifndef MUSTER_LAUNCHER_CLI_MAN_PAGE_H_
#define MUSTER_LAUNCHER_CLI_MAN_PAGE_H_

#include <string>
#include <vector>

#include "launcher/cli/help_page.h"

namespace muster {

// What stands at the head and foot of each page.
struct ManualEdition {
  std::string version;
  std::string date;  // YYYY-MM-DD
};

// muster-COMMAND.1. `others` are the names of all commands, for "see also".
std::string CommandManual(const CommandPage& command, const std::vector<std::string>& others, const ManualEdition& edition);

// muster.1: `overview` is what `muster --help` says (written as help_page.h tells), with one line for each command.
std::string OverviewManual(const HelpPage& overview, const std::vector<CommandPage>& commands, const ManualEdition& edition);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_MAN_PAGE_H_

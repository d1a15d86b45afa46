// muster help and muster completion: what is made from the pages of all commands.
#ifndef MUSTER_LAUNCHER_CLI_HELP_COMMAND_H_
#define MUSTER_LAUNCHER_CLI_HELP_COMMAND_H_

#include <string>
#include <vector>

#include "launcher/cli/help_page.h"

namespace muster {

HelpPage HelpCommandPage();
HelpPage CompletionCommandPage();

// muster help [--man] [COMMAND]; --man-folder FOLDER writes every page there. `overview` is what `muster --help` says.
int HelpCommand(const std::vector<CommandPage>& commands, const HelpPage& overview, const std::vector<std::string>& arguments);
// muster completion SHELL; `muster completion --words WORD...` is what the scripts ask.
int CompletionCommand(const std::vector<CommandPage>& commands, const std::vector<std::string>& arguments);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_HELP_COMMAND_H_

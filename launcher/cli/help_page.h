// What a command says of itself: `--help`, the manual and completion are made from this.
#ifndef MUSTER_LAUNCHER_CLI_HELP_PAGE_H_
#define MUSTER_LAUNCHER_CLI_HELP_PAGE_H_

#include <string>
#include <vector>

#include "launcher/cli/flags.h"

namespace muster {

// What may stand on the command line beside flags.
enum class Operand { kNone, kJob, kProgram, kFolder, kFile, kCommand, kShell };

// A page is written as it is shown, in plain text: first "usage: ..." lines, then paragraphs, then blocks, each of a heading (a line
// in lower case, at the left edge) and lines indented by two spaces; an empty line stands between all of these.
struct HelpPage {
  std::string before;  // usage, what the command does, examples; ends with '\n'
  std::vector<FlagDescription> flags;
  std::string after = "";  // shown below the flags: what else should be known, exit status
  Operand operand = Operand::kNone;
  std::vector<std::string> words = {};  // that may stand first: "ls", "verify"
};

// `--help`.
std::string HelpText(const HelpPage& page);

// A subcommand with what all of muster's help says of it.
struct CommandPage {
  std::string name;     // "run"
  std::string summary;  // half a line, no full stop
  HelpPage page;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_HELP_PAGE_H_

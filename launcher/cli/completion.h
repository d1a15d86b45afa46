// Completion of a command line in bash, zsh and fish.
//
// A shell's script is a few lines that ask `muster completion --words WORD...`, so what is offered is always what this very muster
// knows. The rules are here, pure; the scripts carry them out.
#ifndef MUSTER_LAUNCHER_CLI_COMPLETION_H_
#define MUSTER_LAUNCHER_CLI_COMPLETION_H_

#include <cstddef>
#include <string>
#include <vector>

#include "launcher/cli/help_page.h"

namespace muster {

struct Candidate {
  std::string word;
  std::string description;  // one line; may be empty
};

struct Completion {
  enum class Also { kNothing, kFiles, kFolders, kProgram };
  std::vector<Candidate> words;  // all begin with what was typed
  Also also = Also::kNothing;    // what the shell adds from what it knows itself
  size_t program = 0;            // kProgram: the index of the program among the words
};

// What the last of `words` may become. words[0] is muster itself; the last is what has been typed so far, "" if nothing. A value
// after '=' may be one word with its flag or, as bash cuts lines, a word of its own after "=". `jobs` are the ids that exist.
Completion Complete(const std::vector<CommandPage>& commands, const std::vector<std::string>& words,
                    const std::vector<Candidate>& jobs);

// The answer to a shell: a line "words", "files", "folders" or "program N", then a line "WORD\tDESCRIPTION" each.
std::string CompletionText(const Completion& completion);

// The script for "bash", "zsh" or "fish"; empty for another name.
std::string CompletionScript(const std::string& shell);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_COMPLETION_H_

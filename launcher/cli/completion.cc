#include "launcher/cli/completion.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

std::string BareName(absl::string_view typed) {
  return absl::StrReplaceAll(absl::StripPrefix(absl::StripPrefix(typed, "-"), "-"), {{"_", "-"}});
}

const FlagDescription* Find(const std::vector<FlagDescription>& flags, absl::string_view typed) {
  const std::string bare = BareName(typed);
  for (const FlagDescription& flag : flags) {
    for (const std::string& name : flag.names) {
      if (BareName(name) == bare) return &flag;
    }
  }
  return nullptr;
}

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

class Completer {
 public:
  Completer(const std::vector<CommandPage>& commands, const std::vector<Candidate>& jobs, std::string typed)
      : commands_(commands), jobs_(jobs), typed_(std::move(typed)) {}

  void Commands() {
    for (const CommandPage& command : commands_) Offer(command.name, command.summary);
  }

  // What may follow `before`, the complete words after the command's name, of which the first is words[2].
  void AfterCommand(const CommandPage& command, const std::vector<std::string>& before) {
    size_t i = 0, operands = 0;
    while (i < before.size()) {
      const std::string& word = before[i];
      const bool ends = word == "--";
      if (ends || !absl::StartsWith(word, "-") || word == "-") {
        if (command.page.operand == Operand::kProgram) return Program(i + (ends ? 1 : 0));
        ++operands;
        ++i;
        continue;
      }
      const FlagDescription* flag = Find(command.page.flags, word.substr(0, word.find('=')));
      if (flag == nullptr || flag->value_name.empty() || absl::StrContains(word, '=')) {
        ++i;
        continue;
      }
      ++i;
      if (i < before.size() && before[i] == "=") ++i;
      if (i >= before.size()) return Value(*flag, typed_ == "=" ? "=" : "");
      ++i;
    }
    if (const size_t equals = typed_.find('='); absl::StartsWith(typed_, "-") && equals != std::string::npos) {
      const FlagDescription* flag = Find(command.page.flags, typed_.substr(0, equals));
      if (flag != nullptr) Value(*flag, typed_.substr(0, equals + 1));
      return;
    }
    if (absl::StartsWith(typed_, "-")) return Flags(command.page.flags);
    Operands(command.page, operands, before.size());
  }

  Completion Take() { return std::move(completion_); }

 private:
  void Offer(const std::string& word, const std::string& description) {
    if (absl::StartsWith(word, typed_)) completion_.words.push_back({word, FirstLine(description)});
  }

  void Flags(const std::vector<FlagDescription>& flags) {
    for (const FlagDescription& flag : flags) {
      if (flag.without_effect && typed_.size() < 3) continue;
      for (const std::string& name : flag.names) Offer(name, flag.help);
    }
    Offer("--help", "what the command does, its options and examples");
  }

  void Value(const FlagDescription& flag, const std::string& written) {
    const std::string before = written == "=" ? "" : written;
    if (written == "=") typed_.clear();  // bash: nothing of the value is there yet
    for (const std::string& choice : flag.choices) Offer(before + choice, "");
    if (absl::EndsWith(flag.value_name, "FILE")) completion_.also = Completion::Also::kFiles;
    if (flag.value_name == "FOLDER" || flag.value_name == "DIR") completion_.also = Completion::Also::kFolders;
  }

  // The program's own words begin behind the command's name; `index` counts from there.
  void Program(size_t index) {
    completion_.also = Completion::Also::kProgram;
    completion_.program = index + 2;
  }

  void Operands(const HelpPage& page, size_t operands, size_t index) {
    if (operands == 0) {
      for (const std::string& word : page.words) Offer(word, "");
    }
    if (operands < (page.words.empty() ? 1u : 2u) && (page.words.empty() || operands > 0)) OfferOperand(page.operand, index);
    if (typed_.empty() && completion_.words.empty() && completion_.also == Completion::Also::kNothing) Flags(page.flags);
  }

  void OfferOperand(Operand operand, size_t index) {
    switch (operand) {
      case Operand::kNone:
        return;
      case Operand::kJob:
        for (const Candidate& job : jobs_) Offer(job.word, job.description);
        return;
      case Operand::kProgram:
        return Program(index);
      case Operand::kFile:
        completion_.also = Completion::Also::kFiles;
        return;
      case Operand::kFolder:
        completion_.also = Completion::Also::kFolders;
        return;
      case Operand::kCommand:
        return Commands();
      case Operand::kShell:
        for (const char* shell : {"bash", "zsh", "fish"}) Offer(shell, "");
        return;
    }
  }

  const std::vector<CommandPage>& commands_;
  const std::vector<Candidate>& jobs_;
  std::string typed_;
  Completion completion_;
};

constexpr char kBash[] = R"(# bash completion of muster; made by `muster completion bash`.
_muster() {
  local current=${COMP_WORDS[COMP_CWORD]} answer kind line
  mapfile -t answer < <("${COMP_WORDS[0]/#\~/$HOME}" completion --words "${COMP_WORDS[@]:0:COMP_CWORD+1}" 2>/dev/null)
  COMPREPLY=()
  kind=${answer[0]-}
  for line in "${answer[@]:1}"; do COMPREPLY+=("${line%%$'\t'*}"); done
  [[ $current != "=" ]] || current=""
  case $kind in
    files) compopt -o filenames 2>/dev/null; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current") ;;
    folders) compopt -o filenames 2>/dev/null; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$current") ;;
    program*)
      if declare -F _command_offset >/dev/null; then
        _command_offset "${kind#program }"
      elif [[ ${kind#program } == "$COMP_CWORD" && $current != */* ]]; then
        mapfile -t COMPREPLY < <(compgen -c -- "$current"; compgen -f -- "$current")
      else
        compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current")
      fi ;;
  esac
}
complete -F _muster muster
)";

constexpr char kZsh[] = R"(#compdef muster
# zsh completion of muster; made by `muster completion zsh`.
_muster() {
  local -a answer offered
  local kind line
  answer=("${(@f)$("${(Q)words[1]/#\~/$HOME}" completion --words "${(@Q)words[1,CURRENT]}" 2>/dev/null)}")
  kind=${answer[1]}
  for line in "${(@)answer[2,-1]}"; do
    offered+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
  done
  (( $#offered )) && _describe -o muster offered
  case $kind in
    files) [[ -prefix *= ]] && compset -P '*='; _files ;;
    folders) [[ -prefix *= ]] && compset -P '*='; _files -/ ;;
    program*)
      # Words in zsh count from 1.
      (( CURRENT -= ${kind#program } ))
      shift ${kind#program } words
      _normal ;;
  esac
}
if [[ $funcstack[1] == _muster ]]; then _muster "$@"; else compdef _muster muster; fi
)";

constexpr char kFish[] = R"(# fish completion of muster; made by `muster completion fish`.
function __muster_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l answer (command $words[1] completion --words $words "$current" 2>/dev/null)
    test (count $answer) -gt 0; or return
    test (count $answer) -eq 1; or printf '%s\n' $answer[2..-1]
    switch $answer[1]
        case files
            __fish_complete_path "$current"
        case folders
            __fish_complete_directories "$current"
        case 'program *'
            set -l first (math (string replace 'program ' '' -- $answer[1]) + 1)
            set -l rest $words[$first..-1]
            if test $first -gt (count $words)
                __fish_complete_command
                __fish_complete_path "$current"
            else
                complete --do-complete (string join ' ' -- (string escape -- $rest) "$current")
            end
    end
end
complete --command muster --no-files --arguments '(__muster_complete)'
)";

}  // namespace

Completion Complete(const std::vector<CommandPage>& commands, const std::vector<std::string>& words,
                    const std::vector<Candidate>& jobs) {
  if (words.size() < 2) return {};
  Completer completer(commands, jobs, words.back());
  if (words.size() == 2) {
    completer.Commands();
    return completer.Take();
  }
  const auto command =
      std::find_if(commands.begin(), commands.end(), [&words](const CommandPage& one) { return one.name == words[1]; });
  if (command != commands.end()) completer.AfterCommand(*command, {words.begin() + 2, words.end() - 1});
  return completer.Take();
}

std::string CompletionText(const Completion& completion) {
  std::string text;
  switch (completion.also) {
    case Completion::Also::kNothing:
      text = "words\n";
      break;
    case Completion::Also::kFiles:
      text = "files\n";
      break;
    case Completion::Also::kFolders:
      text = "folders\n";
      break;
    case Completion::Also::kProgram:
      text = absl::StrCat("program ", completion.program, "\n");
      break;
  }
  for (const Candidate& candidate : completion.words) absl::StrAppend(&text, candidate.word, "\t", candidate.description, "\n");
  return text;
}

std::string CompletionScript(const std::string& shell) {
  return shell == "bash" ? kBash : shell == "zsh" ? kZsh : shell == "fish" ? kFish : "";
}

}  // namespace muster

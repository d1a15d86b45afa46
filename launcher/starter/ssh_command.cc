#include "launcher/starter/ssh_command.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

constexpr char kScript[] =
    "IFS= read -r a || exit 0; IFS= read -r b || exit 0; "
    "for m in \"$a\" \"$b\"; do "
    "if [ -n \"$m\" ] && [ -f \"$m\" ] && [ -x \"$m\" ]; then "
    "printf \"muster-line: found %s\" \"$m\"; echo; exec \"$m\" agent --stdin; fi; done; "
    "m=$(command -v muster) && [ -f \"$m\" ] && { "
    "printf \"muster-line: found %s\" \"$m\"; echo; exec \"$m\" agent --stdin; }; "
    "printf \"muster-line: missing %s\" \"$PATH\"; echo; exit 127";

// Given before anything else: ssh(1) takes the first value of an option.
constexpr const char* kFixed[] = {
    "BatchMode=yes",              // no prompts: nobody could answer hundreds of them
    "StrictHostKeyChecking=yes",  // a key that is not known is an error, and none is learned
    "ForwardAgent=no",   "ForwardX11=no", "ClearAllForwardings=yes", "RequestTTY=no", "PermitLocalCommand=no",
    "ControlMaster=no",  // one of our clients must not hold the others' connections
};
constexpr const char* kDefaults[] = {
    "ConnectTimeout=10", "ServerAliveInterval=15", "ServerAliveCountMax=4", "LogLevel=ERROR", "ConnectionAttempts=1",
};

bool IsPlain(const std::string& text, const char* marks) {
  for (const char letter : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(letter)) && std::string(marks).find(letter) == std::string::npos) {
      return false;
    }
  }
  return !text.empty() && text[0] != '-';
}

std::string PathLine(const std::string& path) {
  return absl::StrCat(path.find('\n') == std::string::npos ? path : "", "\n");
}

}  // namespace

const std::string& RemoteCommand() {
  static const std::string* const command = new std::string(absl::StrCat("exec /bin/sh -c '", kScript, "'"));
  return *command;
}

absl::Status CheckHost(const std::string& host, const std::string& user) {
  if (!IsPlain(host, "._-:%+[]")) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::CHexEscape(host), "\" is no name or address of a host for ssh; write letters, digits, '.', '-' and '_'"));
  }
  if (!user.empty() && !IsPlain(user, "._-+@")) {
    return absl::InvalidArgumentError(absl::StrCat("\"", absl::CHexEscape(user), "\" is no user's name for ssh on ", host,
                                                   "; write letters, digits, '.', '-' and '_', or a User line in ~/.ssh/config"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> SshWords(const v1::AgentStart& start) {
  if (absl::Status checked = CheckHost(start.host(), start.user()); !checked.ok()) return checked;
  std::vector<std::string> words(start.ssh().command().begin(), start.ssh().command().end());
  if (words.empty()) words.push_back("ssh");
  words.push_back("-T");
  const auto add = [&](const std::string& option) {
    words.push_back("-o");
    words.push_back(option);
  };
  for (const char* option : kFixed) add(option);
  for (const std::string& option : start.ssh().options()) add(option);
  for (const char* option : kDefaults) add(option);
  if (!start.user().empty()) {
    words.push_back("-l");
    words.push_back(start.user());
  }
  words.push_back("--");
  words.push_back(std::string(absl::StripSuffix(absl::StripPrefix(start.host(), "["), "]")));
  words.push_back(RemoteCommand());
  return words;
}

std::string FirstLines(const v1::AgentStart& start) {
  std::string lines;
  if (!start.is_here()) lines = absl::StrCat(PathLine(start.ssh().remote_muster()), PathLine(start.program()));
  return lines + AgentStartLine(start);
}

std::string AgentStartLine(const v1::AgentStart& start) {
  return absl::StrCat(absl::Base64Escape(start.SerializeAsString()), "\n");
}

absl::StatusOr<v1::AgentStart> AgentStartFromLine(const std::string& line) {
  std::string bytes;
  v1::AgentStart start;
  if (!absl::Base64Unescape(line, &bytes) || !start.ParseFromString(bytes) || start.coordinator().empty() ||
      start.ticket().empty()) {
    return absl::InvalidArgumentError(
        "what came by standard input is no start of an agent; `muster run` says it when it starts one by ssh");
  }
  return start;
}

}  // namespace muster

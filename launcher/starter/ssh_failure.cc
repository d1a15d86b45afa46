#include "launcher/starter/ssh_failure.h"

#include <sys/wait.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "launcher/starter/child.h"

namespace muster {
namespace {

constexpr size_t kLineShown = 300;

struct Rule {
  const char* said;  // by ssh
  // "%h" is the host, "%s" ssh's own line.
  const char* sentence;
  SshRetry retry;
};

// The first that fits; the order matters: the general words of an end come after the particular ones.
constexpr Rule kRules[] = {
    {"REMOTE HOST IDENTIFICATION HAS CHANGED",
     "the ssh host key of %h is not the one that is known for it: it was set up anew, or somebody stands in between; ask who runs "
     "it, then take the old key away (ssh-keygen -R %h) and log in once by hand",
     SshRetry::kUseless},
    {"is revoked", "the ssh host key of %h is marked as revoked (%s); ask who runs it", SshRetry::kUseless},
    {"key is known for",
     "the ssh host key of %h is not known here, and muster learns none by itself; compare it once by hand (ssh %h), or put it into "
     "known_hosts",
     SshRetry::kUseless},
    {"Host key verification failed",
     "the ssh host key of %h is not known here, and muster learns none by itself; compare it once by hand (ssh %h), or put it into "
     "known_hosts",
     SshRetry::kUseless},
    {"Could not resolve hostname",
     "nobody knows a host named %h (%s); look at its spelling, or write its numeric address or a HostName in ~/.ssh/config",
     SshRetry::kLater},
    {"Too many authentication failures",
     "%h does not let us in (%s): too many keys were offered; name the right one with --ssh-option IdentityFile=FILE and "
     "--ssh-option IdentitiesOnly=yes",
     SshRetry::kUseless},
    {"Permission denied (",
     "%h does not let us in without a password (%s); put your key there (ssh-copy-id %h), or into the ssh agent (ssh-add)",
     SshRetry::kUseless},
    {"Bad configuration option", "ssh to %h does not understand its settings (%s); look at --ssh-option and ~/.ssh/config",
     SshRetry::kUseless},
    {"Bad owner or permissions", "ssh to %h refuses its settings (%s); only you may be able to write that file", SshRetry::kUseless},
    {"Can't open user config", "ssh to %h cannot read its settings (%s); look at --ssh", SshRetry::kUseless},
    {"command-line:", "ssh to %h does not understand its settings (%s); look at --ssh-option and --ssh", SshRetry::kUseless},
    {"Connection refused",
     "%h refuses ssh connections (%s); start sshd there, or name its port with --ssh-option Port=N", SshRetry::kLater},
    {"Connection timed out", "%h does not answer (%s); look whether it runs and whether a firewall is in between",
     SshRetry::kSlowly},
    {"Operation timed out", "%h does not answer (%s); look whether it runs and whether a firewall is in between",
     SshRetry::kSlowly},
    {"timed out", "%h does not answer (%s); look whether it runs and whether a firewall is in between", SshRetry::kSlowly},
    {"No route to host", "there is no way to %h (%s); look whether it runs and is on this network", SshRetry::kSlowly},
    {"Network is unreachable", "there is no way to %h (%s); look at this machine's network and at the address", SshRetry::kLater},
    {"Unable to negotiate", "ssh here and on %h have no method in common (%s)", SshRetry::kUseless},
    {"Connection closed by",
     "%h closes ssh connections before a login (%s); look at its sshd's log and MaxStartups", SshRetry::kLater},
    {"Connection reset by",
     "%h closes ssh connections before a login (%s); look at its sshd's log and MaxStartups", SshRetry::kLater},
};

std::string Fill(const char* sentence, const std::string& host, const std::string& line) {
  std::string filled;
  for (const char* at = sentence; *at != '\0'; ++at) {
    if (*at != '%' || (at[1] != 'h' && at[1] != 's')) {
      filled += *at;
    } else {
      filled += *++at == 'h' ? host : line;
    }
  }
  return filled;
}

// The line of `text` that holds `part`.
std::string LineWith(const std::string& text, absl::string_view part) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StrContains(line, part)) return LastLine(std::string(line));
  }
  return "";
}

std::string TriedPaths(const v1::AgentStart& start) {
  std::string tried;
  if (!start.ssh().remote_muster().empty()) absl::StrAppend(&tried, start.ssh().remote_muster(), ", ");
  return absl::StrCat(tried, start.program());
}

}  // namespace

std::string LastLine(const std::string& text) {
  std::string last;
  for (const absl::string_view part : absl::StrSplit(text, '\n')) {
    const absl::string_view line = absl::StripAsciiWhitespace(part);
    if (!line.empty()) last.assign(line.data(), std::min(line.size(), kLineShown));
  }
  for (char& letter : last) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(letter))) letter = ' ';
  }
  return last;
}

SshFailure DescribeFailedStart(const v1::AgentStart& start, const SshEnd& end) {
  const std::string host = start.host();
  const std::string last = LastLine(end.errors);
  const std::string quoted = last.empty() ? "" : absl::StrCat(" (", last, ")");
  if (start.is_here()) {
    return {absl::StrCat("the agent on ", host, ", this machine, ", WIFSIGNALED(end.wait_status) ? "was " : "",
                         HowItEnded(end.wait_status), " before it could do anything", quoted),
            SshRetry::kLater};
  }
  if (end.missing) {
    return {absl::StrCat("there is no muster on ", host, ": not at ", TriedPaths(start), ", nor in PATH there (", end.searched_path,
                         "); install it at the same path as here, or say where it is with --remote-muster PATH"),
            SshRetry::kUseless};
  }
  if (end.timed_out) {
    return {absl::StrCat("no word from ", host, " after the login", quoted,
                         "; look what the start files of the shell there wait for (ssh ", host, " true)"),
            SshRetry::kSlowly};
  }
  if (end.greeted) {
    return {absl::StrCat("muster on ", host, " ended before its agent ran", quoted), SshRetry::kLater};
  }
  if (end.found) {
    const bool other_version = WIFEXITED(end.wait_status) && WEXITSTATUS(end.wait_status) == 64;
    return {absl::StrCat("the muster on ", host, " (", end.found_file, ") ",
                         other_version ? "is of another version: it does not know how this one starts agents"
                                       : absl::StrCat("cannot run there: it ", HowItEnded(end.wait_status)),
                         quoted, "; install the same version there, or name another with --remote-muster PATH"),
            SshRetry::kUseless};
  }
  for (const Rule& rule : kRules) {
    if (!absl::StrContains(end.errors, rule.said)) continue;
    return {Fill(rule.sentence, host, LineWith(end.errors, rule.said)), rule.retry};
  }
  if (WIFSIGNALED(end.wait_status)) {
    return {absl::StrCat("the ssh client for ", host, " was ", HowItEnded(end.wait_status)), SshRetry::kLater};
  }
  return {absl::StrCat("ssh to ", host, " ", HowItEnded(end.wait_status), " and started nothing there", quoted,
                       "; try what `ssh ", host, " true` says"),
          SshRetry::kLater};
}

std::string DescribeBrokenLine(const v1::AgentStart& start, const SshEnd& end) {
  if (start.is_here()) return HowItEnded(end.wait_status);
  if (WIFSIGNALED(end.wait_status)) return absl::StrCat("the ssh client that held it was ", HowItEnded(end.wait_status));
  const std::string last = LastLine(end.errors);
  return absl::StrCat("the ssh connection to it broke", last.empty() ? "" : absl::StrCat(": ", last));
}

}  // namespace muster

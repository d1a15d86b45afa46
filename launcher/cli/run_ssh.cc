#include "launcher/cli/run_ssh.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status.h"

namespace muster {

void DeclareSsh(FlagSet* flags, RunSshOptions* options) {
  flags->Text("--remote-muster", "PATH", &options->remote_muster,
              "where muster is on the other hosts; else it is looked for at the same\n"
              "path as here and in PATH there");
  flags->Texts("--ssh-option", "NAME=VALUE", &options->options,
               "an option of ssh_config for the logins, such as Port=2222; may be\n"
               "given many times");
  flags->Text("--ssh", "COMMAND", &options->command, "the ssh client with its first arguments (ssh)");
  flags->Count("--ssh-fan-out", "N", &options->fan_out, 1, 100'000,
               "hosts that are started from one place (32); more of them start each\n"
               "other");
  flags->Text("--listen", "ADDRESS[:PORT]", &options->listen,
              "the numeric address of this machine at which other hosts reach the\n"
              "coordinator; without it they try all");
}

absl::Status CheckSshOptions(const RunSshOptions& options, v1::Launch::Starter starter) {
  if (starter != v1::Launch::SSH) {
    MUSTER_RETURN_IF_ERROR(OutOfPlace({{"--ssh", !options.command.empty()},
                                       {"--ssh-option", !options.options.empty()},
                                       {"--ssh-fan-out", options.fan_out > 0}},
                                      "hosts that are reached by ssh", "name them with -H or --hostfile"));
  }
  if (starter == v1::Launch::LOCAL) {
    MUSTER_RETURN_IF_ERROR(
        OutOfPlace({{"--listen", !options.listen.empty()}, {"--remote-muster", !options.remote_muster.empty()}}, "other hosts",
                   "name them with -H or --hostfile"));
  }
  v1::Launch unused;
  return TakeSshOptions(options, &unused);
}

absl::Status TakeSshOptions(const RunSshOptions& options, v1::Launch* launch) {
  v1::SshSettings* const ssh = launch->mutable_ssh();
  for (const absl::string_view word : absl::StrSplit(options.command, ' ', absl::SkipEmpty()))
    ssh->add_command(std::string(word));
  for (const std::string& option : options.options) {
    if (option.find('=') == std::string::npos || option[0] == '=' || option.find('\n') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("--ssh-option ", option, ": write NAME=VALUE as in ssh_config, such as --ssh-option Port=2222"));
    }
    ssh->add_options(option);
  }
  if (!options.remote_muster.empty() &&
      (options.remote_muster[0] != '/' || options.remote_muster.find('\n') != std::string::npos)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--remote-muster ", options.remote_muster, ": write the whole path, from / on"));
  }
  ssh->set_remote_muster(options.remote_muster);
  ssh->set_fan_out(static_cast<uint32_t>(options.fan_out));
  return options.listen.empty() ? absl::OkStatus() : SplitListen(options.listen, launch);
}

absl::Status SplitListen(const std::string& text, v1::Launch* launch) {
  std::string address = text, port;
  if (!text.empty() && text[0] == '[') {
    const size_t end = text.find(']');
    address = text.substr(1, end == std::string::npos ? end : end - 1);
    if (end != std::string::npos && end + 1 < text.size() && text[end + 1] == ':') port = text.substr(end + 2);
  } else if (text.find(':') != std::string::npos && text.find(':') == text.rfind(':')) {
    address = text.substr(0, text.find(':'));
    port = text.substr(text.find(':') + 1);
  }
  uint32_t number = 0;
  if (address.empty() || (!port.empty() && (!absl::SimpleAtoi(port, &number) || number > 65535))) {
    return absl::InvalidArgumentError(
        absl::StrCat("--listen ", text, " is not ADDRESS or ADDRESS:PORT, such as 10.0.0.5:4242"));
  }
  launch->set_listen(address);
  launch->set_port(number);
  return absl::OkStatus();
}

}  // namespace muster

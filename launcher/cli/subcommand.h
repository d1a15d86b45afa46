// The subcommands of `muster`: one file each, one line each in the table of main.cc.
#ifndef MUSTER_LAUNCHER_CLI_SUBCOMMAND_H_
#define MUSTER_LAUNCHER_CLI_SUBCOMMAND_H_

#include <string>
#include <vector>

#include "launcher/cli/help_page.h"

namespace muster {

// Gets the words after the subcommand's name; returns the exit status.
using Subcommand = int (*)(const std::vector<std::string>& arguments);

int RunCommand(const std::vector<std::string>& arguments);          // run.cc
int PsCommand(const std::vector<std::string>& arguments);           // ps.cc
int StatusCommand(const std::vector<std::string>& arguments);       // job_status.cc
int EventsCommand(const std::vector<std::string>& arguments);       // events.cc
int LogsCommand(const std::vector<std::string>& arguments);         // logs.cc
int CancelCommand(const std::vector<std::string>& arguments);       // cancel.cc
int BenchCommand(const std::vector<std::string>& arguments);        // bench.cc
int CheckpointCommand(const std::vector<std::string>& arguments);   // checkpoint.cc
int K8sCommand(const std::vector<std::string>& arguments);         // k8s.cc
int DoctorCommand(const std::vector<std::string>& arguments);       // doctor.cc
int TopoCommand(const std::vector<std::string>& arguments);         // topo.cc
int CoordinatorCommand(const std::vector<std::string>& arguments);  // coordinator_command.cc
int AgentCommand(const std::vector<std::string>& arguments);        // agent_command.cc

// What each says of itself.
HelpPage RunPage();
HelpPage PsPage();
HelpPage StatusPage();
HelpPage EventsPage();
HelpPage LogsPage();
HelpPage CancelPage();
HelpPage BenchPage();
HelpPage CheckpointPage();
HelpPage K8sPage();
HelpPage DoctorPage();
HelpPage TopoPage();
HelpPage CoordinatorPage();
HelpPage AgentPage();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_SUBCOMMAND_H_

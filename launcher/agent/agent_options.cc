#include "launcher/agent/agent_options.h"

namespace muster {

void TakeJob(const v1::JobSpec& job, AgentOptions* options) {
  options->argv.assign(job.command().begin(), job.command().end());
  options->program = options->argv.empty() ? "" : options->argv[0];
  options->chosen_environment.assign(job.environment().begin(), job.environment().end());
  options->working_directory = job.working_directory();
  options->applications.clear();
  for (const v1::Application& one : job.applications()) {
    WorkerProgram& program = options->applications.emplace_back();
    program.argv.assign(one.command().begin(), one.command().end());
    program.program = program.argv.empty() ? "" : program.argv[0];
    program.chosen_environment.assign(one.environment().begin(), one.environment().end());
    program.working_directory = one.working_directory();
    program.workers = one.workers();
  }
  if (job.has_placement()) options->placement = job.placement();
  options->checkpoint = job.checkpoint();
  options->output.tag = job.tag_output();
  options->output.timestamp = job.timestamp_output();
  options->output.pass_partial_lines = job.pass_partial_lines();
  options->pty_stdout = job.pty();
}

WorkerProgram ProgramOf(const AgentOptions& options, uint32_t application) {
  if (options.applications.empty()) {
    return {options.program, options.argv, options.chosen_environment, options.working_directory, 0};
  }
  if (application >= options.applications.size()) return {};
  WorkerProgram program = options.applications[application];
  program.chosen_environment.insert(program.chosen_environment.begin(), options.chosen_environment.begin(),
                                    options.chosen_environment.end());
  if (program.working_directory.empty()) program.working_directory = options.working_directory;
  return program;
}

}  // namespace muster

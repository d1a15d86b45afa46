#include "launcher/agent/agent_options.h"

#include <algorithm>

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
  options->nccl_environment_off = job.nccl_environment_off();
  options->checkpoint = job.checkpoint();
  TakeStreams(job, &options->streams);
}

LineMarks MarksOf(const v1::OutputSettings& output) {
  return {.tag = output.tag(),
          .rank = output.rank(),
          .host = output.host(),
          .timestamp = output.timestamp(),
          .ranks = std::max(1u, output.ranks())};
}

void TakeStreams(const v1::JobSpec& job, StreamOptions* streams) {
  const v1::OutputSettings& output = job.output();
  streams->output.marks = MarksOf(output);
  streams->output.color_stdout = output.color_stdout();
  streams->output.color_stderr = output.color_stderr();
  streams->output.pass_partial_lines = output.pass_partial_lines();
  streams->output.files_only = output.files_only();
  if (output.spill_bytes_max() > 0) streams->output.spill_bytes_max = static_cast<int64_t>(output.spill_bytes_max());
  streams->pty_stdout = job.pty();
  streams->merge_stderr = output.merge_stderr();
  streams->file_pattern = output.file_pattern();
  using Kind = StdinReaders::Kind;
  const v1::StdinSettings& input = job.standard_input();
  streams->stdin_readers.kind = input.readers() == v1::StdinSettings::ALL    ? Kind::kAll
                                : input.readers() == v1::StdinSettings::NONE ? Kind::kNone
                                                                             : Kind::kOne;
  streams->stdin_readers.rank = input.rank();
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

#include "launcher/cli/run_options.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/cli/flags.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr char kOneMachine[] = "It starts all workers on this machine; leave the option out.";
constexpr char kUnbound[] = "Workers may run on every core that muster itself may use; leave the option out.";
constexpr char kNoRecovery[] = "When a worker is lost the job ends; leave the option out.";

FlagSet Declare(RunOptions* options) {
  FlagSet flags("muster run");
  flags.Count("-np -n --nproc-per-node", "N", &options->workers, 1, kWorkersMax,
              "number of workers; without it one for each core that may be used\n"
              "(CPU affinity and cgroup quota counted). N may exceed the cores.");
  flags.Texts("-x --env", "NAME[=VALUE]", &options->environment,
              "set NAME for the workers; may be given many times. They also get\n"
              "muster's own environment.");
  flags.Text("-wdir --wd --working-dir", "FOLDER", &options->working_directory, "start the workers in FOLDER");
  flags.Seconds("--timeout -timeout", "SECONDS", &options->timeout_seconds, "end the job after SECONDS, with exit status 124");
  flags.Switch("--tag-output", &options->tag_output, "put the rank before each line of output");
  flags.Switch("--timestamp-output", &options->timestamp_output, "put the time before each line of output");
  flags.Text("--report", "FILE", &options->report_file, "write how the job went to FILE, as one JSON object");
  flags.Switch("--pty", &options->pty, "give workers a terminal for stdout even when muster's is none");
  flags.Count("--master-port", "N", &options->master_port, 1, 65535,
              "MASTER_PORT for the workers; muster then reserves nothing");
  flags.Switch("-v --verbose", &options->verbose, "say on stderr what muster does");
  flags.Ignored("--oversubscribe --allow-run-as-root --standalone");
  flags.NotYet("--host -H --hosts --hostfile --machinefile", kOneMachine);
  flags.NotYet("--nodes --nnodes --starter --node-rank --rdzv-endpoint --rdzv-backend --npernode", kOneMachine);
  flags.NotYet("--map-by --rank-by --bind-to --report-bindings --display-map --do-not-launch --cpus-per-proc", kUnbound);
  flags.NotYet("--min-np --max-np --spares --max-restarts", kNoRecovery);
  flags.NotYet("--output-filename --redirects --log-dir", "Redirect muster's own output instead: muster run ... > FILE");
  flags.NotYet("--stdin", "Rank 0 gets muster's stdin, the other ranks /dev/null.");
  flags.NotYet("--backend", "Collectives run in shared memory; leave the option out.");
  flags.NotYet("--detach", "Use the shell's own means instead: nohup muster run ... &");
  flags.NotYet("-f --file", "Give the job on the command line: muster run -np 4 PROGRAM");
  flags.NotYet("--mca -mca --prefix", "It is a setting of Open MPI's own launcher; leave it out.");
  return flags;
}

absl::Status CheckEnvironment(const std::vector<std::string>& environment) {
  for (const std::string& setting : environment) {
    if (setting[0] == '=') {
      return absl::InvalidArgumentError(absl::StrCat("-x ", setting, " has no name before the '='; write -x NAME=VALUE"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RunOptions> ParseRunOptions(const std::vector<std::string>& arguments, bool* help_wanted) {
  RunOptions options;
  FlagSet flags = Declare(&options);
  auto rest = flags.Parse(arguments);
  *help_wanted = flags.help_wanted();
  if (!rest.ok()) return rest.status();
  if (*help_wanted) return options;
  MUSTER_RETURN_IF_ERROR(CheckEnvironment(options.environment));
  options.command = *std::move(rest);
  if (options.command.empty() || options.command[0].empty()) {
    return absl::InvalidArgumentError("no program given; it stands after the options: muster run -np 4 PROGRAM ARGUMENTS");
  }
  // mpirun's separator of programs, unless `--` says that all that follows belongs to the program.
  const bool separated = std::find(arguments.begin(), arguments.end() - static_cast<ptrdiff_t>(options.command.size()), "--") !=
                         arguments.end() - static_cast<ptrdiff_t>(options.command.size());
  if (!separated && std::find(options.command.begin(), options.command.end(), ":") != options.command.end()) {
    return absl::InvalidArgumentError(
        "several programs in one job (`:`) are not in this version of muster. If the colon is an argument of your program, "
        "put `--` before the program");
  }
  return options;
}

std::string RunHelp() {
  RunOptions unused;
  return absl::StrCat(R"(usage: muster run [options] PROGRAM [ARGUMENTS]

Starts PROGRAM N times on this machine, shows its output, and ends when all workers have
ended. If one fails, muster ends the others and says in one sentence which rank failed and
how. Nothing that a worker started is left behind.

examples
  muster run -np 4 ./train                       four workers
  muster run -np 4 --tag-output python3 train.py the rank before each line
  muster run -np 2 -x SEED=7 -wdir /data ./train a variable and a folder for the workers
  muster run --timeout 600 --report run.json ./train
  muster run -np 2 -- ./train -np 9              options end at the program; -np 9 is the program's

options
)",
                      Declare(&unused).Help(), R"(
Each worker finds its place in RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT
(torchrun's names) and in OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE (mpirun's). Rank 0
reads muster's stdin. TMPDIR is a folder of the job's own that is removed at its end. A bare
name of a program is looked for in PATH, then beside muster itself. Ctrl-C asks the workers to
end (SIGTERM) and kills them after 5 seconds; a second Ctrl-C kills them at once. SIGUSR1 and
SIGUSR2 are passed on to the workers.

exit status
  0    all workers exited with 0     64   wrong usage
  124  --timeout                     70   a defect in muster
  126  program cannot be started     73   state, report or output not written
  127  program not found             130  Ctrl-C; 143 SIGTERM; 129 SIGHUP
  else the failed worker's own, or 128 + its signal; --report says which
)");
}

}  // namespace muster

#include "launcher/cli/run_options.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/process/seating.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

FlagSet Declare(RunOptions* options) {
  FlagSet flags("muster run");
  DeclareJobFile(&flags, &options->job_file);
  flags.Count("-np -n", "N", &options->workers, 1, kAgentsMax * kWorkersMax,
              "number of workers on all nodes together; without it one for each\n"
              "core that may be used (CPU affinity and cgroup quota counted). N may\n"
              "exceed the cores.");
  flags.Text("--nproc-per-node -N", "N", &options->workers_per_node_typed,
             "the same for each node, as with torchrun; auto or cpu: one for each\n"
             "core that may be used, or slot of listed hosts");
  flags.Count("--nodes", "K", &options->nodes, 1, kAgentsMax,
              "run as K nodes on this machine: K agents with the workers shared out\n"
              "among them, each in a network of its own, TCP between them. With a\n"
              "list of hosts: on the first K of it");
  flags.Text("--nnodes", "N", &options->nodes_range,
             "torchrun's --nodes: N, or MIN:MAX to start with MAX and accept MIN\n"
             "after a loss");
  flags.Switch("-m --module", &options->module, "PROGRAM is a Python module, as of python3 -m");
  DeclareHosts(&flags, &options->hosts);
  DeclareSsh(&flags, &options->ssh);
  flags.Text("--node-network", "KIND", &options->node_network,
             "how nodes reach each other: namespaces (a network namespace for each,\n"
             "where that is allowed: no way to any other network), host (loopback\n"
             "addresses of this machine) or auto");
  flags.Choices("--starter", {"auto", "join", "local", "slurm", "ssh"});
  flags.Choices("--node-network", {"auto", "host", "namespaces"});
  flags.Choices("--nproc-per-node", {"auto", "cpu"});
  flags.Heading("going on after a failure");
  flags.Count("--max-restarts", "N", &options->max_restarts, 0, 1'000'000,
              "when a worker or a node is lost, start all workers again, up to N\n"
              "times without a new checkpoint between them; 0 (default): the job ends");
  flags.Count("--min-np", "M", &options->workers_min, 1, kAgentsMax * kWorkersMax,
              "go on with M workers or more when lost nodes do not come back in\n"
              "time; without it all workers are needed");
  flags.Count("--spares", "N", &options->spares, 0, kNodesMax,
              "keep N more nodes in reserve, the next hosts of the list or N more on\n"
              "this machine: at a restart each takes the place of one that is lost");
  flags.Seconds("--last-call", "SECONDS", &options->last_call_seconds, "how long lost nodes are waited for");
  flags.Heading("which rank runs where");
  DeclarePlacement(&flags, &options->placement);
  DeclarePlanning(&flags, &options->placement);
  DeclareNetwork(&flags, &options->network);
  flags.Heading("how the job runs");
  flags.Switch("--detach", &options->detach, "return as soon as the workers run; see muster status, logs, cancel");
  flags.Heading("checkpoints");
  flags.Text("--checkpoint-path --checkpoint-dir", "FOLDER", &options->checkpoint_path,
             "where a program that asks its Session keeps its checkpoints");
  flags.Count("--checkpoint-every", "N", &options->checkpoint_every, 1, int64_t{1} << 40, "a checkpoint every N steps");
  flags.Count("--checkpoint-keep", "K", &options->checkpoint_keep, 1, 1'000'000, "keep the newest K checkpoints");
  flags.Heading("what the workers get");
  flags.Texts("-x --env", "NAME[=VALUE]", &options->environment,
              "set NAME for the workers; may be given many times. They also get\n"
              "muster's own environment.");
  flags.Text("-wdir --wd --working-dir", "FOLDER", &options->working_directory, "start the workers in FOLDER");
  flags.Heading("how the job runs");
  DeclareEndings(&flags, &options->ending);
  flags.Heading("output");
  DeclareOutput(&flags, &options->output);
  flags.Text("--log-dir", "FOLDER", &options->log_folder,
             "torchrun's: where --redirects and --tee make their files, as\n"
             "--output-filename FOLDER does");
  flags.Text("--redirects -r", "N", &options->redirects,
             "3: output goes to files below --log-dir and nowhere else; 0 (default):\n"
             "to no file");
  flags.Text("--tee -t", "N", &options->tee, "3: output goes to files below --log-dir too; 0 (default): to no file");
  DeclareStdin(&flags, &options->output);
  flags.Text("--name", "NAME", &options->name, "what muster ps and status call the job");
  flags.Text("--report", "FILE", &options->report_file, "write how the job went to FILE, as one JSON object");
  flags.Text("--termination-message", "FILE", &options->last_words_file,
             "write the verdict to FILE, as one line of JSON of at most 4 KiB, also when\nall went well: where a container "
             "runtime looks for "
             "last words, such as\n/dev/termination-log");
  flags.Switch("--pty", &options->pty, "give workers a terminal for stdout even when muster's is none");
  flags.Heading("what the workers get");
  flags.Count("--master-port", "N", &options->master_port, 1, 65535,
              "MASTER_PORT for the workers; muster then reserves nothing");
  flags.Text("--backend", "NAME", &options->backend,
             "what runs libmuster's collectives: native: shared memory and TCP; nccl:\n"
             "NVIDIA's library, a GPU for each rank; mpi: Open MPI (package\n"
             "muster-mpi); auto (default): nccl where it can be used, else native");
  flags.Text("--role", "NAME", &options->role, "ROLE_NAME for the workers (default)");
  flags.Heading("output");
  flags.Switch("-v --verbose", &options->verbose, "say on stderr what muster does");
  flags.Heading("");
  flags.Ignored("--allow-run-as-root --standalone --no-python --run-path");
  flags.Ignored("--monitor-interval", "SECONDS");
  flags.Ignored("--start-method", "KIND");
  flags.NotNeeded("--node-rank --rdzv-endpoint --rdzv-backend --rdzv-conf --master-addr --local-addr",
                  "One muster run starts the workers of all hosts; name them with -H or --hostfile.");
  flags.NotNeeded("--rdzv-id", "Each job has an identity of its own; --name is what people call it.");
  flags.NotYet("--max-np", "A job that was restarted smaller stays so; --min-np says how small it may get.");
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

absl::Status CheckBackend(const std::string& backend) {
  for (const char* known : {"", "auto", "native", "nccl", "mpi"}) {
    if (backend == known) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--backend ", backend, " is no backend; write --backend auto, native, nccl or mpi"));
}

// torchrun's words for --output-filename.
absl::Status TakeLogFolder(RunOptions* options) {
  for (const auto& [flag, value] : {std::pair{"--redirects", options->redirects}, {"--tee", options->tee}}) {
    if (value.empty() || value == "0" || value == "3") continue;
    return absl::InvalidArgumentError(absl::StrCat(
        flag, " ", value, ": files get stdout and stderr of every rank or none; write ", flag, " 3 or ", flag, " 0"));
  }
  const bool tee = options->tee == "3", redirect = !tee && options->redirects == "3";
  if (!tee && !redirect) return absl::OkStatus();
  const char* flag = tee ? "--tee" : "--redirects";
  if (options->log_folder.empty())
    return absl::InvalidArgumentError(absl::StrCat(flag, " 3 makes files; say where: --log-dir FOLDER"));
  if (!options->output.filename.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--output-filename and ", flag, " say the same; leave one out"));
  }
  if (options->log_folder.find_first_of("%:") != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("--log-dir ", options->log_folder,
                                                   ": '%' and ':' have a meaning in --output-filename; name another folder"));
  }
  options->output.filename = absl::StrCat(options->log_folder, redirect ? ":nocopy" : "");
  return absl::OkStatus();
}

absl::Status ReadWorkersPerNode(RunOptions* options) {
  const std::string& typed = options->workers_per_node_typed;
  if (typed.empty() || typed == "auto" || typed == "cpu") return absl::OkStatus();
  if (typed == "gpu") {
    return absl::InvalidArgumentError(
        "--nproc-per-node gpu: this version of muster knows of no GPUs; write how many workers each node is to have");
  }
  if (!absl::SimpleAtoi(typed, &options->workers_per_node) || options->workers_per_node < 1 ||
      options->workers_per_node > kWorkersMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--nproc-per-node ", typed, " is not possible: N is a whole number from 1 to ", kWorkersMax, ", auto or cpu"));
  }
  return absl::OkStatus();
}

// Without a list of hosts `auto` is what a node has, with one what the list says.
absl::Status SettleWorkersPerNode(int64_t usable_cores, RunOptions* options) {
  if (options->workers_per_node_typed.empty() || options->workers_per_node > 0) return absl::OkStatus();
  if (options->workers > 0) return absl::InvalidArgumentError("-np and --nproc-per-node say the same; leave one out");
  if (options->hosts.named.empty()) options->workers_per_node = std::min(usable_cores, kWorkersMax);
  return absl::OkStatus();
}

// "2" or "1:2".
absl::Status TakeNodesRange(RunOptions* options, int64_t* nodes_min) {
  *nodes_min = 0;
  if (options->nodes_range.empty()) return absl::OkStatus();
  const std::pair<std::string, std::string> parts = absl::StrSplit(options->nodes_range, absl::MaxSplits(':', 1));
  const bool range = options->nodes_range.find(':') != std::string::npos;
  int64_t least = 0, most = 0;
  if (!absl::SimpleAtoi(parts.first, &least) || !absl::SimpleAtoi(range ? parts.second : parts.first, &most) || least < 1 ||
      least > most || most > kNodesMax) {
    return absl::InvalidArgumentError(absl::StrCat("--nnodes ", options->nodes_range,
                                                   ": write N or MIN:MAX, whole numbers from 1 to ", kNodesMax,
                                                   ", such as --nnodes 1:2"));
  }
  if (options->nodes > 0) return absl::InvalidArgumentError("--nodes and --nnodes say the same; leave one out");
  options->nodes = most;
  if (range) *nodes_min = least;
  return absl::OkStatus();
}

absl::Status CheckCheckpoint(const RunOptions& options) {
  if (!options.checkpoint_path.empty()) return absl::OkStatus();
  const char* flag = options.checkpoint_every > 0  ? "--checkpoint-every"
                     : options.checkpoint_keep > 0 ? "--checkpoint-keep"
                                                   : nullptr;
  if (flag == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, " needs --checkpoint-path FOLDER"));
}

absl::Status CheckNetwork(const RunOptions& options) {
  if (options.node_network != "auto" && options.node_network != "namespaces" && options.node_network != "host") {
    return absl::InvalidArgumentError(
        absl::StrCat("--node-network ", options.node_network, ": choose auto, namespaces or host"));
  }
  if (options.node_network != "auto" && options.hosts.chosen != v1::Launch::LOCAL) {
    return absl::InvalidArgumentError(absl::StrCat("--node-network ", options.node_network,
                                                   " is about nodes on this machine; leave it out where hosts are named"));
  }
  if (options.nodes + options.spares < 2) {
    return OutOfPlace({{"--node-network", options.node_network != "auto"}}, "several nodes", "add --nodes 2 or more");
  }
  return absl::OkStatus();
}

// How many workers there are where -np does not say it: from the hosts' slots and the job file.
absl::Status SettleWorkers(int64_t usable_cores, RunOptions* options) {
  const JobFileOptions& file = options->job_file;
  HostOptions& hosts = options->hosts;
  const bool counted = options->workers > 0, per_node_typed = options->workers_per_node > 0;
  if (options->workers_per_node == 0 && (!counted || !hosts.named.empty())) options->workers_per_node = file.workers_per_node;
  HostWishes placed;
  if (options->placement.wanted()) {
    MUSTER_ASSIGN_OR_RETURN(const PlacementPolicy policy, PolicyOf(PlacementOf(options->placement)));
    TakeFill(policy, &placed);
  }
  const bool spares_typed = options->spares > 0;
  if (!spares_typed && options->max_restarts > 0) options->spares = file.spares;
  MUSTER_RETURN_IF_ERROR(SettleHosts(usable_cores, counted ? 0 : file.workers_max, placed, options->spares, spares_typed,
                                     &hosts, &options->workers, &options->nodes, &options->workers_per_node));
  if (!hosts.named.empty()) {
    options->spares = static_cast<int64_t>(hosts.spare.size());
  } else if (!spares_typed && options->nodes < 2) {
    options->spares = 0;  // the file is for more than this machine
  }
  const bool ranged = file.workers_min > 0 || file.workers_max > 0;
  if (counted || !ranged || (hosts.named.empty() && per_node_typed)) return absl::OkStatus();
  if (hosts.named.empty()) {
    const int64_t nodes = std::max<int64_t>(1, options->nodes), per_node = std::exchange(options->workers_per_node, 0);
    options->workers = per_node > 0 ? nodes * per_node : std::max(usable_cores, nodes);
    if (file.workers_max > 0) options->workers = std::min(options->workers, file.workers_max);
    if (per_node == 0) options->workers = std::max(options->workers, file.workers_min);  // cores may be shared
  }
  if (options->workers >= file.workers_min) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(file.path, " asks for workers.min: ", file.workers_min, ", but ",
                                                 hosts.named.empty() ? "workers.per_node on " : "the slots of ",
                                                 hosts.named.empty() ? std::max<int64_t>(1, options->nodes) : options->nodes,
                                                 hosts.named.empty() ? " node allows " : " hosts are ", options->workers,
                                                 hosts.named.empty() ? "; add --nodes, name hosts, or lower workers.min"
                                                                     : "; name more hosts or slots, or lower workers.min"));
}

// Which of several programs could do without some of its ranks nobody knows.
absl::Status CheckApplications(const RunOptions& options, int64_t nodes_min) {
  const bool smaller = options.workers_min > 0 && options.workers_min < options.workers;
  if (!smaller && (nodes_min == 0 || nodes_min == options.nodes)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(smaller ? absl::StrCat("--min-np ", options.workers_min) : absl::StrCat("--nnodes ", options.nodes_range),
                   ": a job of several programs runs with all its ", options.workers, " workers or not at all; ",
                   smaller ? "leave --min-np out" : absl::StrCat("write --nnodes ", options.nodes)));
}

}  // namespace

absl::Status SettleRunOptions(int64_t usable_cores, RunOptions* options) {
  int64_t nodes_min = 0;
  MUSTER_RETURN_IF_ERROR(TakeNodesRange(options, &nodes_min));
  MUSTER_RETURN_IF_ERROR(SettleWorkersPerNode(usable_cores, options));
  if (!options->applications.empty() && options->workers_per_node > 0) {
    return absl::InvalidArgumentError("--nproc-per-node is about one program; give each of several its own -np");
  }
  MUSTER_RETURN_IF_ERROR(SettleWorkers(usable_cores, options));
  if (options->nodes == 0) options->nodes = 1;
  const int64_t nodes = options->nodes;
  if (options->workers_per_node > 0) {
    if (options->workers > 0) return absl::InvalidArgumentError("-np and --nproc-per-node say the same; leave one out");
    options->workers = nodes * options->workers_per_node;
  }
  if (!options->applications.empty()) MUSTER_RETURN_IF_ERROR(CheckApplications(*options, nodes_min));
  if (options->workers == 0) options->workers = std::max(usable_cores, nodes);
  const int64_t workers = options->workers;
  if (nodes > workers && options->hosts.shares.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--nodes ", nodes, " with -np ", workers,
                                                   " leaves a node without a worker; use --nodes ", workers,
                                                   " or less, or -np ", nodes, " or more"));
  }
  if (workers > nodes * kWorkersMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("-np ", workers, " is more than ", nodes == 1 ? "one node holds" : "the nodes hold", ", ", kWorkersMax,
                     " each; use -np ", nodes * kWorkersMax, " or less",
                     (workers + kWorkersMax - 1) / kWorkersMax <= kNodesMax
                         ? absl::StrCat(", or --nodes ", (workers + kWorkersMax - 1) / kWorkersMax)
                         : ""));
  }
  if (options->workers_min == 0 && options->max_restarts > 0 && options->applications.empty() && nodes_min == 0) {
    options->workers_min = std::min(options->job_file.workers_min, workers);
  }
  if (options->workers_min > workers) {
    return absl::InvalidArgumentError(
        absl::StrCat("--min-np ", options->workers_min, " is more than -np ", workers, "; use --min-np ", workers, " or less"));
  }
  if (nodes > kNodesMax && options->hosts.chosen == v1::Launch::LOCAL) {
    return absl::InvalidArgumentError(absl::StrCat("--nodes ", nodes, " is more than the ", kNodesMax,
                                                   " nodes that this machine plays; use --nodes ", kNodesMax,
                                                   " or less, or name hosts"));
  }
  if (nodes + options->spares > kNodesMax && options->hosts.chosen == v1::Launch::LOCAL) {
    return absl::InvalidArgumentError(absl::StrCat("--nodes ", nodes, " with --spares ", options->spares, " is more than the ",
                                                   kNodesMax, " nodes that this machine plays; use --spares ",
                                                   std::max<int64_t>(0, kNodesMax - nodes), " or less"));
  }
  if (options->max_restarts == 0) {
    MUSTER_RETURN_IF_ERROR(OutOfPlace({{"--min-np", options->workers_min > 0 && options->workers_min < workers},
                                       {"--spares", options->spares > 0},
                                       {"--last-call", options->last_call_seconds > 0}},
                                      "going on after a loss", "add --max-restarts N"));
  }
  if (options->workers_min == 0) {
    options->workers_min = nodes_min > 0 ? std::max<int64_t>(1, nodes_min * workers / nodes) : workers;
  }
  MUSTER_RETURN_IF_ERROR(SettleEndings(&options->ending));
  MUSTER_RETURN_IF_ERROR(CheckCheckpoint(*options));
  std::error_code error;
  MUSTER_RETURN_IF_ERROR(SettleOutput(workers, nodes, std::filesystem::current_path(error).string(), &options->output));
  return CheckNetwork(*options);
}

absl::StatusOr<RunOptions> ParseRunOptions(const std::vector<std::string>& arguments, bool* help_wanted, const JobFile* job) {
  RunOptions options;
  FlagSet flags = Declare(&options);
  if (job != nullptr) {
    RunOptions typed;  // by the command line alone
    MUSTER_RETURN_IF_ERROR(Declare(&typed).Parse(arguments).status());
    options.job_file.path = typed.job_file.path;
    const bool hosts_given = !typed.hosts.lists.empty() || !typed.hosts.file.empty();
    MUSTER_RETURN_IF_ERROR(ApplyJobFile(*job, hosts_given, !typed.network.files.files.empty(), &flags, &options.job_file));
  }
  auto rest = flags.Parse(arguments);
  *help_wanted = flags.help_wanted();
  if (!rest.ok()) return rest.status();
  if (*help_wanted) return options;
  MUSTER_RETURN_IF_ERROR(ReadWorkersPerNode(&options));
  MUSTER_RETURN_IF_ERROR(TakeLogFolder(&options));
  MUSTER_RETURN_IF_ERROR(CheckBackend(options.backend));
  MUSTER_RETURN_IF_ERROR(CheckEnvironment(options.environment));
  MUSTER_RETURN_IF_ERROR(CheckPlacement(&options.placement));
  options.command = *std::move(rest);
  if (options.command.empty() && job != nullptr && job->command) options.command = job->command->value;
  if (options.command.empty() && job == nullptr && !options.job_file.path.empty()) return options;
  if (options.command.empty() || options.command[0].empty()) {
    return absl::InvalidArgumentError(
        job != nullptr
            ? absl::StrCat("no program given; ", options.job_file.path, " has no command: [PROGRAM, ARGUMENT], and the ",
                           "command line names none after the options")
            : "no program given; it stands after the options: muster run -np 4 PROGRAM ARGUMENTS");
  }
  MUSTER_RETURN_IF_ERROR(ReadApplications(flags, options.command, flags.separated(),
                                          {options.workers, options.environment, options.working_directory, options.module, {}},
                                          &options.applications, help_wanted));
  if (!options.applications.empty()) {
    options.workers = 0;
    for (const RunApplication& one : options.applications) {
      MUSTER_RETURN_IF_ERROR(CheckEnvironment(one.environment));
      options.workers += one.workers;
    }
    options.environment.clear();  // the first program's own now
    options.working_directory.clear();
  }
  // What is said later holds.
  options.environment.insert(options.environment.begin(), options.job_file.environment.begin(),
                             options.job_file.environment.end());
  if (job != nullptr && options.max_restarts == 0) options.last_call_seconds = 0;
  return options;
}

HelpPage RunPage() {
  RunOptions unused;
  return {.before = R"(usage: muster run [options] PROGRAM [ARGUMENTS] [: -np N PROGRAM [ARGUMENTS]]...

Starts PROGRAM N times on this machine, shows its output, and ends when all workers have
ended. If one fails, muster ends the others and says in one sentence which rank failed and
how; with --max-restarts it then starts all of them again. Nothing that a worker started is
left behind.

examples
  muster run -np 4 ./train                       four workers
  muster run -np 4 --tag-output python3 train.py the rank before each line
  muster run -np 4 --output rank,host,timestamp ./train
                                                 or "TIME RANK HOST: "
  muster run -np 4 --output-filename logs ./train
                                                 and in files: logs/1/rank.0/stdout ...
  muster run -np 4 --stdin all ./train < list    each rank reads all of stdin
  muster run -np 2 -x SEED=7 -wdir /data ./train a variable and a folder for the workers
  muster run --timeout 600 --report run.json ./train
  muster run -np 4 --nodes 2 ./train             two nodes on this machine, two workers on each
  muster run -np 4 --max-restarts 3 --checkpoint-path /data/words --checkpoint-every 100 ./train
                                                 start again after a failure, up to three times
  muster run -np 8 --nodes 4 --spares 1 --max-restarts 3 ./train
                                                 and keep a fifth node in reserve
  muster run -np 8 --nodes 4 --max-restarts 3 --min-np 4 ./train
                                                 and go on with half of it if nodes stay away
  muster run -H localhost:4 ./train              one worker for each slot; hosts that are this
                                                 machine need no agent
  muster run -H a:2,b:2 --starter local ./train  try a list of hosts with nodes on this machine
  muster run -f job.yaml                         the job in a file; see docs/job-file.md
  muster run -f job.yaml -np 2 -x SEED=7         flags go before the file
  muster run -np 4 --map-by core --report-bindings ./train
                                                 bound to a core each, as by mpirun
  muster run -H a:8,b:8,c:8 --topology-file topology.conf ./train
                                                 ranks follow the switches: docs/topology.md
  muster run -np 4 --detach ./train              in the background: muster status, logs, cancel
  muster run -np 1 ./serve : -np 3 -x SEED=7 ./train
                                                 two programs in one world: rank 0, ranks 1 to 3
  muster run -np 2 -- ./train -np 9              options end at the program; -np 9 is the program's
)",
          .flags = Declare(&unused).Describe(),
          .after = R"(Each worker finds its place in RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT
(torchrun's names) and in OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE (mpirun's). Of several
programs each has -np, -x and -wdir of its own; all else stands before the first. Rank 0
reads muster's stdin, unless --stdin says another. TMPDIR is a folder of the job's own that is
removed at its end. A bare name of a program is looked for in PATH, then beside muster itself.
Ctrl-C asks the workers to end (SIGTERM, or --stop-signal) and kills them after 5 seconds
(--kill-grace); a second one kills them at once. SIGTERM and SIGHUP do the same. SIGUSR1 and
SIGUSR2 are passed on.

exit status
  0    all workers exited with 0     64   wrong usage
  124  --timeout                     70   a defect in muster
  126  program cannot be started     73   state, report or output not written
  127  program not found             130  Ctrl-C; 143 SIGTERM; 129 SIGHUP
  69   not enough nodes are left     78   wrong job file
  else the failed worker's own, or 128 + its signal; --report says which
)",
          .operand = Operand::kProgram};
}

}  // namespace muster

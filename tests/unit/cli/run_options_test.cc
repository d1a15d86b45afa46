#include "launcher/cli/run_options.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<RunOptions> Parse(const std::vector<std::string>& arguments) {
  bool help_wanted = false;
  return ParseRunOptions(arguments, &help_wanted);
}

std::string ErrorOf(const std::vector<std::string>& arguments) { return std::string(Parse(arguments).status().message()); }

TEST(RunOptions, TakesACommandLineOfMpirun) {
  const auto options = Parse({"--oversubscribe", "-np", "4", "-x", "SEED=7", "-x", "HOME", "-wdir", "/tmp", "--timeout", "9",
                              "--tag-output", "--report", "r.json", "train", "--lr", "0.1"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->workers, 4);
  EXPECT_THAT(options->environment, ElementsAre("SEED=7", "HOME"));
  EXPECT_EQ(options->working_directory, "/tmp");
  EXPECT_EQ(options->ending.timeout_seconds, 9);
  EXPECT_TRUE(options->output.tag);
  EXPECT_EQ(options->report_file, "r.json");
  EXPECT_THAT(options->command, ElementsAre("train", "--lr", "0.1"));
}

TEST(RunOptions, LeavesTheNumberOfWorkersOpen) { EXPECT_EQ(Parse({"train"})->workers, 0); }

TEST(RunOptions, RefusesWhatIsMissingOrNotThereYet) {
  EXPECT_THAT(ErrorOf({}), HasSubstr("no program given"));
  EXPECT_THAT(ErrorOf({"-np", "4"}), HasSubstr("no program given"));
  EXPECT_THAT(ErrorOf({"-np", "4", "--"}), HasSubstr("no program given"));
  EXPECT_THAT(ErrorOf({"--max-np", "2", "train"}), HasSubstr("--max-np is not in this version of muster."));
  EXPECT_THAT(ErrorOf({"-x", "=1", "train"}), HasSubstr("-x =1"));
}

TEST(RunOptions, TakesPlacementInAllOfMpirunsSpellings) {
  EXPECT_EQ(Parse({"--map-by", "numa", "train"})->placement.map_by, "numa");
  EXPECT_EQ(Parse({"-bynode", "train"})->placement.map_by, "node");
  EXPECT_EQ(Parse({"-npernode", "2", "train"})->placement.map_by, "ppr:2:node");
  EXPECT_EQ(Parse({"--npersocket", "3", "train"})->placement.map_by, "ppr:3:package");
  EXPECT_EQ(Parse({"--bind-to-core", "train"})->placement.bind_to, "core");
  EXPECT_EQ(Parse({"-cpus-per-proc", "2", "train"})->placement.cpus_per_rank, 2);
  EXPECT_FALSE(Parse({"train"})->placement.wanted());
  // To be shown is no wish to be moved.
  EXPECT_EQ(Parse({"--report-bindings", "train"})->placement.bind_to, "none");
  EXPECT_EQ(Parse({"--report-bindings", "--map-by", "core", "train"})->placement.bind_to, "");
  EXPECT_THAT(ErrorOf({"--bynode", "--npernode", "2", "train"}), HasSubstr("leave one out"));
  EXPECT_THAT(ErrorOf({"--map-by", "cores", "train"}), HasSubstr("--map-by cores"));
  EXPECT_THAT(ErrorOf({"--topology", "core:4", "train"}), HasSubstr("--do-not-launch"));
}

RunOptions Settled(std::vector<std::string> arguments, int64_t cores = 4) {
  arguments.push_back("train");
  RunOptions options = *Parse(arguments);
  const absl::Status status = SettleRunOptions(cores, &options);
  EXPECT_TRUE(status.ok()) << status;
  return options;
}

TEST(RunOptions, WorkersAndNodesFollowFromWhatIsSaid) {
  EXPECT_EQ(Settled({}).workers, 4);
  EXPECT_EQ(Settled({}).nodes, 1);
  EXPECT_EQ(Settled({}).workers_min, 4);
  EXPECT_EQ(Settled({"--nodes", "6"}).workers, 6);  // one a node at least
  EXPECT_EQ(Settled({"--nodes", "3", "--nproc-per-node", "2"}).workers, 6);
  EXPECT_EQ(Settled({"--nproc_per_node=2"}).workers, 2);
  EXPECT_EQ(Settled({"-N", "2", "--nodes", "2"}).workers, 4);
  EXPECT_EQ(Settled({"--nproc-per-node", "auto", "--nodes", "2"}, 3).workers, 6);
  EXPECT_EQ(Settled({"--nproc-per-node", "cpu"}, 3).workers, 3);
  EXPECT_EQ(Settled({"-np", "8", "--nnodes", "4"}).nodes, 4);
  const RunOptions range = Settled({"--nproc-per-node", "2", "--nnodes", "1:4", "--max-restarts", "3"});
  EXPECT_EQ(range.workers, 8);
  EXPECT_EQ(range.workers_min, 2);
  EXPECT_EQ(range.max_restarts, 3);
  EXPECT_EQ(Settled({"-np", "4", "--min-np", "2", "--max-restarts", "1", "--last-call", "0.5"}).workers_min, 2);
  EXPECT_TRUE(Settled({"--detach"}).detach);
  const RunOptions checkpoint = Settled({"--checkpoint-path", "/c", "--checkpoint-every", "10", "--checkpoint-keep", "2"});
  EXPECT_EQ(checkpoint.checkpoint_path, "/c");
  EXPECT_EQ(checkpoint.checkpoint_every, 10);
  EXPECT_EQ(checkpoint.checkpoint_keep, 2);
  EXPECT_EQ(Settled({"-np", "300", "--nodes", "2"}).workers, 300);
}

TEST(RunOptions, WhatDoesNotFitTogetherIsNamedWithTheRemedy) {
  const auto error = [](std::vector<std::string> arguments) {
    arguments.push_back("train");
    auto options = Parse(arguments);
    if (!options.ok()) return std::string(options.status().message());
    return std::string(SettleRunOptions(4, &*options).message());
  };
  EXPECT_EQ(error({"-np", "2", "--nodes", "3"}),
            "--nodes 3 with -np 2 leaves a node without a worker; use --nodes 2 or less, or -np 3 or more");
  EXPECT_EQ(error({"-np", "2", "--min-np", "3", "--max-restarts", "1"}),
            "--min-np 3 is more than -np 2; use --min-np 2 or less");
  EXPECT_THAT(error({"-np", "2", "--min-np", "1"}), HasSubstr("--max-restarts"));
  EXPECT_THAT(error({"--last-call", "3"}), HasSubstr("--max-restarts"));
  EXPECT_THAT(error({"-np", "300"}), HasSubstr("use -np 256 or less, or --nodes 2"));
  EXPECT_THAT(error({"-np", "2", "--nproc-per-node", "2"}), HasSubstr("leave one out"));
  EXPECT_THAT(error({"-np", "2", "--nproc-per-node", "auto"}), HasSubstr("leave one out"));
  EXPECT_THAT(error({"--nproc-per-node", "gpu"}), HasSubstr("knows of no GPUs"));
  for (const char* number : {"0", "257", "many", "-1", "2.5"}) {
    EXPECT_THAT(error({"--nproc-per-node", number}), HasSubstr("whole number from 1 to 256, auto or cpu")) << number;
  }
  EXPECT_THAT(error({"--nodes", "2", "--nnodes", "2"}), HasSubstr("leave one out"));
  for (const char* range : {"2:1", "0", "a", "1:", ":2", "1:2:3", "1000"}) {
    EXPECT_THAT(error({"--nnodes", range}), HasSubstr("write N or MIN:MAX")) << range;
  }
  EXPECT_EQ(error({"--checkpoint-every", "3"}), "--checkpoint-every needs --checkpoint-path FOLDER");
  EXPECT_EQ(error({"--checkpoint-keep", "3"}), "--checkpoint-keep needs --checkpoint-path FOLDER");
  EXPECT_THAT(error({"--nodes", "2", "--node-network", "bridge"}), HasSubstr("auto, namespaces or host"));
  EXPECT_THAT(error({"--node-network", "host"}), HasSubstr("--nodes 2"));
  EXPECT_THAT(error({"--max-restarts", "-1"}), HasSubstr("--max-restarts"));
}

TEST(RunOptions, OutputInAllItsSpellings) {
  const auto output = [](std::vector<std::string> arguments) { return Settled(std::move(arguments)).output.output; };
  EXPECT_TRUE(output({"--tag-output"}).tag());
  EXPECT_TRUE(output({"--output", "TAG,timestamp"}).timestamp());
  EXPECT_TRUE(output({"-l"}).rank());
  const v1::OutputSettings all = output({"-np", "12", "--output", "rank,host", "--output", "timestamp,merge"});
  EXPECT_TRUE(all.rank() && all.host() && all.timestamp() && all.merge_stderr());
  EXPECT_EQ(all.ranks(), 12u);
  EXPECT_FALSE(all.pass_partial_lines());
  EXPECT_TRUE(output({"-np", "1"}).pass_partial_lines());
  EXPECT_FALSE(output({"-np", "1", "--label"}).pass_partial_lines());
  EXPECT_EQ(output({"--output-filename", "/out"}).file_pattern(), "/out/1/rank.%R/%s");
  EXPECT_EQ(output({"--output", "rank,dir=/out:nojobid,nocopy"}).file_pattern(), "/out/rank.%R/%s");
  EXPECT_TRUE(output({"--output", "rank,dir=/out:nojobid,nocopy"}).files_only());
  EXPECT_EQ(output({"--output", "file=/out/log"}).file_pattern(), "/out/log.%r");
  EXPECT_EQ(output({"--output", "file=/out/log:nocopy"}).file_pattern(), "/out/log.%r");
  EXPECT_EQ(output({"--output", "file=/out/%h"}).file_pattern(), "/out/%h");
  EXPECT_THAT(output({"--output-filename", "%r"}).file_pattern(), ::testing::EndsWith("/%r"));
  EXPECT_EQ(output({"--output-buffer", "3"}).spill_bytes_max(), 3u << 20);

  EXPECT_EQ(Settled({"-np", "4", "--stdin", "3"}).output.standard_input.rank(), 3u);
  EXPECT_EQ(Settled({"--stdin", "all"}).output.standard_input.readers(), v1::StdinSettings::ALL);
  EXPECT_EQ(Settled({"--stdin=none"}).output.standard_input.readers(), v1::StdinSettings::NONE);
  EXPECT_EQ(Settled({}).output.standard_input.readers(), v1::StdinSettings::ONE);
}

TEST(RunOptions, OutputThatCannotBeIsNamedWithTheRemedy) {
  const auto error = [](std::vector<std::string> arguments) {
    arguments.push_back("train");
    auto options = Parse(arguments);
    if (!options.ok()) return std::string(options.status().message());
    return std::string(SettleRunOptions(4, &*options).message());
  };
  EXPECT_THAT(error({"--output", "ranks"}), HasSubstr("did you mean rank?"));
  EXPECT_THAT(error({"--output", "rank=3"}), HasSubstr("only dir= and file= have a value"));
  EXPECT_THAT(error({"--output", "dir"}), HasSubstr("write dir=NAME"));
  EXPECT_THAT(error({"--output", "dir=a,file=b"}), HasSubstr("leave one out"));
  EXPECT_THAT(error({"--tag-output", "--label"}), HasSubstr("leave one out"));
  EXPECT_THAT(error({"--output", "tag,host"}), HasSubstr("--output rank,host"));
  EXPECT_THAT(error({"--color", "blue"}), HasSubstr("auto, always or never"));
  EXPECT_THAT(error({"--output-filename", "%x"}), HasSubstr("--output-filename %x: there is no %x"));
  EXPECT_THAT(error({"-np", "2", "--output-filename", "%h:nocopy"}), HasSubstr("add %r"));
  EXPECT_EQ(error({"-np", "2", "--label", "--output-filename", "%h:nocopy"}), "");
  EXPECT_THAT(error({"-np", "2", "--nodes", "2", "--output-filename", "all%%"}), HasSubstr("add %h"));
  EXPECT_THAT(error({"-np", "2", "--stdin", "2"}), HasSubstr("ranks 0 to 1"));
  EXPECT_THAT(error({"--stdin", "some"}), HasSubstr("a rank, all or none"));
}

TEST(RunOptions, HelpIsAskedForBeforeTheProgramOnly) {
  bool help_wanted = false;
  ASSERT_TRUE(ParseRunOptions({"-np", "2", "--help"}, &help_wanted).ok());
  EXPECT_TRUE(help_wanted);
  ASSERT_TRUE(ParseRunOptions({"-np", "2", "train", "--help"}, &help_wanted).ok());
  EXPECT_FALSE(help_wanted);
}

TEST(RunOptions, SeveralProgramsHaveWhatIsTheirOwn) {
  const auto options = Parse({"--timeout", "9",  "-np", "1",     "-x",   "A=1",   "serve", "--port", "7", ":",    "-n",
                              "2",         "-x", "B=2", "-wdir", "/tmp", "train", "-np",   "9",      ":", "-np3", "log"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->workers, 6);
  EXPECT_EQ(options->ending.timeout_seconds, 9);
  EXPECT_THAT(options->environment, ElementsAre());
  ASSERT_EQ(options->applications.size(), 3u);
  EXPECT_EQ(options->applications[0].workers, 1);
  EXPECT_THAT(options->applications[0].environment, ElementsAre("A=1"));
  EXPECT_THAT(options->applications[0].command, ElementsAre("serve", "--port", "7"));
  EXPECT_EQ(options->applications[1].workers, 2);
  EXPECT_THAT(options->applications[1].environment, ElementsAre("B=2"));
  EXPECT_EQ(options->applications[1].working_directory, "/tmp");
  EXPECT_THAT(options->applications[1].command, ElementsAre("train", "-np", "9"));
  EXPECT_EQ(options->applications[2].workers, 3);
  EXPECT_THAT(options->applications[2].command, ElementsAre("log"));
}

TEST(RunOptions, AColonAfterTwoDashesIsTheProgramsOwn) {
  EXPECT_THAT(Parse({"-np", "1", "--", "echo", ":", "b"})->command, ElementsAre("echo", ":", "b"));
  EXPECT_TRUE(Parse({"-np", "1", "--", "echo", ":", "b"})->applications.empty());
  const auto second = Parse({"-np", "1", "a", ":", "-np", "1", "--", "b", ":", "c"});
  ASSERT_EQ(second->applications.size(), 2u);
  EXPECT_THAT(second->applications[1].command, ElementsAre("b", ":", "c"));
}

TEST(RunOptions, SeveralProgramsSayWhatIsMissingAndWhere) {
  EXPECT_THAT(ErrorOf({"-np", "1", "a", ":", "b"}), HasSubstr("-np is missing for b, program 2"));
  EXPECT_THAT(ErrorOf({"a", ":", "-np", "1", "b"}), HasSubstr("-np is missing for a, program 1"));
  EXPECT_THAT(ErrorOf({"-np", "1", "a", ":"}), HasSubstr("program 2 of the command line is missing"));
  EXPECT_THAT(ErrorOf({"-np", "1", "a", ":", "-np", "1", ":", "-np", "1", "b"}), HasSubstr("program 2 of the command line"));
  EXPECT_THAT(ErrorOf({"-np", "1", "a", ":", "-np", "1", "--timeout", "3", "b"}), HasSubstr("--timeout stands after a `:`"));
  EXPECT_THAT(ErrorOf({"-np", "1", "a", ":", "-np", "1", "--tag-output", "b"}), HasSubstr("before the first program"));
  EXPECT_THAT(ErrorOf({"-np", "1", "a", ":", "-nq", "1", "b"}), HasSubstr("unknown option -nq"));
  EXPECT_THAT(ErrorOf({"-np", "1", "a", ":", "-np", "1", "-x", "=1", "b"}), HasSubstr("-x =1"));
}

TEST(RunOptions, SeveralProgramsRunWithAllWorkersOrNotAtAll) {
  const auto settle = [](std::vector<std::string> words) {
    words.insert(words.end(), {"a", ":", "-np", "2", "b"});
    RunOptions options = *Parse(words);
    return std::string(SettleRunOptions(4, &options).message());
  };
  EXPECT_EQ(settle({"-np", "2", "--max-restarts", "3"}), "");
  EXPECT_EQ(settle({"-np", "2", "--max-restarts", "3", "--min-np", "4"}), "");
  EXPECT_THAT(settle({"-np", "2", "--max-restarts", "3", "--min-np", "3"}), HasSubstr("--min-np 3: a job of several programs"));
  EXPECT_THAT(settle({"-np", "2", "--max-restarts", "3", "--nnodes", "1:2"}), HasSubstr("write --nnodes 2"));
  EXPECT_THAT(settle({"-np", "1", "--nproc-per-node", "2"}), HasSubstr("--nproc-per-node is about one program"));
}

// With hosts, as RunCommand does it.
absl::StatusOr<RunOptions> SettledWith(const std::vector<std::string>& arguments, const std::string& file, int64_t cores = 4) {
  bool help_wanted = false;
  std::vector<std::string> words = {"-f", "job.yaml"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  MUSTER_ASSIGN_OR_RETURN(const JobFile job, ParseJobFile("job.yaml", file));
  MUSTER_ASSIGN_OR_RETURN(RunOptions options, ParseRunOptions(words, &help_wanted, &job));
  MUSTER_RETURN_IF_ERROR(ReadHosts(&options.hosts));
  MUSTER_RETURN_IF_ERROR(SettleRunOptions(cores, &options));
  return options;
}

TEST(JobFileOptions, WorkersAreAsManyAsSlotsAllowWithinTheRange) {
  const auto workers = [](const std::vector<std::string>& arguments, const std::string& range, int64_t cores) {
    const auto options = SettledWith(arguments, "command: [a]\nworkers: {" + range + "}", cores);
    EXPECT_TRUE(options.ok()) << options.status();
    return options.ok() ? options->workers : -1;
  };
  EXPECT_EQ(workers({}, "min: 2, max: 8", 4), 4);
  EXPECT_EQ(workers({}, "min: 2, max: 3", 4), 3);
  EXPECT_EQ(workers({}, "min: 2, max: 8", 1), 2);  // cores are shared
  EXPECT_EQ(workers({}, "max: 8, per_node: 3", 1), 3);
  EXPECT_EQ(workers({"--nodes", "2"}, "max: 8, per_node: 3", 1), 6);
  EXPECT_EQ(workers({"--nodes", "4"}, "max: 8, per_node: 3", 1), 8);
  EXPECT_EQ(workers({"-np", "1"}, "min: 2, max: 8, per_node: 3", 4), 1);
  EXPECT_EQ(workers({"-H", "localhost:5"}, "min: 2, max: 8", 1), 5);
  EXPECT_EQ(workers({"-H", "localhost:9"}, "min: 2, max: 8", 1), 8);
  EXPECT_EQ(workers({"-H", "a:4,b:4", "--starter", "local"}, "max: 8, per_node: 1", 1), 2);
  EXPECT_THAT(SettledWith({"-H", "localhost:1"}, "command: [a]\nworkers: {min: 2}").status().message(),
              HasSubstr("workers.min: 2, but the slots of 1 hosts are 1"));
}

TEST(JobFileOptions, MinSufficesAfterALoss) {
  EXPECT_EQ(SettledWith({}, "command: [a]\nworkers: {min: 2, max: 4}\nrecovery: {max_restarts: 1}")->workers_min, 2);
  EXPECT_EQ(SettledWith({}, "command: [a]\nworkers: {min: 2, max: 4}")->workers_min, 4);
  EXPECT_EQ(SettledWith({"--min-np", "3"}, "command: [a]\nworkers: {min: 2, max: 4}\nrecovery: {max_restarts: 1}")->workers_min,
            3);
}

// A field that the parser knows and nobody applies would be taken, and forgotten.
TEST(JobFileOptions, EveryFieldIsAppliedOrSaidToHaveNoEffect) {
  struct Effect {
    std::string file;
    bool (*seen)(const RunOptions& options);
    std::vector<std::string> arguments = {};
  };
  const auto unused = [](const RunOptions& options, absl::string_view what) {
    const auto& notes = options.job_file.without_effect;
    return std::any_of(notes.begin(), notes.end(), [&](const std::string& note) { return absl::StrContains(note, what); });
  };
  static const auto& says_unused = *new auto(unused);
  const std::vector<std::string> three = {"-H", "p,q,r", "-np", "1", "--starter", "local"};
  const auto kubernetes = [](const RunOptions& options) {
    return says_unused(options, "kubernetes: is for jobs on Kubernetes alone");
  };
  const std::map<std::string, Effect> effects = {
      {"name", {"name: one", [](const RunOptions& o) { return o.name == "one"; }}},
      {"command",
       {"command: [b, c]",
        [](const RunOptions& o) {
          return o.command == std::vector<std::string>{"b", "c"};
        }}},
      {"workers.min", {"workers: {min: 9}", [](const RunOptions& o) { return o.workers == 9; }}},
      {"workers.max", {"workers: {max: 2}", [](const RunOptions& o) { return o.workers == 2; }}},
      {"workers.per_node", {"workers: {per_node: 3}", [](const RunOptions& o) { return o.workers == 3; }}},
      {"resources.cpu", {"resources: {cpu: 1}", [](const RunOptions& o) { return says_unused(o, "resources.cpu"); }}},
      {"resources.memory",
       {"resources: {memory: 1Gi}", [](const RunOptions& o) { return says_unused(o, "resources.memory"); }}},
      {"resources.gpu", {"resources: {gpu: 1}", [](const RunOptions& o) { return says_unused(o, "resources.gpu"); }}},
      {"placement.map_by", {"placement: {map_by: node}", [](const RunOptions& o) { return o.placement.map_by == "node"; }}},
      {"placement.rank_by", {"placement: {rank_by: slot}", [](const RunOptions& o) { return o.placement.rank_by == "slot"; }}},
      {"placement.bind_to", {"placement: {bind_to: numa}", [](const RunOptions& o) { return o.placement.bind_to == "numa"; }}},
      {"topology.files",
       {"topology: {files: [t.conf]}",
        [](const RunOptions& o) { return o.network.files.files == std::vector<std::string>{"t.conf"}; }}},
      {"nccl.environment",
       {"nccl: {environment: off}", [](const RunOptions& o) { return o.network.nccl_environment == "off"; }}},
      {"topology.label_keys",
       {"topology: {label_keys: [x/a, x/b]}", [](const RunOptions& o) { return o.network.files.label_keys == "x/a,x/b"; }}},
      {"env", {"env: {A: 1}", [](const RunOptions& o) { return o.environment == std::vector<std::string>{"A=1"}; }}},
      {"output.marks",
       {"output: {marks: [rank, timestamp]}",
        [](const RunOptions& o) { return o.output.output.rank() && o.output.output.timestamp(); }}},
      {"output.files",
       {"output: {files: /x/%r}", [](const RunOptions& o) { return o.output.output.file_pattern() == "/x/%r"; }}},
      {"stdin",
       {"stdin: all", [](const RunOptions& o) { return o.output.standard_input.readers() == v1::StdinSettings::ALL; }}},
      {"checkpoint.path", {"checkpoint: {path: /x}", [](const RunOptions& o) { return o.checkpoint_path == "/x"; }}},
      {"checkpoint.every_steps",
       {"checkpoint: {path: /x, every_steps: 5}", [](const RunOptions& o) { return o.checkpoint_every == 5; }}},
      {"checkpoint.keep", {"checkpoint: {path: /x, keep: 5}", [](const RunOptions& o) { return o.checkpoint_keep == 5; }}},
      {"recovery.max_restarts", {"recovery: {max_restarts: 5}", [](const RunOptions& o) { return o.max_restarts == 5; }}},
      {"recovery.spares", {"recovery: {max_restarts: 1, spares: 2}", [](const RunOptions& o) { return o.spares == 2; }, three}},
      {"recovery.last_call",
       {"recovery: {max_restarts: 1, last_call: 5s}", [](const RunOptions& o) { return o.last_call_seconds == 5; }}},
      {"starter.ssh.hosts",
       {"starter: {ssh: {hosts: [\"p:2\", q]}}",
        [](const RunOptions& o) { return o.hosts.shares.size() == 2 && o.workers == 3; }}},
      {"starter.ssh.hostfile",
       {"starter: {ssh: {hostfile: /dev/null}}", [](const RunOptions& o) { return o.hosts.file == "/dev/null"; }}},
      {"starter.ssh.remote_muster",
       {"starter: {ssh: {hosts: [p], remote_muster: /opt/muster}}",
        [](const RunOptions& o) { return o.job_file.remote_muster == "/opt/muster"; }}},
      {"kubernetes.image", {"kubernetes: {image: a}", kubernetes}},
      {"kubernetes.namespace", {"kubernetes: {namespace: a}", kubernetes}},
      {"kubernetes.queue", {"kubernetes: {queue: a}", kubernetes}},
      {"kubernetes.volumes[].claim", {"kubernetes: {volumes: [{claim: a, path: /a}]}", kubernetes}},
      {"kubernetes.volumes[].path", {"kubernetes: {volumes: [{claim: a, path: /a}]}", kubernetes}},
      {"kubernetes.volumes[].size", {"kubernetes: {volumes: [{claim: a, path: /a, size: 1Gi}]}", kubernetes}},
      {"kubernetes.volumes[].class", {"kubernetes: {volumes: [{claim: a, path: /a, size: 1Gi, class: b}]}", kubernetes}},
      {"kubernetes.record", {"kubernetes: {record: a}", kubernetes}},
      {"kubernetes.grace", {"kubernetes: {grace: 90s}", kubernetes}},
      {"kubernetes.deadline", {"kubernetes: {deadline: 1h}", kubernetes}},
      {"kubernetes.keep_finished", {"kubernetes: {keep_finished: 1h}", kubernetes}},
      {"kubernetes.retries", {"kubernetes: {retries: 1}", kubernetes}},
      {"kubernetes.user", {"kubernetes: {user: 1000}", kubernetes}},
      {"kubernetes.port", {"kubernetes: {port: 5000}", kubernetes}},
      {"kubernetes.shm", {"kubernetes: {shm: 1Gi}", kubernetes}},
      {"kubernetes.gpu_resource", {"kubernetes: {gpu_resource: example.com/gpu}", kubernetes}},
      {"kubernetes.device_class", {"kubernetes: {device_class: a}", kubernetes}},
      {"kubernetes.priority_class", {"kubernetes: {priority_class: a}", kubernetes}},
      {"kubernetes.mesh", {"kubernetes: {mesh: istio}", kubernetes}},
      {"kubernetes.join", {"kubernetes: {join: token}", kubernetes}},
      {"kubernetes.topology.required", {"kubernetes: {topology: {required: rack}}", kubernetes}},
      {"kubernetes.topology.preferred", {"kubernetes: {topology: {preferred: rack}}", kubernetes}},
      {"kubernetes.node_selector", {"kubernetes: {node_selector: {a: b}}", kubernetes}},
      {"kubernetes.tolerations[].key", {"kubernetes: {tolerations: [{key: a}]}", kubernetes}},
      {"kubernetes.tolerations[].value", {"kubernetes: {tolerations: [{key: a, value: b}]}", kubernetes}},
      {"kubernetes.tolerations[].effect", {"kubernetes: {tolerations: [{key: a, effect: NoSchedule}]}", kubernetes}},
  };
  for (const std::string& field : JobFileFields()) {
    SCOPED_TRACE(field);
    const auto effect = effects.find(field);
    if (effect == effects.end()) {
      ADD_FAILURE() << "no test shows that this field does anything";
      continue;
    }
    const auto with = [&](const std::string& line) {
      const std::string command = field == "command" && !line.empty() ? "" : "command: [a]\n";
      auto options = SettledWith(effect->second.arguments, command + line);
      // An empty list of hosts is an error that only its reader can know of.
      if (!options.ok() && field == "starter.ssh.hostfile") {
        EXPECT_THAT(options.status().message(), HasSubstr("/dev/null"));
        options = RunOptions();
        options->hosts.file = line.empty() ? "" : "/dev/null";
      }
      return options;
    };
    const auto without = with(""), present = with(effect->second.file);
    ASSERT_TRUE(present.ok()) << present.status();
    ASSERT_TRUE(without.ok()) << without.status();
    EXPECT_TRUE(effect->second.seen(*present));
    EXPECT_FALSE(effect->second.seen(*without));
  }
  EXPECT_EQ(JobFileFields().size(), effects.size());
  EXPECT_THAT(SettledWith({}, "command: [a]\nstarter: {ssh: {hosts: [p], remote_muster: bin/muster}}").status().message(),
              HasSubstr("job.yaml:2:44: starter.ssh.remote_muster: bin/muster: write the whole path"));
}

TEST(RunOptions, SparesAreTheNextHostsOfTheList) {
  const auto settled = [](std::vector<std::string> arguments, const std::string& file = "command: [a]") {
    return SettledWith(arguments, file);
  };
  const auto spare =
      settled({"-H", "p:2,q:2,r:3,s:1", "-np", "4", "--max-restarts", "1", "--spares", "1", "--starter", "local"});
  ASSERT_TRUE(spare.ok()) << spare.status();
  EXPECT_EQ(spare->nodes, 2);
  ASSERT_EQ(spare->hosts.spare.size(), 1u);
  EXPECT_EQ(spare->hosts.spare[0].host.name, "r");
  EXPECT_EQ(spare->hosts.spare[0].workers, 3);
  EXPECT_THAT(
      settled({"-H", "p:2,q:2", "-np", "4", "--max-restarts", "1", "--spares", "1", "--starter", "local"}).status().message(),
      HasSubstr("of the 2 hosts of the list 2 get workers, which leaves 0; name more hosts"));
  EXPECT_THAT(settled({"--spares", "1"}).status().message(), HasSubstr("add --max-restarts N"));
  EXPECT_EQ(settled({"--nodes", "2", "--spares", "1", "--max-restarts", "1"})->spares, 1);
  // A file is for a laptop too.
  const std::string file = "command: [a]\nrecovery: {max_restarts: 1, spares: 3}";
  EXPECT_EQ(settled({}, file)->spares, 0);
  EXPECT_EQ(settled({"--nodes", "2"}, file)->spares, 3);
  EXPECT_EQ(settled({"-H", "p,q,r", "-np", "2", "--starter", "local"}, file)->spares, 1);
}

TEST(JobFileOptions, FlagsGoBeforeTheFile) {
  constexpr char kFile[] =
      "command: [a, b]\nname: one\nenv: {A: 1, B: 2}\ncheckpoint: {path: /x, keep: 3}\n"
      "recovery: {max_restarts: 4, last_call: 5s}\nstarter: {ssh: {hosts: [\"p:2\", q]}}";
  const auto plain = SettledWith({"--starter", "local"}, kFile);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_THAT(plain->command, ElementsAre("a", "b"));
  EXPECT_EQ(plain->name, "one");
  EXPECT_EQ(plain->checkpoint_path, "/x");
  EXPECT_EQ(plain->max_restarts, 4);
  EXPECT_EQ(plain->last_call_seconds, 5);
  EXPECT_EQ(plain->workers, 3);
  EXPECT_EQ(plain->nodes, 2);
  const auto typed = SettledWith(
      {"-H", "localhost", "--name", "two", "-x", "A=3", "--max-restarts", "0", "--checkpoint-keep", "9", "c"}, kFile);
  ASSERT_TRUE(typed.ok()) << typed.status();
  EXPECT_THAT(typed->command, ElementsAre("c"));
  EXPECT_EQ(typed->name, "two");
  EXPECT_THAT(typed->environment, ElementsAre("A=1", "B=2", "A=3"));  // the last one holds
  EXPECT_EQ(typed->max_restarts, 0);
  EXPECT_EQ(typed->checkpoint_keep, 9);
  EXPECT_EQ(typed->workers, 1);
}

}  // namespace
}  // namespace muster

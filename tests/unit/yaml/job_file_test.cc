#include "launcher/yaml/job_file.h"

#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/yaml/yaml_reader.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::StartsWith;

std::string ErrorOf(absl::string_view text) {
  const auto job = ParseJobFile("job.yaml", text);
  return job.ok() ? "OK" : std::string(job.status().message());
}

constexpr char kWhole[] = R"(name: words
command: [train_words, --data, /usr/share/dict/words, 7]
workers: {min: 2, max: 8, per_node: 2}        # starts with as many as slots allow, up to max
resources: {cpu: 2, memory: 4Gi, gpu: 0}
placement: {map_by: numa, bind_to: core}
env: {OMP_NUM_THREADS: "1", EMPTY: "", NUMBER: 7}
output: {marks: [rank, host], files: logs/%r.log}
stdin: all
checkpoint: {path: /data/words, every_steps: 100, keep: 3}
recovery: {max_restarts: 3, spares: 1, last_call: 1m30s}
starter: {ssh: {hosts: [node-a, "node[1-3]:2"]}}
kubernetes: {image: muster:latest, namespace: train, queue: research, volumes: [{claim: words-data, path: /data}]}
)";

TEST(JobFile, ReadsEveryField) {
  const auto job = ParseJobFile("job.yaml", kWhole);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->name->value, "words");
  EXPECT_THAT(job->command->value, ElementsAre("train_words", "--data", "/usr/share/dict/words", "7"));
  EXPECT_EQ(job->command->line, 2);
  EXPECT_EQ(job->command->column, 10);
  EXPECT_EQ(job->workers.min->value, 2);
  EXPECT_EQ(job->workers.max->value, 8);
  EXPECT_EQ(job->workers.per_node->value, 2);
  EXPECT_EQ(job->resources.cpu_millis->value, 2000);
  EXPECT_EQ(job->resources.memory_bytes->value, int64_t{4} << 30);
  EXPECT_EQ(job->resources.gpu->value, 0);
  EXPECT_EQ(job->placement.map_by->value, "numa");
  EXPECT_FALSE(job->placement.rank_by);
  EXPECT_EQ(job->placement.bind_to->value, "core");
  EXPECT_THAT(job->env->value, ElementsAre(Pair("OMP_NUM_THREADS", "1"), Pair("EMPTY", ""), Pair("NUMBER", "7")));
  EXPECT_THAT(job->output.marks->value, ElementsAre("rank", "host"));
  EXPECT_EQ(job->output.files->value, "logs/%r.log");
  EXPECT_EQ(job->standard_input->value, "all");
  EXPECT_EQ(job->checkpoint.path->value, "/data/words");
  EXPECT_EQ(job->checkpoint.every_steps->value, 100);
  EXPECT_EQ(job->checkpoint.keep->value, 3);
  EXPECT_EQ(job->recovery.max_restarts->value, 3);
  EXPECT_EQ(job->recovery.spares->value, 1);
  EXPECT_EQ(job->recovery.last_call_seconds->value, 90);
  EXPECT_THAT(job->ssh.hosts->value, ElementsAre("node-a", "node[1-3]:2"));
  EXPECT_TRUE(job->has_kubernetes);
  EXPECT_EQ(job->kubernetes.image->value, "muster:latest");
  EXPECT_EQ(job->kubernetes.name_space->value, "train");
  ASSERT_EQ(job->kubernetes.volumes.size(), 1u);
  EXPECT_EQ(job->kubernetes.volumes[0].path->value, "/data");
}

TEST(JobFile, TakesTheExample) {
  std::ifstream file(MUSTER_EXAMPLE_JOB);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_EQ(ErrorOf(text), "OK");
}

TEST(JobFile, TakesQuantitiesOfKubernetes) {
  const auto cpu = [](const std::string& text) {
    return ParseJobFile("j", absl::StrCat("resources: {cpu: ", text, "}"))->resources.cpu_millis->value;
  };
  EXPECT_EQ(cpu("0.5"), 500);
  EXPECT_EQ(cpu("250m"), 250);
  const auto memory = [](const std::string& text) {
    return ParseJobFile("j", absl::StrCat("resources: {memory: ", text, "}"))->resources.memory_bytes->value;
  };
  EXPECT_EQ(memory("1000"), 1000);
  EXPECT_EQ(memory("1.5Gi"), int64_t{3} << 29);
  EXPECT_EQ(memory("2G"), 2'000'000'000);
}

TEST(JobFile, ReadsWhatAClusterIsAskedFor) {
  const auto job = ParseJobFile("job.yaml", R"(
kubernetes:
  image: registry.example.com/words:1
  record: words-record
  grace: 2m
  deadline: 24h
  keep_finished: 90s
  retries: 0
  user: 1000
  port: 5000
  shm: 2Gi
  device_class: gpu.example.com
  priority_class: high
  mesh: istio
  join: token
  topology: {required: cloud.example.com/rack}
  node_selector: {example.com/pool: gpu, zone: ""}
  tolerations: [{key: nvidia.com/gpu, effect: NoSchedule}, {key: a, value: b}]
  volumes: [{claim: c, path: /data, size: 10Gi, class: fast}]
)");
  ASSERT_TRUE(job.ok()) << job.status();
  const JobFile::Kubernetes& k = job->kubernetes;
  EXPECT_EQ(k.record->value, "words-record");
  EXPECT_EQ(k.grace_seconds->value, 120);
  EXPECT_EQ(k.deadline_seconds->value, 86400);
  EXPECT_EQ(k.keep_finished_seconds->value, 90);
  EXPECT_EQ(k.retries->value, 0);
  EXPECT_EQ(k.user->value, 1000);
  EXPECT_EQ(k.port->value, 5000);
  EXPECT_EQ(k.shm_bytes->value, int64_t{2} << 30);
  EXPECT_EQ(k.device_class->value, "gpu.example.com");
  EXPECT_EQ(k.priority_class->value, "high");
  EXPECT_EQ(k.mesh->value, "istio");
  EXPECT_EQ(k.join->value, "token");
  EXPECT_EQ(k.topology_required->value, "cloud.example.com/rack");
  EXPECT_THAT(k.node_selector->value, ElementsAre(Pair("example.com/pool", "gpu"), Pair("zone", "")));
  ASSERT_EQ(k.tolerations.size(), 2u);
  EXPECT_EQ(k.tolerations[1].value->value, "b");
  EXPECT_EQ(k.volumes[0].size_bytes->value, int64_t{10} << 30);
  EXPECT_EQ(k.volumes[0].storage_class->value, "fast");
}

TEST(JobFile, RefusesWhatNoClusterWouldTake) {
  EXPECT_EQ(ErrorOf("kubernetes: {mesh: istoi}"), "job.yaml:1:20: kubernetes.mesh: there is no \"istoi\"; did you mean istio?");
  EXPECT_EQ(ErrorOf("kubernetes: {grase: 5s}"), "job.yaml:1:14: kubernetes.grase: there is no such field; did you mean grace?");
  EXPECT_THAT(ErrorOf("kubernetes: {grace: 500ms}"), HasSubstr("is a time of whole seconds"));
  EXPECT_THAT(ErrorOf("kubernetes: {user: 0}"), HasSubstr("a whole number from 1 to 2147483647"));
  EXPECT_THAT(ErrorOf("kubernetes: {port: 80}"), HasSubstr("from 1024 to 65535"));
  EXPECT_THAT(ErrorOf("kubernetes: {gpu_resource: gpu}"), HasSubstr("is a name such as example.com/name"));
  EXPECT_THAT(ErrorOf("kubernetes: {gpu_resource: a.b/gpu, device_class: c}"), HasSubstr("GPUs are asked for twice"));
  EXPECT_THAT(ErrorOf("kubernetes: {topology: {required: a, preferred: b}}"), HasSubstr("leave required or preferred out"));
  EXPECT_THAT(ErrorOf("kubernetes: {tolerations: [{effect: NoSchedule}]}"), HasSubstr("lacks key"));
  EXPECT_THAT(ErrorOf("kubernetes: {tolerations: [{key: a, effect: Evict}]}"), HasSubstr("is one of NoSchedule, PreferNoSchedule, NoExecute"));
  EXPECT_THAT(ErrorOf("kubernetes: {node_selector: {a b: c}}"), HasSubstr("not \"a b\""));
  EXPECT_THAT(ErrorOf("kubernetes: {volumes: [{claim: a, path: /b, class: c}]}"), HasSubstr("needs size"));
}

TEST(YamlStream, TakesWhatOthersWrite) {
  const auto documents = ReadYamlStream("m.yaml", "a: &x {b: 1}\nc: *x\n---\n---\n- !!str 7\n");
  ASSERT_TRUE(documents.ok()) << documents.status();
  ASSERT_EQ(documents->size(), 2u);
  const YamlNode& copy = (*documents)[0].pairs[1].value;
  EXPECT_EQ(copy.line, 2);
  EXPECT_EQ(copy.pairs[0].value.text, "1");
  EXPECT_TRUE((*documents)[1].items[0].quoted);
}

TEST(YamlStream, IsBounded) {
  std::string laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    absl::StrAppend(&laughs, "a", i, ": &a", i, " [");
    for (int j = 0; j < 10; ++j) absl::StrAppend(&laughs, j > 0 ? ", " : "", "*a", i - 1);
    laughs += "]\n";
  }
  EXPECT_THAT(std::string(ReadYamlStream("m.yaml", laughs).status().message()), HasSubstr("too large once its aliases"));
  EXPECT_THAT(std::string(ReadYamlStream("m.yaml", std::string(100, '[') + std::string(100, ']')).status().message()), HasSubstr("nested too deeply"));
  EXPECT_THAT(std::string(ReadYamlStream("m.yaml", "a: [").status().message()), StartsWith("m.yaml:"));
}

TEST(YamlStream, EndsWhereNoValueBegins) {
  for (const std::string before : {"", "a: 1\n", "a: 1\n---\n", "---\n---\n", "a: 1\n...\n"}) {
    for (const std::string stray : {",", ", b", ",,\nb: 2", "]", "}"}) {
      const auto documents = ReadYamlStream("m.yaml", before + stray);
      EXPECT_FALSE(documents.ok()) << before << stray;
      EXPECT_THAT(std::string(documents.status().message()), StartsWith("m.yaml:")) << before << stray;
    }
  }
  EXPECT_EQ(ReadYamlStream("m.yaml", "---\n---\n---\na\n...\n...\n---\nb\n")->size(), 2u);
  EXPECT_EQ(ReadYamlStream("m.yaml", "a\n---\n, b").status().message(), "m.yaml:3:1: not YAML: no value begins here");
  EXPECT_EQ(ReadYaml("m.yaml", ", b").status().message(), "m.yaml:1:1: not YAML: no value begins here");
}

TEST(JobFile, NamesTheNearestField) {
  EXPECT_EQ(ErrorOf("workers:\n  mim: 2\n"), "job.yaml:2:3: workers.mim: there is no such field; did you mean min?");
  EXPECT_EQ(ErrorOf("comand: [a]"), "job.yaml:1:1: comand: there is no such field; did you mean command?");
  EXPECT_EQ(ErrorOf("recovery: {max_restart: 3}"),
            "job.yaml:1:12: recovery.max_restart: there is no such field; did you mean max_restarts?");
  EXPECT_THAT(ErrorOf("zebra: 1"), HasSubstr("zebra: there is no such field; a job has name, command, workers"));
}

TEST(JobFile, SaysWhereAMisplacedFieldBelongs) {
  EXPECT_EQ(ErrorOf("max_restarts: 3"), "job.yaml:1:1: max_restarts: there is no such field here; it belongs under recovery:");
  EXPECT_EQ(ErrorOf("workers:\n  command: [a]"),
            "job.yaml:2:3: workers.command: belongs to the file's first level; do not indent it");
  EXPECT_THAT(ErrorOf("starter: {hosts: [a]}"),
              HasSubstr("starter.hosts: there is no such field here; it belongs under starter.ssh:"));
}

TEST(JobFile, RefusesWhatIsOfAnotherKindOrOutOfRange) {
  EXPECT_EQ(
      ErrorOf("workers: 4"),
      "job.yaml:1:10: workers: this is a section with fields (min, max, per_node), such as min: VALUE on a line of its own");
  EXPECT_EQ(ErrorOf("workers: {max: 0}"), "job.yaml:1:16: workers.max: is a whole number from 1 to 1000000, not \"0\"");
  EXPECT_EQ(ErrorOf("workers: {max: many}"), "job.yaml:1:16: workers.max: is a whole number from 1 to 1000000, not \"many\"");
  EXPECT_EQ(ErrorOf("workers: {max: \"4\"}"), "job.yaml:1:16: workers.max: is a number; write 4 without quotes");
  EXPECT_EQ(ErrorOf("workers: {max: [4]}"), "job.yaml:1:16: workers.max: is a whole number from 1 to 1000000, not a list");
  EXPECT_THAT(ErrorOf("workers: {max: }"),
              HasSubstr("workers.max: is a whole number from 1 to 1000000; there is nothing here"));
  EXPECT_EQ(ErrorOf("workers: {min: 3, max: 2}"), "job.yaml:1:16: workers.min: 3 is more than workers.max, which is 2");
  EXPECT_EQ(ErrorOf("workers: {per_node: 3, max: 2}"),
            "job.yaml:1:21: workers.per_node: 3 is more than workers.max, which is 2");
  EXPECT_EQ(ErrorOf("command: train"), "job.yaml:1:10: command: is a list; write [train, ...]");
  EXPECT_EQ(ErrorOf("command: train --data x"), "job.yaml:1:10: command: is a list; write [program, ...]");
  EXPECT_EQ(ErrorOf("command: []"), "job.yaml:1:10: command: names nothing; write [program, ...]");
  EXPECT_EQ(ErrorOf("command: [a, [b]]"), "job.yaml:1:14: command[1]: is a word, not a list");
  EXPECT_THAT(ErrorOf("name: Words!"), HasSubstr("name: \"Words!\" is no name; it holds at most 63 small letters"));
  EXPECT_THAT(ErrorOf("env: {A: [1]}"), HasSubstr("env.A: is a variable's value"));
  EXPECT_THAT(ErrorOf("env: {A: }"), HasSubstr("in quotes where it is empty; there is nothing here"));
  EXPECT_THAT(ErrorOf("env: {A=B: 1}"), HasSubstr("a variable's name is a word without '='"));
  EXPECT_THAT(ErrorOf("recovery: {last_call: 5}"),
              HasSubstr("a time above 0 with its unit, such as 5s, 1m30s or 500ms, not \"5\""));
  EXPECT_THAT(ErrorOf("recovery: {last_call: -5s}"), HasSubstr("not \"-5s\""));
  EXPECT_THAT(ErrorOf("resources: {memory: 4GiB}"), HasSubstr("such as 512Mi, 4Gi or 2G, not \"4GiB\""));
  EXPECT_THAT(ErrorOf("resources: {cpu: 0}"), HasSubstr("a number of cores above 0"));
  EXPECT_THAT(ErrorOf("checkpoint: {keep: 3}"), HasSubstr("checkpoint.keep: needs checkpoint.path"));
  EXPECT_THAT(ErrorOf("starter: {ssh: {hosts: [a, \"b:x\"]}}"),
              HasSubstr("job.yaml:1:28: starter.ssh.hosts[1]: host 1, \"b:x\": \"x\" is no number of slots"));
  EXPECT_THAT(ErrorOf("starter: {ssh: {hosts: [a], hostfile: b}}"), HasSubstr("the hosts are named twice"));
  EXPECT_THAT(ErrorOf("kubernetes: {volumes: [{claim: a}]}"), HasSubstr("kubernetes.volumes[0]: lacks path"));
  EXPECT_THAT(ErrorOf("kubernetes: {volumes: [{claim: a, path: b}]}"), HasSubstr("begins with '/'"));
}

TEST(JobFile, RefusesWhatIsSaidTwice) {
  EXPECT_EQ(ErrorOf("workers:\n  max: 1\n  max: 2\n"), "job.yaml:3:3: workers.max: said twice, first in line 2; leave one out");
  EXPECT_EQ(ErrorOf("name: a\nname: b"), "job.yaml:2:1: name: said twice, first in line 1; leave one out");
  EXPECT_EQ(ErrorOf("env: {A: 1, A: 2}"), "job.yaml:1:13: env.A: said twice; leave one out");
}

TEST(JobFile, ListsAllErrorsInTheirOrder) {
  EXPECT_EQ(ErrorOf("workers: {mim: 2}\nname: X\ncommand: ls\n"),
            "job.yaml:1:11: workers.mim: there is no such field; did you mean min?\n"
            "job.yaml:2:7: name: \"X\" is no name; it holds at most 63 small letters, digits and '-', with a letter or digit "
            "at both ends\n"
            "job.yaml:3:10: command: is a list; write [ls, ...]");
  std::string many;
  for (int i = 0; i < 30; ++i) absl::StrAppend(&many, "zebra", i, ": 1\n");
  EXPECT_THAT(ErrorOf(many), HasSubstr("\njob.yaml: and 11 more"));
}

TEST(JobFile, RefusesWhatIsNoPlainYaml) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("the file is empty"));
  EXPECT_THAT(ErrorOf("- a\n"), HasSubstr("job.yaml:1:1: the file is a section with fields"));
  EXPECT_THAT(ErrorOf("command: [a\nname: b"), AllOf(StartsWith("job.yaml:"), HasSubstr("not YAML: ")));
  EXPECT_THAT(ErrorOf("name: a\n---\nname: b"), HasSubstr("several documents"));
  EXPECT_THAT(ErrorOf("name: &a b"), HasSubstr("job.yaml:1:7: anchors (&name) are not used"));
  EXPECT_THAT(ErrorOf("name: !x b"), HasSubstr("tags (!name) are not used"));
  EXPECT_THAT(ErrorOf(absl::string_view("name: \0a", 8)), HasSubstr("NUL"));
  EXPECT_THAT(ErrorOf("env: {\"A\\nB\": []}"), HasSubstr("job.yaml:1:15: env.A B: is a variable's value"));  // one line still
  EXPECT_THAT(ErrorOf(std::string(40, '[') + std::string(40, ']')), HasSubstr("nested too deeply"));
  EXPECT_THAT(ErrorOf(std::string(kJobFileBytesMax + 1, ' ')), HasSubstr("has more than 1048576 bytes"));
}

TEST(JobFile, TheNetworkIsAListOfFilesAndOneOfKeys) {
  const auto job = ParseJobFile(
      "job.yaml", "command: [a]\ntopology: {files: [\"slurm:t.conf\", n.json], label_keys: [x/row, x/rack=shelf]}");
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->topology.files->value, (std::vector<std::string>{"slurm:t.conf", "n.json"}));
  EXPECT_EQ(job->topology.label_keys->value, "x/row,x/rack=shelf");
  EXPECT_THAT(ErrorOf("topology: {file: a}"),
              HasSubstr("job.yaml:1:12: topology.file: there is no such field; did you mean files?"));
  EXPECT_THAT(ErrorOf("topology: {files: a}"), HasSubstr("topology.files: is a list; write [a, ...]"));
}

}  // namespace
}  // namespace muster

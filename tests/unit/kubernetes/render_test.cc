// What a job file becomes, and what is refused before a cluster would.
#include "launcher/kubernetes/render.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster::kubernetes {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kLeast[] = "name: words\ncommand: [train, --x]\nkubernetes: {image: muster:1}\n";

absl::StatusOr<Plan> PlanOf(const std::string& text) {
  const auto job = ParseJobFile("job.yaml", text);
  if (!job.ok()) return job.status();
  return MakePlan("job.yaml", *job);
}

Json Find(const std::vector<Manifest>& manifests, const std::string& kind, const std::string& name) {
  for (const Manifest& manifest : manifests) {
    if (manifest.document["kind"] == kind && manifest.document["metadata"]["name"] == name) return manifest.document;
  }
  ADD_FAILURE() << "no " << kind << " " << name;
  return Json::object();
}

std::vector<std::string> Arguments(const Json& pod_template) {
  return pod_template["spec"]["containers"][0]["args"].get<std::vector<std::string>>();
}

TEST(Plan, DecidesNodesFromWorkers) {
  const auto nodes = [](const std::string& workers) {
    const auto plan = PlanOf(absl::StrCat(kLeast, "workers: ", workers, "\n"));
    EXPECT_TRUE(plan.ok()) << plan.status();
    return absl::StrCat(plan->nodes, " ", plan->workers, " ", plan->workers_min, " ", plan->workers_per_node);
  };
  EXPECT_EQ(nodes("{max: 8, per_node: 2}"), "4 8 8 2");
  EXPECT_EQ(nodes("{min: 3}"), "3 3 3 1");
  EXPECT_EQ(nodes("{min: 2, max: 7, per_node: 4}"), "2 7 2 4");
  EXPECT_EQ(nodes("{per_node: 4}"), "1 4 4 4");
}

TEST(Plan, WritesQuantitiesForAPodAsKubernetesDoes) {
  const auto plan =
      PlanOf(absl::StrCat(kLeast, "workers: {max: 4, per_node: 2}\nresources: {cpu: 0.5, memory: 1536Mi, gpu: 1}\n"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cpu, "1");
  EXPECT_EQ(plan->memory, "3Gi");
  EXPECT_EQ(plan->gpus, 2);
}

TEST(Plan, NamesWhatAClusterNeedsAndTheFileLacks) {
  EXPECT_EQ(PlanOf("env: {A: b}").status().message(),
            "job.yaml: name: is missing; Kubernetes calls every object of the job after it\n"
            "job.yaml: kubernetes.image: is missing: the image that holds muster and the program\n"
            "job.yaml: command: is missing");
  EXPECT_THAT(
      std::string(
          PlanOf(absl::StrCat("name: ", std::string(41, 'a'), "\ncommand: [a]\nkubernetes: {image: a}")).status().message()),
      HasSubstr("job.yaml:1:7: name: has 41 characters; at most 40"));
  EXPECT_THAT(std::string(PlanOf("name: 1a\ncommand: [a]\nkubernetes: {image: a}").status().message()),
              HasSubstr("begins with a digit"));
  EXPECT_THAT(std::string(PlanOf(absl::StrCat(kLeast, "checkpoint: {path: /data/x}\n")).status().message()),
              HasSubstr("job.yaml:4:20: checkpoint.path: /data/x is on no volume of kubernetes.volumes"));
  EXPECT_THAT(
      std::string(PlanOf("name: a\ncommand: [a]\nkubernetes: {image: a, topology: {required: rack}}").status().message()),
      HasSubstr("kubernetes.topology: needs kubernetes.queue"));
  EXPECT_THAT(
      std::string(
          PlanOf("name: a\ncommand: [a]\nkubernetes: {image: a, volumes: [{claim: a, path: /tmp}]}").status().message()),
      HasSubstr("/tmp is muster's own"));
}

TEST(Render, TheSameTwiceIsTheSame) {
  const auto plan = PlanOf(kLeast);
  for (const Api api : {Api::kJob, Api::kJobSet, Api::kTrainJob, Api::kMpiJob}) {
    const auto text = [&] {
      std::string all;
      const auto manifests = Render(*plan, {.api = api});
      for (const Manifest& one : *manifests) all += one.file + ToYaml(one.document);
      return all;
    };
    EXPECT_EQ(text(), text());
  }
}

TEST(Render, TheCoordinatorRunsTheJobAndAgentsFindIt) {
  const auto plan = PlanOf(R"yaml(
name: words
command: [train, "$(HOME)", "a b"]
workers: {min: 2, max: 4, per_node: 2}
env: {A: "$(B)"}
recovery: {max_restarts: 3, last_call: 90s}
checkpoint: {path: /data/w, every_steps: 7, keep: 2}
placement: {map_by: numa}
kubernetes: {image: muster:1, port: 5000, grace: 90s, volumes: [{claim: c, path: /data}]}
)yaml");
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto manifests = *Render(*plan, {});
  const Json coordinator = Find(manifests, "Job", "words-coordinator"), agents = Find(manifests, "Job", "words-workers");
  EXPECT_THAT(Arguments(coordinator["spec"]["template"]),
              ElementsAre("run", "--starter", "join", "--join-key-file", "/run/muster/join/key", "--listen", "0.0.0.0:5000",
                          "--termination-message", "/dev/termination-log", "--name", "words", "--nodes", "2", "-np", "4",
                          "--min-np", "2", "--max-restarts", "3", "--last-call", "90", "--kill-grace", "45",
                          "--checkpoint-path", "/data/w", "--checkpoint-every", "7", "--checkpoint-keep", "2", "--map-by",
                          "numa", "-x", "A=$$(B)", "--", "train", "$$(HOME)", "a b"));
  EXPECT_THAT(Arguments(agents["spec"]["template"]), ::testing::Contains("words-coordinator:5000"));
  EXPECT_EQ(agents["spec"]["completions"], 2);
  EXPECT_EQ(agents["spec"]["parallelism"], 2);
  EXPECT_EQ(agents["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 90);
  // The service's selector is what the pods are labelled with.
  const Json service = Find(manifests, "Service", "words-coordinator");
  for (const auto& [name, value] : service["spec"]["selector"].items()) {
    EXPECT_EQ(coordinator["spec"]["template"]["metadata"]["labels"][name], value);
  }
  EXPECT_EQ(service["spec"]["publishNotReadyAddresses"], true);
}

TEST(Render, AQueueSuspendsWhatKueueAdmits) {
  const auto plan = PlanOf("name: w\ncommand: [a]\nkubernetes: {image: a, queue: research, topology: {preferred: rack}}");
  const auto job = *Render(*plan, {});
  EXPECT_EQ(Find(job, "Job", "w-workers")["spec"]["suspend"], true);
  EXPECT_FALSE(Find(job, "Job", "w-coordinator")["spec"].contains("suspend"));
  EXPECT_EQ(
      Find(job, "Job", "w-workers")["spec"]["template"]["metadata"]["annotations"]["kueue.x-k8s.io/podset-preferred-topology"],
      "rack");
  const auto labelled = [](const Json& object) { return object["metadata"]["labels"].value("kueue.x-k8s.io/queue-name", ""); };
  EXPECT_EQ(labelled(Find(*Render(*plan, {.api = Api::kJobSet}), "JobSet", "w")), "research");
  EXPECT_EQ(labelled(Find(*Render(*plan, {.api = Api::kTrainJob}), "TrainJob", "w")), "research");
  EXPECT_EQ(Find(*Render(*plan, {.api = Api::kMpiJob}), "MPIJob", "w")["spec"]["runPolicy"]["suspend"], true);
}

TEST(Render, TheKeyIsInASecretOnlyWhenItWasAskedFor) {
  const auto plan = PlanOf(kLeast);
  const auto without = *Render(*plan, {});
  for (const Manifest& one : without) EXPECT_NE(one.document["kind"], "Secret");
  EXPECT_EQ(Find(*Render(*plan, {.join_key = "k"}), "Secret", "words-join")["stringData"]["key"], "k");
  EXPECT_THAT(JoinSecretCommand(*plan), HasSubstr("create secret generic words-join --from-file=key=/dev/stdin"));
}

TEST(Render, OutputGoesWhereItOutlivesThePodOrIsNotTakenOver) {
  const auto plan = PlanOf(absl::StrCat("name: w\ncommand: [a]\nstdin: all\noutput: {marks: [rank, host], files: /data/logs}\n",
                                        "kubernetes: {image: a, volumes: [{claim: c, path: /data}]}\n"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->notes, ElementsAre(HasSubstr("job.yaml:3: stdin has no effect")));
  const auto arguments = Arguments(Find(*Render(*plan, {}), "Job", "w-coordinator")["spec"]["template"]);
  EXPECT_THAT(absl::StrJoin(arguments, " "), HasSubstr("--output rank,host --output-filename /data/logs --"));

  const auto elsewhere = PlanOf(absl::StrCat(kLeast, "output: {files: logs/%r.log}\n"));
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.status();
  EXPECT_THAT(elsewhere->notes, ElementsAre(HasSubstr("job.yaml:4: output.files is not taken over")));
  EXPECT_THAT(Arguments(Find(*Render(*elsewhere, {}), "Job", "words-coordinator")["spec"]["template"]),
              ::testing::Not(::testing::Contains("--output-filename")));
}

TEST(Render, EgressIsRestrictedWhereItWasAskedFor) {
  const auto plan = PlanOf(kLeast);
  const Json open = Find(*Render(*plan, {}), "NetworkPolicy", "words"),
             shut = Find(*Render(*plan, {.restrict_egress = true}), "NetworkPolicy", "words");
  EXPECT_FALSE(open["spec"].contains("egress"));
  EXPECT_EQ(shut["spec"]["policyTypes"], Json::array({"Ingress", "Egress"}));
  ASSERT_EQ(shut["spec"]["egress"].size(), 2u);
  EXPECT_EQ(shut["spec"]["egress"][0]["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"], "words");
  EXPECT_EQ(shut["spec"]["egress"][1]["ports"][0]["port"], 53);
}

TEST(Render, ACoordinatorWithARecordSaysWhoseItIs) {
  const auto without = *Render(*PlanOf(kLeast), {});
  EXPECT_THAT(Arguments(Find(without, "Job", "words-coordinator")["spec"]["template"]),
              ::testing::Not(::testing::Contains("--same-job")));
  const auto with = *Render(*PlanOf("name: words\ncommand: [train]\nkubernetes: {image: a, record: r}\n"), {});
  const Json pod = Find(with, "Job", "words-coordinator")["spec"]["template"];
  EXPECT_THAT(absl::StrJoin(Arguments(pod), " "), HasSubstr("--same-job $(JOB_UID) --name words"));
  EXPECT_THAT(pod["spec"]["containers"][0]["env"].dump(),
              HasSubstr(R"("fieldPath":"metadata.labels['batch.kubernetes.io/controller-uid']")"));
}

TEST(Render, WhatIsKnownOfTheNetworkGoesWithTheJob) {
  auto plan = PlanOf(
      absl::StrCat(kLeast, "topology: {files: [nodes.json], label_keys: [example.com/rack]}\nnccl: {environment: off}\n"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->notes, ElementsAre());
  plan->network_files.push_back(MakeNetworkFile("kubernetes:", "files/no des.json", 0, "{}"));
  plan->network_files.push_back(MakeNetworkFile("", "/etc/slurm/topology.conf", 1, "SwitchName=a Nodes=b"));
  ASSERT_TRUE(CheckNetworkFiles("job.yaml", *plan).ok());
  const auto manifests = *Render(*plan, {});
  EXPECT_EQ(WithoutComments(Find(manifests, "ConfigMap", "words-network"))["data"],
            (Json{{"0-no_des.json", "{}"}, {"1-topology.conf", "SwitchName=a Nodes=b"}}));
  const Json coordinator = Find(manifests, "Job", "words-coordinator")["spec"]["template"];
  EXPECT_THAT(absl::StrJoin(Arguments(coordinator), " "),
              HasSubstr("--topology-file kubernetes:/run/muster/network/0-no_des.json --topology-file "
                        "/run/muster/network/1-topology.conf --label-keys example.com/rack --nccl-environment off --"));
  EXPECT_THAT(coordinator["spec"]["volumes"].dump(), HasSubstr(R"({"name":"network","configMap":{"name":"words-network"}})"));
  const Json agent = Find(manifests, "Job", "words-workers")["spec"]["template"]["spec"];
  EXPECT_THAT(agent["containers"][0]["env"].dump(), HasSubstr(R"({"name":"MUSTER_LABEL_KEYS","value":"example.com/rack"})"));

  plan->network_files[0].text.assign(kNetworkBytesMax, 'x');
  EXPECT_THAT(std::string(CheckNetworkFiles("job.yaml", *plan).message()),
              HasSubstr("job.yaml: topology.files: have 1024020 bytes together, and a ConfigMap holds 1024000 of them"));
}

TEST(Render, AnAgentIsToldTheLabelsOfItsPod) {
  for (const Api api : {Api::kJob, Api::kJobSet, Api::kTrainJob, Api::kMpiJob}) {
    std::string all;
    const auto manifests = Render(*PlanOf(kLeast), {.api = api});
    for (const Manifest& one : *manifests) all += WithoutComments(one.document).dump();
    EXPECT_THAT(all, HasSubstr(R"({"name":"MUSTER_POD_LABELS","value":"/run/muster/pod/labels"})"));
    EXPECT_THAT(all, HasSubstr(R"("downwardAPI":{"items":[{"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}}]})"));
  }
}

TEST(Render, NamesTheNearestApi) {
  EXPECT_THAT(std::string(ApiFromText("jobst").status().message()), HasSubstr("did you mean jobset?"));
  EXPECT_EQ(*ApiFromText("mpijob"), Api::kMpiJob);
}

}  // namespace
}  // namespace muster::kubernetes

// What lint finds: one change of manifests that were right, and the rule by name, at its place.
#include "launcher/kubernetes/lint.h"

#include <functional>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/kubernetes/render.h"

namespace muster::kubernetes {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kJob[] = R"yaml(
name: words
command: [train, --data, /data]
workers: {min: 2, max: 4, per_node: 2}
resources: {cpu: 1, memory: 2Gi, gpu: 1}
recovery: {max_restarts: 3}
checkpoint: {path: /data/words}
kubernetes: {image: 'registry.example.com/words:1', namespace: train, volumes: [{claim: c, path: /data, size: 1Gi}], MORE}
)yaml";

std::vector<Json> Documents(Api api, const std::string& more = "grace: 2m") {
  std::string text = kJob;
  text.replace(text.find("MORE"), 4, more);
  const auto job = ParseJobFile("job.yaml", text);
  EXPECT_TRUE(job.ok()) << job.status();
  const auto plan = MakePlan("job.yaml", *job);
  EXPECT_TRUE(plan.ok()) << plan.status();
  const auto manifests = Render(*plan, {.api = api, .version = 33, .restrict_egress = true});
  EXPECT_TRUE(manifests.ok()) << manifests.status();
  std::vector<Json> documents;
  for (const Manifest& one : *manifests) documents.push_back(WithoutComments(one.document));
  return documents;
}

Json& Named(std::vector<Json>* documents, const std::string& kind, const std::string& name) {
  for (Json& document : *documents) {
    if (document["kind"] == kind && document["metadata"]["name"] == name) return document;
  }
  ADD_FAILURE() << "no " << kind << " " << name;
  return documents->front();
}

LintResult LintOf(const std::vector<Json>& documents, const LintOptions& options = {.version = 33}) {
  return Lint({{"job.yaml", ToYamlStream(documents, "")}}, options);
}

std::set<std::string> RulesOf(const LintResult& result) {
  std::set<std::string> rules;
  for (const Finding& finding : result.findings) rules.insert(finding.rule);
  return rules;
}

std::string TextOf(const LintResult& result) {
  return absl::StrJoin(result.findings, "\n", [](std::string* out, const Finding& one) {
    absl::StrAppend(out, one.file, ":", one.line, ":", one.column, ": ", one.rule, ": ", one.object, " ", one.path, ": ",
                    one.message);
  });
}

struct Mistake {
  const char* rule;
  const char* kind;
  const char* name;
  std::function<void(Json*)> change;
};

Json& Pod(Json* job) { return (*job)["spec"]["template"]["spec"]; }
Json& Container(Json* job) { return Pod(job)["containers"][0]; }

// --- What hangs, runs twice or is killed ---

const std::vector<Mistake>& OfWorkers() {
  static const auto& mistakes = *new std::vector<Mistake>{
      {"two-of-an-index", "Job", "words-workers",
       [](Json* job) {
         (*job)["spec"].erase("podReplacementPolicy");
         (*job)["spec"].erase("podFailurePolicy");
       }},
      {"replacement-with-policy", "Job", "words-workers",
       [](Json* job) { (*job)["spec"]["podReplacementPolicy"] = "TerminatingOrFailed"; }},
      {"runs-in-waves", "Job", "words-workers", [](Json* job) { (*job)["spec"]["parallelism"] = 1; }},
      {"needs-indexed", "Job", "words-workers", [](Json* job) { (*job)["spec"].erase("completionMode"); }},
      {"max-failed-needs-limit", "Job", "words-workers", [](Json* job) { (*job)["spec"].erase("backoffLimitPerIndex"); }},
      {"policy-needs-never", "Job", "words-workers", [](Json* job) { Pod(job)["restartPolicy"] = "OnFailure"; }},
      {"job-restart-policy", "Job", "words-workers", [](Json* job) { Pod(job)["restartPolicy"] = "Always"; }},
      {"disruption-counts", "Job", "words-workers", [](Json* job) { (*job)["spec"]["podFailurePolicy"]["rules"].erase(0); }},
      {"bad-exit-codes", "Job", "words-workers",
       [](Json* job) {
         (*job)["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] = Json::array({78, 64});
       }},
      {"unknown-container", "Job", "words-workers",
       [](Json* job) { (*job)["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["containerName"] = "main"; }},
      {"no-grace", "Job", "words-workers", [](Json* job) { Pod(job).erase("terminationGracePeriodSeconds"); }},
      {"liveness-kills-ranks", "Job", "words-workers",
       [](Json* job) {
         Container(job)["livenessProbe"] = {{"exec", {{"command", Json::array({"true"})}}}};
       }},
      {"shell-swallows-sigterm", "Job", "words-workers",
       [](Json* job) {
         Container(job)["command"] = Json::array({"/bin/sh", "-c", "cd /data; train"});
         Container(job).erase("args");
       }},
      {"names-before-ready", "Service", "words-coordinator",
       [](Json* service) { (*service)["spec"].erase("publishNotReadyAddresses"); }},
      {"not-headless", "Service", "words", [](Json* service) { (*service)["spec"].erase("clusterIP"); }},
      {"selects-nothing", "Service", "words-coordinator",
       [](Json* service) {
         (*service)["spec"]["selector"] = {{"app", "other"}};
       }},
      {"subdomain-without-service", "Job", "words-workers", [](Json* job) { Pod(job)["subdomain"] = "elsewhere"; }},
      {"policy-blocks-peers", "NetworkPolicy", "words", [](Json* policy) { (*policy)["spec"]["ingress"] = Json::array(); }},
      {"policy-blocks-dns", "NetworkPolicy", "words", [](Json* policy) { (*policy)["spec"]["egress"].erase(1); }},
      {"mesh-intercepts", "Job", "words-workers",
       [](Json* job) { (*job)["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = "true"; }},
      {"budget-needs-number", "PodDisruptionBudget", "words", [](Json* budget) { (*budget)["spec"]["minAvailable"] = "50%"; }},
      {"claim-on-one-node", "PersistentVolumeClaim", "c",
       [](Json* claim) { (*claim)["spec"]["accessModes"] = Json::array({"ReadWriteOnce"}); }},
      {"unknown-volume", "Job", "words-workers", [](Json* job) { Pod(job)["volumes"].erase(0); }},
      {"undefined-variable", "Job", "words-workers", [](Json* job) { Container(job)["args"].push_back("$(NOBODY)"); }},
      {"device-request", "Job", "words-workers",
       [](Json* job) { Container(job)["resources"]["requests"]["nvidia.com/gpu"] = "1"; }},
      {"name-too-long", "Job", "words-workers", [](Json* job) { (*job)["metadata"]["name"] = std::string(62, 'a'); }},
      // What Pod Security refuses.
      {"pss-root", "Job", "words-workers", [](Json* job) { Pod(job)["securityContext"]["runAsUser"] = 0; }},
      {"pss-escalation", "Job", "words-workers",
       [](Json* job) { Container(job)["securityContext"].erase("allowPrivilegeEscalation"); }},
      {"pss-capabilities", "Job", "words-workers",
       [](Json* job) { Container(job)["securityContext"]["capabilities"]["add"] = Json::array({"IPC_LOCK"}); }},
      {"pss-seccomp", "Job", "words-workers", [](Json* job) { Pod(job)["securityContext"].erase("seccompProfile"); }},
      {"pss-privileged", "Job", "words-workers", [](Json* job) { Container(job)["securityContext"]["privileged"] = true; }},
      {"pss-host-path", "Job", "words-workers",
       [](Json* job) {
         Pod(job)["volumes"].push_back({{"name", "host"}, {"hostPath", {{"path", "/"}}}});
       }},
      {"token-mounted", "Job", "words-workers", [](Json* job) { Pod(job)["automountServiceAccountToken"] = true; }},
      {"root-writable", "Job", "words-workers",
       [](Json* job) { Container(job)["securityContext"].erase("readOnlyRootFilesystem"); }},
      // What a server drops or refuses.
      {"unknown-field", "Job", "words-workers", [](Json* job) { (*job)["spec"]["paralelism"] = 2; }},
      {"missing-field", "Job", "words-workers", [](Json* job) { Container(job).erase("name"); }},
      {"field-too-new", "Job", "words-workers", [](Json* job) { Container(job)["restartPolicyRules"] = Json::array(); }},
  };
  return mistakes;
}

TEST(Lint, FindsNothingWhereAllIsRight) {
  for (const Api api : {Api::kJob, Api::kJobSet, Api::kTrainJob, Api::kMpiJob}) {
    const LintResult result = LintOf(Documents(api));
    EXPECT_THAT(result.findings, IsEmpty()) << TextOf(result);
    EXPECT_THAT(result.unknown, IsEmpty());
    EXPECT_GT(result.objects, 4);
  }
}

TEST(Lint, NamesTheRuleOfEachMistake) {
  for (const Mistake& mistake : OfWorkers()) {
    SCOPED_TRACE(mistake.rule);
    std::vector<Json> documents = Documents(Api::kJob);
    mistake.change(&Named(&documents, mistake.kind, mistake.name));
    const LintResult result = LintOf(documents);
    EXPECT_THAT(RulesOf(result), Contains(mistake.rule)) << TextOf(result);
    // Whoever knows better says so, and hears no more of it.
    const LintResult ignored = LintOf(documents, {.version = 33, .ignored = {mistake.rule}});
    EXPECT_EQ(RulesOf(ignored).count(mistake.rule), 0u);
  }
}

TEST(Lint, FindsMistakesInSetsAndQueues) {
  std::vector<Json> documents = Documents(Api::kJobSet, "queue: research, grace: 2m");
  EXPECT_THAT(LintOf(documents).findings, IsEmpty());
  Json& set = Named(&documents, "JobSet", "words");
  const Json right = set;
  set["spec"]["suspend"] = false;
  EXPECT_THAT(RulesOf(LintOf(documents)), Contains("not-suspended"));
  set = right;
  set["spec"]["network"]["publishNotReadyAddresses"] = false;
  EXPECT_THAT(RulesOf(LintOf(documents)), Contains("names-before-ready"));
  set = right;
  set["spec"]["successPolicy"]["targetReplicatedJobs"] = Json::array({"leader"});
  EXPECT_THAT(RulesOf(LintOf(documents)), Contains("unknown-job"));
  set = right;
  set["spec"]["coordinator"]["podIndex"] = 7;
  EXPECT_THAT(RulesOf(LintOf(documents)), Contains("coordinator-index"));
}

TEST(Lint, ThePodSecurityLevelIsWhatItIsAskedFor) {
  std::vector<Json> documents = Documents(Api::kJob);
  Json& job = Named(&documents, "Job", "words-workers");
  Pod(&job)["securityContext"].erase("runAsNonRoot");
  Pod(&job)["securityContext"].erase("runAsUser");
  EXPECT_THAT(RulesOf(LintOf(documents, {.pod_security = PodSecurity::kRestricted})), Contains("pss-root"));
  EXPECT_EQ(RulesOf(LintOf(documents, {.pod_security = PodSecurity::kBaseline})).count("pss-root"), 0u);
  Pod(&job)["hostPID"] = true;
  EXPECT_THAT(RulesOf(LintOf(documents, {.pod_security = PodSecurity::kBaseline})), Contains("pss-host-namespaces"));
  EXPECT_EQ(RulesOf(LintOf(documents, {.pod_security = PodSecurity::kPrivileged})).count("pss-host-namespaces"), 0u);
}

TEST(Lint, AFieldIsTooNewOnlyForAnOlderVersion) {
  const std::vector<Json> documents = Documents(Api::kJob);  // of 1.33: successPolicy is of 1.31
  EXPECT_THAT(RulesOf(LintOf(documents, {.version = 30})), Contains("field-too-new"));
  EXPECT_THAT(LintOf(documents, {.version = 31}).findings, IsEmpty());
  EXPECT_THAT(LintOf(documents, {.version = 0}).findings, IsEmpty());
}

TEST(Lint, SaysThePlaceAndWhatIsMeant) {
  const LintResult result = Lint({{"a.yaml",
                                   "apiVersion: batch/v1\nkind: Job\nmetadata: {name: words}\nspec:\n  paralelism: 2\n"
                                   "  template: {spec: {restartPolicy: Never, containers: [{name: a, image: b:1}]}}\n"}},
                                 {});
  bool found = false;
  for (const Finding& one : result.findings) {
    if (one.rule != "unknown-field") continue;
    found = true;
    EXPECT_EQ(absl::StrCat(one.file, ":", one.line, ":", one.column, " ", one.object, " ", one.path),
              "a.yaml:5:3 Job words spec.paralelism");
    EXPECT_THAT(one.message, HasSubstr("did you mean parallelism?"));
  }
  EXPECT_TRUE(found) << TextOf(result);
}

TEST(Lint, FilesBelongTogether) {
  std::vector<Json> documents = Documents(Api::kJob), services, others;
  for (Json& one : documents) {
    (one["kind"] == "Service" && one["metadata"]["name"] == "words" ? services : others).push_back(one);
  }
  const ManifestText first{"services.yaml", ToYamlStream(services, "")}, second{"others.yaml", ToYamlStream(others, "")};
  EXPECT_THAT(Lint({first, second}, {}).findings, IsEmpty());
  EXPECT_THAT(RulesOf(Lint({second}, {})), Contains("subdomain-without-service"));
}

TEST(Lint, NamesKindsThatItDoesNotKnow) {
  const LintResult result = Lint({{"a.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"}}, {});
  EXPECT_THAT(result.unknown, ElementsAre("Deployment web"));
}

TEST(Lint, ARuleHasOneNameAReasonAndAFix) {
  std::set<std::string> names;
  for (const Rule& rule : Rules()) {
    EXPECT_TRUE(names.insert(rule.name).second) << rule.name;
    EXPECT_STRNE(rule.reason, "");
    EXPECT_STRNE(rule.fix, "");
    EXPECT_EQ(FindRule(rule.name), &rule);
  }
  for (const Mistake& mistake : OfWorkers()) EXPECT_NE(FindRule(mistake.rule), nullptr) << mistake.rule;
  EXPECT_EQ(FindRule("no-such-rule"), nullptr);
}

}  // namespace
}  // namespace muster::kubernetes

#include "launcher/kubernetes/lint.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/kubernetes/lint_context.h"
#include "launcher/kubernetes/structure.h"
#include "runtime/base/log.h"
#include "runtime/base/nearest_name.h"

namespace muster::kubernetes {
namespace {

// "file:4:7: what" as ReadYamlStream says it.
Finding NotYaml(const std::string& file, absl::string_view message) {
  Finding finding{.rule = "not-yaml", .file = file, .object = "the file"};
  absl::string_view rest = message;
  if (absl::StartsWith(rest, absl::StrCat(file, ":"))) rest.remove_prefix(file.size() + 1);
  const size_t line_end = rest.find(':'), column_end = rest.find(':', line_end == absl::string_view::npos ? 0 : line_end + 1);
  if (column_end != absl::string_view::npos && absl::SimpleAtoi(rest.substr(0, line_end), &finding.line) &&
      absl::SimpleAtoi(rest.substr(line_end + 1, column_end - line_end - 1), &finding.column)) {
    rest.remove_prefix(std::min(rest.size(), column_end + 2));
  }
  finding.message = std::string(rest);
  return finding;
}

void TakePod(Context* context, const Object& object, const View& pod_template, int64_t copies, bool ends,
             bool of_mpi_operator = false) {
  if (pod_template)
    context->pods.push_back({&object, pod_template["metadata"], pod_template["spec"], copies, ends, of_mpi_operator});
}

void TakeJob(Context* context, const Object& object, const View& spec, std::string host_stem, bool in_set) {
  if (!spec) return;
  JobPlace job{&object, spec, std::move(host_stem), in_set, spec["parallelism"].number().value_or(1)};
  TakePod(context, object, spec["template"], job.parallelism, true);
  context->jobs.push_back(std::move(job));
}

// `name`: of the JobSet, from which its Jobs get theirs.
void TakeJobSet(Context* context, const Object& object, const View& spec, const std::string& name) {
  for (const View& job : spec["replicatedJobs"].items()) {
    const int64_t replicas = std::max<int64_t>(1, job["replicas"].number().value_or(1));
    TakeJob(context, object, job["template"]["spec"], absl::StrCat(name, "-", job["name"].text(), "-", replicas - 1), true);
  }
}

void TakePlaces(Context* context, const Object& object) {
  const View spec = object.root["spec"];
  if (object.kind == "Pod") {
    TakePod(context, object, object.root, 1, false);
  } else if (object.kind == "PodTemplate") {
    TakePod(context, object, object.root["template"], 1, false);
  } else if (object.kind == "Job") {
    TakeJob(context, object, spec, object.name, false);
  } else if (object.kind == "CronJob") {
    TakeJob(context, object, spec["jobTemplate"]["spec"], object.name + "-12345678", false);
  } else if (object.kind == "JobSet") {
    TakeJobSet(context, object, spec, object.name);
  } else if (object.kind == "TrainingRuntime" || object.kind == "ClusterTrainingRuntime") {
    TakeJobSet(context, object, spec["template"]["spec"], object.name);
  } else if (object.kind == "MPIJob") {
    for (const auto& [role, replica] : spec["mpiReplicaSpecs"].members()) {
      TakePod(context, object, replica["template"], replica["replicas"].number().value_or(1), true, true);
    }
  }
}

void CheckKind(Context* context, const Object& object) {
  for (const VersionedKind& one : VersionedKinds()) {
    if (object.api_version != one.api_version || object.kind != one.kind) continue;
    const int version = context->options.version > 0 ? context->options.version : kVersionMax;
    if (one.gone > 0 && version >= one.gone) {
      context->Report(object, object.root["apiVersion"], "kind-gone",
                      absl::StrCat(object.api_version, " ", object.kind, ": ", one.source));
    } else if (context->options.version > 0 && context->options.version < one.usable) {
      context->Report(object, object.root["apiVersion"], "kind-too-new",
                      absl::StrCat(object.api_version, " ", object.kind, " is there from Kubernetes ", VersionText(one.usable),
                                   " on (", one.source, ")"));
    }
  }
}

void TakeDocument(Context* context, const std::string& file, const YamlNode& document, int number) {
  const View root(&document, "");
  if (root["kind"].is("List") && root["items"].is_list()) {
    for (const View& item : root["items"].items()) TakeDocument(context, file, *item.node(), number);
    return;
  }
  Object object{file,
                absl::StrCat("document ", number),
                root["apiVersion"].text(),
                root["kind"].text(),
                root["metadata"]["name"].text(),
                root["metadata"]["namespace"].text(),
                root};
  if (object.api_version.empty() || object.kind.empty()) {
    return context->Report(object, root, "no-kind", absl::StrCat(object.kind.empty() ? "kind" : "apiVersion", " is missing"));
  }
  // A Kustomization is no object of a cluster.
  object.title = absl::StrCat(object.kind, object.name.empty() ? "" : " ", object.name);
  context->objects.push_back(std::move(object));
}

}  // namespace

void Context::ReportAt(const Object& object, const YamlNode* node, const std::string& path, const char* rule,
                       std::string message) {
  MUSTER_CHECK(FindRule(rule) != nullptr, rule);
  if (options.ignored.count(rule) > 0) return;
  result.findings.push_back({rule, object.file, node != nullptr ? node->line : 1, node != nullptr ? node->column : 1,
                             object.title, path, std::move(message)});
}

void Context::Report(const Object& object, const View& place, const char* rule, std::string message) {
  ReportAt(object, place.nearest(), place.path(), rule, std::move(message));
}

std::vector<View> ContainersOf(const View& pod_spec, bool init_too) {
  std::vector<View> containers;
  if (init_too) containers = pod_spec["initContainers"].items();
  for (View& container : pod_spec["containers"].items()) containers.push_back(std::move(container));
  return containers;
}

bool Selects(const View& selector, const View& labels) {
  const auto wanted = selector.members();
  return !wanted.empty() && std::all_of(wanted.begin(), wanted.end(),
                                        [&](const auto& pair) { return labels[pair.first->text].is(pair.second.text()); });
}

LintResult Lint(const std::vector<ManifestText>& files, const LintOptions& options) {
  Context context(options);
  std::vector<std::vector<YamlNode>> trees;  // views point into them
  trees.reserve(files.size());
  for (const ManifestText& file : files) {
    auto documents = ReadYamlStream(file.file, file.text);
    if (!documents.ok()) {
      if (options.ignored.count("not-yaml") == 0)
        context.result.findings.push_back(NotYaml(file.file, documents.status().message()));
      continue;
    }
    trees.push_back(*std::move(documents));
    int number = 0;
    for (const YamlNode& document : trees.back()) TakeDocument(&context, file.file, document, ++number);
  }
  for (const Object& object : context.objects) {
    CheckKind(&context, object);
    if (const std::string* type = FindKind(object.api_version, object.kind); type != nullptr) {
      ++context.result.objects;
      CheckStructure(&context, object, *type);
      TakePlaces(&context, object);
    } else {
      context.result.unknown.push_back(object.title);
    }
  }
  CheckNames(&context);
  CheckJobs(&context);
  CheckPods(&context);
  CheckSecurity(&context);
  CheckSets(&context);
  CheckTogether(&context);
  std::stable_sort(context.result.findings.begin(), context.result.findings.end(), [](const Finding& a, const Finding& b) {
    return std::tie(a.file, a.line, a.column) < std::tie(b.file, b.line, b.column);
  });
  return std::move(context.result);
}

}  // namespace muster::kubernetes

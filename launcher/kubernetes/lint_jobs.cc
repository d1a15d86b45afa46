// Jobs that are refused, hang, or run two copies.
#include <algorithm>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/kubernetes/fields.h"
#include "launcher/kubernetes/lint_context.h"

namespace muster::kubernetes {
namespace {

void CheckExitCodes(Context* context, const JobPlace& job, const View& codes, const std::set<std::string>& containers) {
  if (const View name = codes["containerName"]; name && containers.count(name.text()) == 0) {
    context->Report(*job.object, name, "unknown-container", absl::StrCat("there is no container ", name.text()));
  }
  int64_t before = -1;
  const std::vector<View> values = codes["values"].items();
  if (values.empty() || values.size() > 255) {
    context->Report(*job.object, codes["values"], "bad-exit-codes", absl::StrCat(values.size(), " values"));
  }
  for (const View& value : values) {
    const int64_t code = value.number().value_or(-1);
    if (code <= before) return context->Report(*job.object, value, "bad-exit-codes", absl::StrCat(code, " after ", before));
    if (code == 0 && codes["operator"].is("In"))
      return context->Report(*job.object, value, "bad-exit-codes", "0 is success, never a failure");
    before = code;
  }
}

void CheckFailurePolicy(Context* context, const JobPlace& job) {
  const View policy = job.spec["podFailurePolicy"];
  if (!policy) return;
  const View restart = job.spec["template"]["spec"]["restartPolicy"];
  if (restart && !restart.is("Never")) {
    context->Report(*job.object, restart, "policy-needs-never", absl::StrCat("restartPolicy: ", restart.text()));
  }
  if (job.spec["podReplacementPolicy"].is("TerminatingOrFailed")) {
    context->Report(*job.object, job.spec["podReplacementPolicy"], "replacement-with-policy",
                    "podReplacementPolicy: TerminatingOrFailed");
  }
  const std::vector<View> rules = policy["rules"].items();
  if (rules.size() > 20) context->Report(*job.object, policy["rules"], "too-many-rules", absl::StrCat(rules.size(), " rules"));
  std::set<std::string> containers;
  for (const View& container : ContainersOf(job.spec["template"]["spec"], true)) containers.insert(container["name"].text());
  bool ignores_disruption = false, said = false;
  for (const View& rule : rules) {
    if (rule["action"].is("FailIndex") && !job.spec["backoffLimitPerIndex"]) {
      context->Report(*job.object, rule["action"], "fail-index-needs-limit", "action: FailIndex");
    }
    for (const View& condition : rule["onPodConditions"].items()) {
      if (condition["type"].is("DisruptionTarget") && rule["action"].is("Ignore")) ignores_disruption = true;
    }
    if (const View codes = rule["onExitCodes"]; codes) {
      CheckExitCodes(context, job, codes, containers);
      if (!ignores_disruption && !said) {
        said = true;
        context->Report(*job.object, rule, "disruption-counts",
                        "this rule on exit codes comes before any that ignores DisruptionTarget");
      }
    }
  }
}

// "0,2-4"
bool InRange(absl::string_view indexes, int64_t completions) {
  for (const absl::string_view part : absl::StrSplit(indexes, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    for (const absl::string_view end : ends) {
      int64_t index = 0;
      if (ends.size() > 2 || !absl::SimpleAtoi(end, &index) || index < 0 || index >= completions) return false;
    }
  }
  return true;
}

void CheckIndexes(Context* context, const JobPlace& job) {
  if (!job.indexed()) {
    for (const char* field : {"backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"}) {
      if (job.spec[field])
        context->Report(*job.object, job.spec[field], "needs-indexed", absl::StrCat(field, " without completionMode: Indexed"));
    }
  }
  if (job.spec["maxFailedIndexes"] && !job.spec["backoffLimitPerIndex"]) {
    context->Report(*job.object, job.spec["maxFailedIndexes"], "max-failed-needs-limit",
                    "maxFailedIndexes without backoffLimitPerIndex");
  }
  const auto completions = job.spec["completions"].number();
  if (job.indexed() && !completions) {
    context->Report(*job.object, job.spec, "missing-field", "completionMode: Indexed without completions");
  }
  if (job.indexed() && completions && job.parallelism < *completions && job.parallelism > 0) {
    context->Report(*job.object, job.spec["parallelism"], "runs-in-waves",
                    absl::StrCat("parallelism ", job.parallelism, " of completions ", *completions));
  }
  for (const View& rule : job.spec["successPolicy"]["rules"].items()) {
    if (const View indexes = rule["succeededIndexes"]; indexes && completions && !InRange(indexes.text(), *completions)) {
      context->Report(*job.object, indexes, "bad-success-index",
                      absl::StrCat("\"", indexes.text(), "\" of ", *completions, " indexes"));
    }
    if (const auto count = rule["succeededCount"].number(); count && completions && *count > *completions) {
      context->Report(*job.object, rule["succeededCount"], "bad-success-index",
                      absl::StrCat(*count, " of ", *completions, " indexes"));
    }
  }
}

}  // namespace

void CheckJobs(Context* context) {
  for (const JobPlace& job : context->jobs) {
    const View pod = job.spec["template"]["spec"];
    const View restart = pod["restartPolicy"];
    if (pod && !restart.is("Never") && !restart.is("OnFailure")) {
      context->Report(
          *job.object, restart, "job-restart-policy",
          restart ? absl::StrCat("restartPolicy: ", restart.text()) : "restartPolicy is missing, which means Always");
    }
    CheckFailurePolicy(context, job);
    CheckIndexes(context, job);
    const bool replaced_late = job.spec["podReplacementPolicy"].is("Failed") || job.spec["podFailurePolicy"];
    const bool can_say = context->options.version == 0 || IsUsable("JobSpec", "podReplacementPolicy", context->options.version);
    if (job.indexed() && !replaced_late && can_say) {
      context->Report(*job.object, job.spec, "two-of-an-index", "podReplacementPolicy is not Failed");
    }
    if (job.parallelism > 1 && !job.spec["backoffLimit"] && !job.spec["backoffLimitPerIndex"]) {
      context->Report(*job.object, job.spec, "default-backoff",
                      absl::StrCat("neither backoffLimit nor backoffLimitPerIndex for ", job.parallelism, " pods"));
    }
    if (pod["activeDeadlineSeconds"])
      context->Report(*job.object, pod["activeDeadlineSeconds"], "pod-deadline", "activeDeadlineSeconds of the pod");
    // One that a server has made names the Job's own number.
    const View selector = job.spec["selector"];
    const bool of_server =
        selector["matchLabels"]["batch.kubernetes.io/controller-uid"] || selector["matchLabels"]["controller-uid"];
    if (job.spec["manualSelector"].is_true() || (selector && !of_server)) {
      const View place = selector ? selector : job.spec["manualSelector"];
      context->Report(*job.object, place, "manual-selector", "a selector that no server has made");
    }
    if (const auto keep = job.spec["ttlSecondsAfterFinished"].number(); keep && *keep == 0) {
      context->Report(*job.object, job.spec["ttlSecondsAfterFinished"], "gone-at-once", "ttlSecondsAfterFinished: 0");
    }
  }
}

}  // namespace muster::kubernetes

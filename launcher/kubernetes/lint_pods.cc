// Pods that are refused, do not end, or end without having saved anything.
#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/kubernetes/lint_context.h"

namespace muster::kubernetes {
namespace {

constexpr int64_t kGraceDefault = 30;

void CheckGrace(Context* context, const PodPlace& pod) {
  const View grace = pod.spec["terminationGracePeriodSeconds"];
  const int64_t seconds = grace.number().value_or(kGraceDefault);
  if (!grace || seconds <= kGraceDefault) {
    context->Report(
        *pod.object, grace ? grace : pod.spec, "no-grace",
        grace ? absl::StrCat("terminationGracePeriodSeconds: ", seconds) : "terminationGracePeriodSeconds is not said");
  }
  for (const View& container : ContainersOf(pod.spec, false)) {
    const View sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"];
    if (sleep.number().value_or(0) * 2 > seconds) {
      context->Report(*pod.object, sleep, "prestop-eats-grace",
                      absl::StrCat("preStop sleeps ", *sleep.number(), " of ", seconds, " s"));
    }
  }
}

bool IsShell(const std::string& program) {
  const std::string name = program.substr(program.rfind('/') + 1);
  return name == "sh" || name == "bash" || name == "dash" || name == "ash" || name == "zsh";
}

// A shell with one command that holds no other word of its own replaces itself in bash, but not in dash, so exec has to be there.
void CheckShell(Context* context, const PodPlace& pod, const View& container) {
  std::vector<View> words = container["command"].items();
  for (View& word : container["args"].items()) words.push_back(std::move(word));
  if (words.size() < 3 || !IsShell(words[0].text())) return;
  for (size_t i = 1; i + 1 < words.size(); ++i) {
    const std::string flag = words[i].text();
    if (!absl::StartsWith(flag, "-") || !absl::StrContains(flag, 'c')) continue;
    const std::string script = words[i + 1].text();
    if (!absl::StrContains(script, "exec ") && !absl::StrContains(script, "trap ")) {
      context->Report(*pod.object, words[i + 1], "shell-swallows-sigterm",
                      absl::StrCat(words[0].text(), " ", flag, " without exec"));
    }
    return;
  }
}

void CheckVariables(Context* context, const PodPlace& pod, const View& container) {
  std::set<std::string> defined = {"JOB_COMPLETION_INDEX"};
  for (const View& variable : container["env"].items()) {
    const std::string name = variable["name"].text();
    defined.insert(name);
    if (!variable["value"] || variable["value"].text().empty()) continue;
    const std::string upper = absl::AsciiStrToUpper(name);
    for (const char* mark : {"PASSWORD", "SECRET", "TOKEN", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY"}) {
      // The place of a secret is none.
      if (!absl::StrContains(upper, mark) || absl::EndsWith(upper, "_FILE") || absl::EndsWith(upper, "_PATH")) continue;
      context->Report(*pod.object, variable["value"], "secret-in-env", absl::StrCat("the value of ", name, " stands here"));
      break;
    }
  }
  if (container["envFrom"]) return;
  for (const char* field : {"command", "args"}) {
    for (const View& word : container[field].items()) {
      const std::string text = word.text();
      for (size_t at = text.find("$("); at != std::string::npos; at = text.find("$(", at + 1)) {
        const size_t end = text.find(')', at);
        if (end == std::string::npos || (at > 0 && text[at - 1] == '$')) continue;
        const std::string name = text.substr(at + 2, end - at - 2);
        const bool is_name = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
          return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
        });
        if (is_name && defined.count(name) == 0)
          context->Report(*pod.object, word, "undefined-variable", absl::StrCat("$(", name, ")"));
      }
    }
  }
}

// Devices are named with a domain: nvidia.com/gpu.
bool IsDevice(const std::string& name) { return absl::StrContains(name, '/') && !absl::StrContains(name, "kubernetes.io/"); }

void CheckResources(Context* context, const PodPlace& pod, const View& container) {
  const View requests = container["resources"]["requests"], limits = container["resources"]["limits"];
  for (const char* name : {"cpu", "memory"}) {
    if (!requests[name] && !limits[name]) {
      context->Report(*pod.object, container["resources"], "no-resources",
                      absl::StrCat("no ", name, " for container ", container["name"].text()));
      return;
    }
    const View request = requests[name], limit = limits[name];
    if (!limit || (request && QuantityOf(request.text()) != QuantityOf(limit.text()))) {
      context->Report(
          *pod.object, limit ? limit : request, "requests-differ",
          absl::StrCat(name, ": request ", request.text(), ", ", limit ? absl::StrCat("limit ", limit.text()) : "no limit"));
    }
  }
  for (const View& side : {requests, limits}) {
    for (const auto& [name, amount] : side.members()) {
      if (!IsDevice(name->text)) continue;
      const View limit = limits[name->text], request = requests[name->text];
      const bool whole = amount.number().has_value();
      if (!whole || !limit || (request && !request.is(limit.text()))) {
        context->Report(*pod.object, amount, "device-request",
                        absl::StrCat(name->text, ": request ", request ? request.text() : "none", ", limit ",
                                     limit ? limit.text() : "none"));
        return;
      }
    }
  }
}

void CheckVolumes(Context* context, const PodPlace& pod) {
  std::set<std::string> volumes, claims;
  for (const View& volume : pod.spec["volumes"].items()) volumes.insert(volume["name"].text());
  for (const View& claim : pod.spec["resourceClaims"].items()) claims.insert(claim["name"].text());
  for (const View& container : ContainersOf(pod.spec, true)) {
    std::set<std::string> paths;
    for (const View& mount : container["volumeMounts"].items()) {
      if (const View name = mount["name"]; name && volumes.count(name.text()) == 0) {
        context->Report(*pod.object, name, "unknown-volume", absl::StrCat("there is no volume ", name.text()));
      }
      if (const View path = mount["mountPath"]; path && !paths.insert(path.text()).second) {
        context->Report(*pod.object, path, "mount-twice", absl::StrCat("a second volume at ", path.text()));
      }
    }
    for (const View& claim : container["resources"]["claims"].items()) {
      if (const View name = claim["name"]; name && claims.count(name.text()) == 0) {
        context->Report(*pod.object, name, "unknown-claim", absl::StrCat("there is no claim ", name.text()));
      }
    }
    const auto memory = QuantityOf(container["resources"]["limits"]["memory"].text());
    for (const View& volume : pod.spec["volumes"].items()) {
      const View size = volume["emptyDir"]["sizeLimit"];
      const auto bytes = QuantityOf(size.text());
      const auto mounts = container["volumeMounts"].items();
      const bool mounted =
          std::any_of(mounts.begin(), mounts.end(), [&](const View& mount) { return mount["name"].is(volume["name"].text()); });
      if (volume["emptyDir"]["medium"].is("Memory") && mounted && memory && bytes && *bytes >= *memory) {
        context->Report(*pod.object, size, "memory-volume-too-large",
                        absl::StrCat(volume["name"].text(), " may hold ", size.text(), " of ",
                                     container["resources"]["limits"]["memory"].text()));
      }
    }
  }
  for (const View& volume : pod.spec["volumes"].items()) {
    if (volume["emptyDir"]["medium"].is("Memory") && !volume["emptyDir"]["sizeLimit"]) {
      context->Report(*pod.object, volume["emptyDir"], "memory-volume-unbounded",
                      absl::StrCat("volume ", volume["name"].text()));
    }
  }
}

void CheckImage(Context* context, const PodPlace& pod, const View& container) {
  const View image = container["image"];
  if (!image || image.text().empty() || absl::StrContains(image.text(), '@')) return;
  const std::string last = image.text().substr(image.text().rfind('/') + 1);
  if (!absl::StrContains(last, ':') || absl::EndsWith(last, ":latest"))
    context->Report(*pod.object, image, "moving-image", image.text());
}

}  // namespace

void CheckPods(Context* context) {
  for (const PodPlace& pod : context->pods) {
    if (!pod.spec) continue;
    CheckGrace(context, pod);
    CheckVolumes(context, pod);
    if (pod.spec["hostNetwork"].is_true() && !pod.spec["dnsPolicy"].is("ClusterFirstWithHostNet")) {
      context->Report(*pod.object, pod.spec["hostNetwork"], "host-network-dns", "hostNetwork: true");
    }
    const std::vector<View> containers = ContainersOf(pod.spec, false);
    if (pod.ends && containers.size() > 1) {
      context->Report(*pod.object, containers[1], "sidecar-never-ends",
                      absl::StrCat("container ", containers[1]["name"].text(), " beside ", containers[0]["name"].text()));
    }
    for (const View& container : containers) {
      if (pod.ends && container["livenessProbe"]) {
        context->Report(*pod.object, container["livenessProbe"], "liveness-kills-ranks",
                        absl::StrCat("container ", container["name"].text()));
      }
      const View last_words = container["terminationMessagePolicy"];
      if (!last_words.is("FallbackToLogsOnError") && !container["terminationMessagePath"]) {
        context->Report(*pod.object, last_words ? last_words : container, "no-last-words",
                        absl::StrCat("container ", container["name"].text()));
      }
    }
    for (const View& container : ContainersOf(pod.spec, true)) {
      CheckShell(context, pod, container);
      CheckVariables(context, pod, container);
      CheckResources(context, pod, container);
      CheckImage(context, pod, container);
    }
  }
}

}  // namespace muster::kubernetes

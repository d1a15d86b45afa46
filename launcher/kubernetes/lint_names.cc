// Names, labels, lengths.
#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "launcher/kubernetes/lint_context.h"
#include "launcher/kubernetes/structure.h"

namespace muster::kubernetes {
namespace {

constexpr size_t kLabelBytesMax = 63;

bool IsLower(char c) {
  return absl::ascii_islower(static_cast<unsigned char>(c)) || absl::ascii_isdigit(static_cast<unsigned char>(c));
}
bool IsAlnum(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); }

// RFC 1123, with dots a name of several labels.
bool IsDnsName(const std::string& text, bool dots) {
  return !text.empty() && text.size() <= (dots ? 253 : kLabelBytesMax) && IsLower(text.front()) && IsLower(text.back()) &&
         std::all_of(text.begin(), text.end(), [dots](char c) { return IsLower(c) || c == '-' || (dots && c == '.'); });
}

// Source: k8s.io/apimachinery, IsValidLabelValue.
bool IsLabelValue(const std::string& text) {
  return text.empty() ||
         (text.size() <= kLabelBytesMax && IsAlnum(text.front()) && IsAlnum(text.back()) &&
          std::all_of(text.begin(), text.end(), [](char c) { return IsAlnum(c) || c == '-' || c == '_' || c == '.'; }));
}

bool IsLabelName(const std::string& text) {
  const size_t slash = text.find('/');
  const std::string name = slash == std::string::npos ? text : text.substr(slash + 1);
  return !name.empty() && IsLabelValue(name) && (slash == std::string::npos || IsDnsName(text.substr(0, slash), true));
}

void CheckLabels(Context* context, const Object& object, const View& labels) {
  for (const auto& [name, value] : labels.members()) {
    if (!IsLabelName(name->text))
      context->ReportAt(object, name, value.path(), "bad-label", absl::StrCat("\"", name->text, "\" is no name of a label"));
    if (value.is_scalar() && !IsLabelValue(value.text())) {
      context->Report(object, value, "bad-label", absl::StrCat("\"", value.text(), "\" is no value of a label"));
    }
  }
}

// `field` of each item is there once.
void CheckTwice(Context* context, const Object& object, const std::vector<View>& items, const char* field,
                const std::string& what) {
  std::set<std::string> seen;
  for (const View& item : items) {
    const std::string name = item[field].text();
    if (!name.empty() && !seen.insert(name).second) {
      context->Report(object, item[field], "duplicate-name", absl::StrCat("a second ", what, " called ", name));
    }
  }
}

void CheckPort(Context* context, const Object& object, const View& port) {
  const std::string name = port["name"].text();
  if (name.empty()) return;
  const bool good = name.size() <= 15 && IsDnsName(name, false) &&
                    std::any_of(name.begin(), name.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  if (!good)
    context->Report(object, port["name"], "bad-port-name", absl::StrCat("\"", name, "\" (", name.size(), " characters)"));
}

}  // namespace

void CheckNames(Context* context) {
  for (const Object& object : context->objects) {
    if (FindKind(object.api_version, object.kind) == nullptr) continue;  // a kustomization, say, has no name
    const View metadata = object.root["metadata"];
    const View name = metadata["name"];
    const bool service = object.kind == "Service";
    const bool has_name = !object.name.empty() || !metadata["generateName"].text().empty();
    if (!has_name) {
      context->Report(object, metadata, "bad-name", "metadata.name is missing");
    } else if (!object.name.empty() &&
               (!IsDnsName(object.name, !service) || (service && !(object.name[0] >= 'a' && object.name[0] <= 'z')))) {
      context->Report(object, name, "bad-name", absl::StrCat("\"", object.name, "\" is no name of a ", object.kind));
    }
    CheckLabels(context, object, metadata["labels"]);
    if (service) {
      CheckTwice(context, object, object.root["spec"]["ports"].items(), "name", "port");
      for (const View& port : object.root["spec"]["ports"].items()) CheckPort(context, object, port);
    }
  }
  for (const JobPlace& job : context->jobs) {
    const int64_t last = std::max<int64_t>(0, job.spec["completions"].number().value_or(1) - 1);
    const std::string host = absl::StrCat(job.host_stem, "-", last);
    if (job.indexed() && host.size() > kLabelBytesMax) {
      context->Report(*job.object, job.object->root["metadata"]["name"], "name-too-long",
                      absl::StrCat("the last pod's host name, ", host, ", has ", host.size(), " characters"));
    } else if (!job.indexed() && job.host_stem.size() > kLabelBytesMax) {
      context->Report(*job.object, job.object->root["metadata"]["name"], "name-too-long",
                      absl::StrCat(job.host_stem, " has ", job.host_stem.size(), " characters, and pods carry it in a label"));
    }
  }
  for (const PodPlace& pod : context->pods) {
    if (pod.metadata.node() != pod.object->root["metadata"].node()) CheckLabels(context, *pod.object, pod.metadata["labels"]);
    CheckTwice(context, *pod.object, ContainersOf(pod.spec, true), "name", "container");
    CheckTwice(context, *pod.object, pod.spec["volumes"].items(), "name", "volume");
    for (const View& container : ContainersOf(pod.spec, true)) {
      if (const View name = container["name"]; name && !IsDnsName(name.text(), false)) {
        context->Report(*pod.object, name, "bad-name", absl::StrCat("\"", name.text(), "\" is no name of a container"));
      }
      CheckTwice(context, *pod.object, container["env"].items(), "name", "variable");
      CheckTwice(context, *pod.object, container["ports"].items(), "name", "port");
      for (const View& port : container["ports"].items()) CheckPort(context, *pod.object, port);
    }
  }
}

}  // namespace muster::kubernetes

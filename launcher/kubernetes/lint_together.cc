// What one object means for another: Services and pods, policies, budgets, claims, meshes. Absence counts only where the files could
// have held it: pods without any Service among the files may get one from elsewhere.
#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "launcher/kubernetes/lint_context.h"

namespace muster::kubernetes {
namespace {

std::vector<const Object*> OfKind(const Context& context, const std::string& kind) {
  std::vector<const Object*> found;
  for (const Object& object : context.objects) {
    if (object.kind == kind) found.push_back(&object);
  }
  return found;
}

std::vector<const PodPlace*> Selected(const Context& context, const View& selector) {
  std::vector<const PodPlace*> found;
  for (const PodPlace& pod : context.pods) {
    if (Selects(selector, pod.metadata["labels"])) found.push_back(&pod);
  }
  return found;
}

void CheckService(Context* context, const Object& service) {
  const View spec = service.root["spec"], selector = spec["selector"];
  if (!selector || context->pods.empty()) return;
  const auto pods = Selected(*context, selector);
  if (pods.empty()) {
    context->Report(service, selector, "selects-nothing", "no pod here has these labels");
    return;
  }
  const bool ranks = std::any_of(pods.begin(), pods.end(), [](const PodPlace* pod) { return pod->ends; });
  if (ranks && spec["clusterIP"].is("None") && !spec["publishNotReadyAddresses"].is_true()) {
    context->Report(service, spec["publishNotReadyAddresses"] ? spec["publishNotReadyAddresses"] : spec, "names-before-ready",
                    "publishNotReadyAddresses is not true");
  }
  for (const View& port : spec["ports"].items()) {
    const View target = port["targetPort"];
    if (!target || target.number()) continue;
    const bool found = std::any_of(pods.begin(), pods.end(), [&](const PodPlace* pod) {
      for (const View& container : ContainersOf(pod->spec, true)) {
        for (const View& one : container["ports"].items()) {
          if (one["name"].is(target.text())) return true;
        }
      }
      return false;
    });
    if (!found) context->Report(service, target, "unknown-target-port", absl::StrCat("targetPort: ", target.text()));
  }
}

void CheckSubdomains(Context* context) {
  const auto services = OfKind(*context, "Service");
  if (services.empty()) return;
  for (const PodPlace& pod : context->pods) {
    const View subdomain = pod.spec["subdomain"];
    if (!subdomain || pod.of_mpi_operator) continue;
    const auto found =
        std::find_if(services.begin(), services.end(), [&](const Object* one) { return one->name == subdomain.text(); });
    if (found == services.end()) {
      context->Report(*pod.object, subdomain, "subdomain-without-service", absl::StrCat("subdomain: ", subdomain.text()));
    } else if (!(*found)->root["spec"]["clusterIP"].is("None")) {
      context->Report(**found,
                      (*found)->root["spec"]["clusterIP"] ? (*found)->root["spec"]["clusterIP"] : (*found)->root["spec"],
                      "not-headless", absl::StrCat("pods have it as their subdomain"));
    }
  }
}

void CheckMesh(Context* context) {
  std::set<std::string> istio, linkerd;  // namespaces that inject
  for (const Object* space : OfKind(*context, "Namespace")) {
    const View labels = space->root["metadata"]["labels"];
    if (labels["istio-injection"].is("enabled") || labels["istio.io/rev"] || labels["istio.io/dataplane-mode"].is("ambient"))
      istio.insert(space->name);
    if (space->root["metadata"]["annotations"]["linkerd.io/inject"].is("enabled")) linkerd.insert(space->name);
  }
  for (const PodPlace& pod : context->pods) {
    if (!pod.ends) continue;
    const View labels = pod.metadata["labels"], annotations = pod.metadata["annotations"];
    const View istio_label = labels["sidecar.istio.io/inject"], ambient = labels["istio.io/dataplane-mode"],
               linkerd_note = annotations["linkerd.io/inject"];
    const View old_note = annotations["sidecar.istio.io/inject"];
    if (istio_label.is_true() || old_note.is_true()) {
      context->Report(*pod.object, istio_label ? istio_label : old_note, "mesh-intercepts", "Istio's sidecar is asked for");
    } else if (ambient && !ambient.is("none")) {
      context->Report(*pod.object, ambient, "mesh-intercepts", absl::StrCat("istio.io/dataplane-mode: ", ambient.text()));
    } else if (linkerd_note && !linkerd_note.is("disabled")) {
      context->Report(*pod.object, linkerd_note, "mesh-intercepts", absl::StrCat("linkerd.io/inject: ", linkerd_note.text()));
    } else if (istio.count(pod.object->name_space) > 0 && !istio_label.is_false() && !old_note.is_false()) {
      context->Report(*pod.object, pod.metadata, "mesh-intercepts",
                      absl::StrCat("namespace ", pod.object->name_space, " injects Istio's proxy"));
    } else if (linkerd.count(pod.object->name_space) > 0 && !linkerd_note.is("disabled")) {
      context->Report(*pod.object, pod.metadata, "mesh-intercepts",
                      absl::StrCat("namespace ", pod.object->name_space, " injects Linkerd's proxy"));
    }
  }
}

bool Names(const View& list, const std::string& word) {
  const auto items = list.items();
  return std::any_of(items.begin(), items.end(), [&](const View& one) { return one.is(word); });
}

void CheckNetworkPolicy(Context* context, const Object& policy) {
  const View spec = policy.root["spec"];
  std::vector<const PodPlace*> pods;
  for (const PodPlace& pod : context->pods) {
    const View labels = spec["podSelector"]["matchLabels"];
    if (pod.ends &&
        (Selects(labels, pod.metadata["labels"]) || (labels.members().empty() && !spec["podSelector"]["matchExpressions"])))
      pods.push_back(&pod);
  }
  const bool ranks =
      std::any_of(pods.begin(), pods.end(), [](const PodPlace* pod) { return pod->copies > 1; }) || pods.size() > 1;
  if (!ranks) return;
  if (spec["policyTypes"] ? Names(spec["policyTypes"], "Ingress") : true) {
    bool open = false;
    for (const View& rule : spec["ingress"].items()) {
      if (rule["from"].items().empty()) open = true;
      for (const View& peer : rule["from"].items()) {
        const View labels = peer["podSelector"]["matchLabels"];
        open = open || (peer["podSelector"].is_map() && labels.members().empty()) || peer["ipBlock"] ||
               std::any_of(pods.begin(), pods.end(),
                           [&](const PodPlace* pod) { return Selects(labels, pod->metadata["labels"]); });
      }
    }
    if (!open)
      context->Report(policy, spec["ingress"] ? spec["ingress"] : spec, "policy-blocks-peers",
                      "no rule of ingress lets pods of the job in");
  }
  if (spec["policyTypes"] ? Names(spec["policyTypes"], "Egress") : static_cast<bool>(spec["egress"])) {
    bool dns = false;
    for (const View& rule : spec["egress"].items()) {
      const auto ports = rule["ports"].items();
      // The cluster's DNS is in another namespace, where a podSelector alone does not reach.
      const auto peers = rule["to"].items();
      const bool leaves = peers.empty() || std::any_of(peers.begin(), peers.end(), [](const View& peer) {
                            return static_cast<bool>(peer["namespaceSelector"]) || static_cast<bool>(peer["ipBlock"]);
                          });
      dns = dns || (ports.empty() && leaves) || std::any_of(ports.begin(), ports.end(), [](const View& port) {
              return port["port"].number() == 53 || port["port"].is("dns");
            });
    }
    if (!dns)
      context->Report(policy, spec["egress"] ? spec["egress"] : spec, "policy-blocks-dns",
                      "no rule of egress lets port 53 out");
  }
}

void CheckBudget(Context* context, const Object& budget) {
  const View spec = budget.root["spec"];
  const auto pods = Selected(*context, spec["selector"]["matchLabels"]);
  if (!context->pods.empty() && pods.empty() && spec["selector"]["matchLabels"]) {
    return context->Report(budget, spec["selector"], "selects-nothing", "no pod here has these labels");
  }
  const bool jobs = std::any_of(pods.begin(), pods.end(), [](const PodPlace* pod) { return pod->ends; });
  if (jobs && spec["maxUnavailable"]) context->Report(budget, spec["maxUnavailable"], "budget-needs-number", "maxUnavailable");
  if (jobs && spec["minAvailable"] && !spec["minAvailable"].number()) {
    context->Report(budget, spec["minAvailable"], "budget-needs-number",
                    absl::StrCat("minAvailable: ", spec["minAvailable"].text()));
  }
}

void CheckClaim(Context* context, const Object& claim) {
  const View modes = claim.root["spec"]["accessModes"];
  if (Names(modes, "ReadWriteMany") || Names(modes, "ReadOnlyMany")) return;
  for (const PodPlace& pod : context->pods) {
    if (pod.copies < 2) continue;
    for (const View& volume : pod.spec["volumes"].items()) {
      if (volume["persistentVolumeClaim"]["claimName"].is(claim.name)) {
        return context->Report(claim, modes, "claim-on-one-node",
                               absl::StrCat(pod.object->title, " mounts it in ", pod.copies, " pods"));
      }
    }
  }
}

}  // namespace

void CheckTogether(Context* context) {
  for (const Object* service : OfKind(*context, "Service")) CheckService(context, *service);
  CheckSubdomains(context);
  CheckMesh(context);
  for (const Object* policy : OfKind(*context, "NetworkPolicy")) CheckNetworkPolicy(context, *policy);
  for (const Object* budget : OfKind(*context, "PodDisruptionBudget")) CheckBudget(context, *budget);
  for (const Object* claim : OfKind(*context, "PersistentVolumeClaim")) CheckClaim(context, *claim);
}

}  // namespace muster::kubernetes

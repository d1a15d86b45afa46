// Pod Security's levels, and rights that nobody needs.
// Source: kubernetes.io/docs/concepts/security/pod-security-standards.
#include <algorithm>
#include <array>
#include <set>

#include "absl/strings/str_cat.h"
#include "launcher/kubernetes/lint_context.h"

namespace muster::kubernetes {
namespace {

const std::set<std::string>& BaselineCapabilities() {
  static const auto& names =
      *new std::set<std::string>{"AUDIT_WRITE",      "CHOWN",   "DAC_OVERRIDE", "FOWNER",  "FSETID", "KILL",      "MKNOD",
                                 "NET_BIND_SERVICE", "SETFCAP", "SETGID",       "SETPCAP", "SETUID", "SYS_CHROOT"};
  return names;
}

const std::set<std::string>& SafeSysctls() {
  static const auto& names = *new std::set<std::string>{"kernel.shm_rmid_forced",
                                                        "net.ipv4.ip_local_port_range",
                                                        "net.ipv4.ip_unprivileged_port_start",
                                                        "net.ipv4.tcp_syncookies",
                                                        "net.ipv4.ping_group_range",
                                                        "net.ipv4.ip_local_reserved_ports",
                                                        "net.ipv4.tcp_keepalive_time",
                                                        "net.ipv4.tcp_fin_timeout",
                                                        "net.ipv4.tcp_keepalive_intvl",
                                                        "net.ipv4.tcp_keepalive_probes",
                                                        "net.ipv4.tcp_rmem",
                                                        "net.ipv4.tcp_wmem"};
  return names;
}

void CheckBaseline(Context* context, const PodPlace& pod) {
  for (const char* field : {"hostNetwork", "hostPID", "hostIPC"}) {
    if (pod.spec[field].is_true())
      context->Report(*pod.object, pod.spec[field], "pss-host-namespaces", absl::StrCat(field, ": true"));
  }
  for (const View& volume : pod.spec["volumes"].items()) {
    if (volume["hostPath"])
      context->Report(*pod.object, volume["hostPath"], "pss-host-path", volume["hostPath"]["path"].text());
  }
  for (const View& sysctl : pod.spec["securityContext"]["sysctls"].items()) {
    if (SafeSysctls().count(sysctl["name"].text()) == 0)
      context->Report(*pod.object, sysctl, "pss-sysctls", sysctl["name"].text());
  }
  if (pod.spec["securityContext"]["seccompProfile"]["type"].is("Unconfined")) {
    context->Report(*pod.object, pod.spec["securityContext"]["seccompProfile"]["type"], "pss-seccomp",
                    "seccompProfile: Unconfined");
  }
  for (const View& container : ContainersOf(pod.spec, true)) {
    const View security = container["securityContext"];
    if (security["privileged"].is_true())
      context->Report(*pod.object, security["privileged"], "pss-privileged", "privileged: true");
    if (security["seccompProfile"]["type"].is("Unconfined")) {
      context->Report(*pod.object, security["seccompProfile"]["type"], "pss-seccomp", "seccompProfile: Unconfined");
    }
    if (const View mount = security["procMount"]; mount && !mount.is("Default"))
      context->Report(*pod.object, mount, "pss-proc-mount", absl::StrCat("procMount: ", mount.text()));
    for (const View& port : container["ports"].items()) {
      if (port["hostPort"].number().value_or(0) != 0)
        context->Report(*pod.object, port["hostPort"], "pss-host-port", absl::StrCat("hostPort: ", port["hostPort"].text()));
    }
    for (const View& added : security["capabilities"]["add"].items()) {
      const bool restricted = context->options.pod_security == PodSecurity::kRestricted;
      if (restricted ? !added.is("NET_BIND_SERVICE") : BaselineCapabilities().count(added.text()) == 0) {
        context->Report(*pod.object, added, "pss-capabilities", absl::StrCat("adds ", added.text()));
      }
    }
  }
}

void CheckRestricted(Context* context, const PodPlace& pod) {
  static constexpr std::array<const char*, 9> kVolumes = {
      "name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"};
  for (const View& volume : pod.spec["volumes"].items()) {
    for (const auto& [kind, source] : volume.members()) {
      const bool known =
          std::any_of(kVolumes.begin(), kVolumes.end(), [name = kind->text](const char* one) { return name == one; });
      if (!known && kind->text != "hostPath" && kind->text != "image")
        context->Report(*pod.object, source, "pss-volume-type", kind->text);
    }
  }
  const View pod_security = pod.spec["securityContext"];
  const auto root = [&](const View& user) { return user.number() == 0; };
  if (root(pod_security["runAsUser"])) context->Report(*pod.object, pod_security["runAsUser"], "pss-root", "runAsUser: 0");
  for (const View& container : ContainersOf(pod.spec, true)) {
    const View security = container["securityContext"];
    const std::string name = absl::StrCat("container ", container["name"].text());
    if (!security["allowPrivilegeEscalation"].is_false()) {
      context->Report(*pod.object, security["allowPrivilegeEscalation"], "pss-escalation",
                      absl::StrCat(name, ": allowPrivilegeEscalation is not false"));
    }
    const auto dropped = security["capabilities"]["drop"].items();
    if (std::none_of(dropped.begin(), dropped.end(), [](const View& one) { return one.is("ALL"); })) {
      context->Report(*pod.object, security["capabilities"], "pss-capabilities", absl::StrCat(name, " does not drop ALL"));
    }
    if (root(security["runAsUser"]))
      context->Report(*pod.object, security["runAsUser"], "pss-root", absl::StrCat(name, ": runAsUser: 0"));
    const View non_root = security["runAsNonRoot"] ? security["runAsNonRoot"] : pod_security["runAsNonRoot"];
    if (!non_root.is_true())
      context->Report(*pod.object, non_root, "pss-root", absl::StrCat(name, ": runAsNonRoot is not true"));
    const View profile = security["seccompProfile"] ? security["seccompProfile"] : pod_security["seccompProfile"];
    if (!profile["type"].is("RuntimeDefault") && !profile["type"].is("Localhost") && !profile["type"].is("Unconfined")) {
      context->Report(*pod.object, profile, "pss-seccomp", absl::StrCat(name, " has no seccompProfile"));
    }
  }
}

}  // namespace

void CheckSecurity(Context* context) {
  for (const PodPlace& pod : context->pods) {
    if (!pod.spec) continue;
    if (context->options.pod_security != PodSecurity::kPrivileged) CheckBaseline(context, pod);
    if (context->options.pod_security != PodSecurity::kRestricted) continue;
    CheckRestricted(context, pod);
    if (!pod.spec["automountServiceAccountToken"].is_false()) {
      context->Report(*pod.object,
                      pod.spec["automountServiceAccountToken"] ? pod.spec["automountServiceAccountToken"] : pod.spec,
                      "token-mounted", "automountServiceAccountToken is not false");
    }
    for (const View& container : ContainersOf(pod.spec, false)) {
      if (!container["securityContext"]["readOnlyRootFilesystem"].is_true()) {
        context->Report(*pod.object, container["securityContext"], "root-writable",
                        absl::StrCat("container ", container["name"].text()));
      }
    }
  }
}

}  // namespace muster::kubernetes

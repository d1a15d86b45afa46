"""What a pod's manifest asks of a container runtime, in the words of the OCI runtime specification.

Nothing here runs anything but the mounts that a volume takes. Volumes, users and capabilities that this node cannot give raise
Unsupported.
"""
import json
import os
import re
import subprocess

SECCOMP = "/usr/share/containers/seccomp.json"


class Unsupported(Exception):
    """What a manifest asks that this node does not do."""


def default_seccomp():
    """The profile of the containers' projects, in the words of the runtime specification, for a process without capabilities."""
    with open(SECCOMP, encoding="utf-8") as file:
        profile = json.load(file)
    rules = []
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if includes.get("caps") or ("arches" in includes and "amd64" not in includes["arches"]) or "amd64" in excludes.get("arches", []):
            continue
        one = {"names": rule["names"], "action": rule["action"]}
        if rule.get("errnoRet") is not None:
            one["errnoRet"] = rule["errnoRet"]
        if rule.get("args"):
            one["args"] = rule["args"]
        rules.append(one)
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules}


def quantity(text):
    """Bytes, or cores."""
    number, unit = re.fullmatch(r"([0-9.]+)(m|[KMGT]i?)?", str(text)).groups()
    factor = {None: 1, "m": 1e-3, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    return float(number) * factor[unit]


def filled(text, values):
    """`$(NAME)` is a variable's value where there is one; `$$(` is `$(`."""
    return re.sub(r"\$\$\(|\$\((\w+)\)", lambda match: "$(" if match.group(1) is None else values.get(match.group(1), match.group(0)), str(text))


def labels_text(labels):
    """As the downward API writes them."""
    return "".join(f"{name}={json.dumps(value)}\n" for name, value in sorted(labels.items()))


class Volumes:
    """The volumes of one pod as folders of this machine, made when they are first asked for and kept while the pod lives."""

    def __init__(self, pod, folder):
        self.pod, self.folder, self.made = pod, folder, {}
        self.group = pod.spec["securityContext"].get("fsGroup", 0)

    def mount(self, volume):
        """(source, options)"""
        name, kind = volume["name"], next(key for key in volume if key != "name")
        if name not in self.made:
            make = getattr(self, "make_" + kind, None)
            if make is None:
                raise Unsupported(f"{self.pod.name}: a volume of kind {kind} is nothing that this node knows")
            own = os.path.join(self.folder, name)
            os.makedirs(own)
            self.made[name] = make(own, volume[kind])
        return self.made[name]

    def make_emptyDir(self, own, said):
        if said.get("medium") == "Memory":
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(quantity(said['sizeLimit']))}", "tmpfs", own], check=True)
        os.chown(own, 0, self.group)
        os.chmod(own, 0o2777)
        return own, ["rbind", "rw"]

    def make_secret(self, own, said):
        source = self.pod.node.objects[("Secret", said["secretName"])]
        return self.files(own, {**source.get("stringData", {}), **source.get("data", {})}, said)

    def make_configMap(self, own, said):
        return self.files(own, self.pod.node.objects[("ConfigMap", said["name"])].get("data", {}), said)

    def make_downwardAPI(self, own, said):
        texts = {}
        for item in said["items"]:
            if item["fieldRef"]["fieldPath"] != "metadata.labels":
                raise Unsupported(f"{self.pod.name}: the downward API's {item['fieldRef']['fieldPath']} as a file")
            texts[item["path"]] = labels_text(self.pod.labels)
        return self.files(own, texts, said)

    def make_projected(self, own, said):
        texts = {}
        for source in said["sources"]:
            (kind, asked), = source.items()
            if kind != "serviceAccountToken":
                raise Unsupported(f"{self.pod.name}: a projected volume of {kind}")
            texts[asked["path"]] = self.pod.node.token(self.pod, asked["audience"], asked.get("expirationSeconds", 3600))
        # A kubelet gives a token to the pod's own user alone where that has a number.
        return self.files(own, texts, {"defaultMode": 0o440, **said})

    def make_persistentVolumeClaim(self, own, said):
        shared = self.pod.node.claim(said["claimName"])
        os.chown(shared, 0, self.group)
        os.chmod(shared, 0o2775)
        return shared, ["rbind", "rw"]

    def files(self, own, texts, said):
        for name, text in texts.items():
            path = os.path.join(own, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chown(path, 0, self.group)
            os.chmod(path, said.get("defaultMode", 0o644))
        return own, ["rbind", "ro"]


def mounts_of(container, volumes, files, spec):
    """`files`: {destination: source} that every pod has."""
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"},
              {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
              {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
               "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
              {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
              {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}]
    sources = {volume["name"]: volume for volume in spec.get("volumes", [])}
    given = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
    if "/dev/shm" not in given:
        mounts.append({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                       "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]})
    for mount in container.get("volumeMounts", []):
        source, options = volumes.mount(sources[mount["name"]])
        options = [*options[:1], "ro"] if mount.get("readOnly") else options
        mounts.append({"destination": mount["mountPath"], "type": "bind", "source": source, "options": options})
    for destination, source in files.items():
        mounts.append({"destination": destination, "type": "bind", "source": source, "options": ["bind", "rw"]})
    return mounts


def oci_config(pod, root, cgroup):
    """config.json of the pod's container, with its root file system at `root`."""
    spec, container = pod.spec, pod.container

    def security(name, default=None):
        return container.get("securityContext", {}).get(name, spec.get("securityContext", {}).get(name, default))
    user = security("runAsUser", 0)
    if security("runAsNonRoot") and user == 0:
        raise Unsupported(f"{pod.name}: runAsNonRoot, and no user is said")
    if container["securityContext"]["capabilities"] != {"drop": ["ALL"]}:
        raise Unsupported(f"{pod.name}: this node gives no capabilities")
    groups = [spec["securityContext"]["fsGroup"]] if "fsGroup" in spec["securityContext"] else []
    limits = container.get("resources", {}).get("limits", {})
    linux = {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                            {"type": "network", "path": f"/proc/{pod.holder.pid}/ns/net"}],
             "cgroupsPath": cgroup,
             "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
             "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
             "resources": {"devices": [{"allow": False, "access": "rwm"}]}}
    if "memory" in limits:
        linux["resources"]["memory"] = {"limit": int(quantity(limits["memory"]))}
    if "cpu" in limits:
        linux["resources"]["cpu"] = {"period": 100000, "quota": int(quantity(limits["cpu"]) * 100000)}
    if security("seccompProfile", {}).get("type") == "RuntimeDefault":
        linux["seccomp"] = default_seccomp()
    values = pod.variables()
    words = [filled(word, values) for word in [*container["command"], *container.get("args", [])]]
    return {"ociVersion": "1.0.2", "hostname": pod.hostname, "root": {"path": root, "readonly": bool(security("readOnlyRootFilesystem"))},
            "process": {"user": {"uid": user, "gid": security("runAsGroup", user), "additionalGids": groups}, "cwd": "/",
                        "args": words, "env": [f"{name}={value}" for name, value in values.items()],
                        "noNewPrivileges": security("allowPrivilegeEscalation") is False, "capabilities": {}},
            "mounts": mounts_of(container, pod.volumes, pod.files(), spec), "linux": linux}

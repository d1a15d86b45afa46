"""A node for pods, for tests alone: reads what `muster k8s render` prints and runs its Jobs' pods as runc containers, as a kubelet, the
Job controller and a cluster's DNS would as far as a job can see it.

    node = Node(folder, image_root)       # raises Unavailable with the reason
    node.apply(documents)                 # objects of a manifest
    node.start_jobs()                     # a pod for each index, or one
    node.wait(lambda: node.job("words-coordinator").succeeded)   # turns the controller meanwhile
    node.close()

A pod has a network namespace of its own on one bridge with an address that no other pod ever has, the manifest's user, no
capabilities, the containers' default seccomp profile (golang-github-containers-common), no_new_privs, a root that is read-only where
the manifest says so, 64 MB of shared memory, its volumes, the downward API's variables, /etc/hosts with the headless Services' names,
a file for its last words, and memory and CPU limits by cgroups. All of it goes with the process that made it.
"""
import ctypes
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import time

SECCOMP = "/usr/share/containers/seccomp.json"
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
MESSAGE_BYTES_MAX = 4096


class Unavailable(Exception):
    """Why there can be no such node here."""


def what_is_missing():
    if os.geteuid() != 0:
        return "not root"
    for tool in ("runc", "ip", "nsenter", "unshare", "mount"):
        if shutil.which(tool) is None:
            return f"no {tool} (scripts/install containers)"
    if not os.path.exists(SECCOMP):
        return f"no {SECCOMP} (scripts/install containers)"
    return ""


def _run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


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


class Pod:
    made = 0  # in this process

    def __init__(self, node, job, index, number):
        self.node, self.job, self.index = node, job, index
        suffix = f"{number:05x}"
        self.hostname = job.name if index is None else f"{job.name}-{index}"
        self.name = f"{self.hostname}-{suffix}"
        self.machine = f"machine-{number}"
        self.address = f"10.89.{number // 250}.{number % 250 + 2}"
        self.template = job.document["spec"]["template"]
        self.spec = self.template["spec"]
        self.container = self.spec["containers"][0]
        self.labels = dict(self.template["metadata"]["labels"])
        if index is not None:
            self.labels["batch.kubernetes.io/job-completion-index"] = str(index)
        self.folder = os.path.join(node.folder, self.name)
        Pod.made += 1
        self.id = f"muster-{os.getpid()}-{Pod.made}"  # never one of an earlier node's, whose cgroups may still end
        self.exit_code = None
        self.deleted_at = None      # monotonic
        self.ended_at = None
        self.holder = self.process = None

    # --- What the manifest says ---

    def security(self, name, default=None):
        own = self.container.get("securityContext", {})
        return own.get(name, self.spec.get("securityContext", {}).get(name, default))

    def variables(self):
        values = {"PATH": "/usr/local/bin:/usr/bin", "HOSTNAME": self.hostname}
        if self.index is not None:
            values["JOB_COMPLETION_INDEX"] = str(self.index)
        fields = {"metadata.name": self.name, "spec.nodeName": self.machine, "status.podIP": self.address}
        for label, value in self.labels.items():
            fields[f"metadata.labels['{label}']"] = value
        for one in self.container.get("env", []):
            values[one["name"]] = fields[one["valueFrom"]["fieldRef"]["fieldPath"]] if "valueFrom" in one else self.filled(one["value"], values)
        return values

    @staticmethod
    def filled(text, values):
        return re.sub(r"\$\$\(|\$\((\w+)\)", lambda match: "$(" if match.group(1) is None else values.get(match.group(1), match.group(0)), str(text))

    def words(self):
        values = self.variables()
        return [self.filled(word, values) for word in [*self.container["command"], *self.container.get("args", [])]]

    def volume(self, volume):
        """(source, options) of a mount."""
        group = self.spec["securityContext"].get("fsGroup", 0)
        name, kind = volume["name"], next(key for key in volume if key != "name")
        own = os.path.join(self.folder, "volumes", name)
        if kind == "emptyDir":
            os.makedirs(own)
            if volume[kind].get("medium") == "Memory":
                _run("mount", "-t", "tmpfs", "-o", f"size={int(quantity(volume[kind]['sizeLimit']))}", "tmpfs", own)
            os.chown(own, 0, group)
            os.chmod(own, 0o2777)
            return own, ["rbind", "rw"]
        if kind in ("secret", "configMap"):
            source = self.node.objects[("Secret" if kind == "secret" else "ConfigMap", volume[kind]["secretName" if kind == "secret" else "name"])]
            os.makedirs(own)
            for file_name, text in {**source.get("stringData", {}), **source.get("data", {})}.items():
                path = os.path.join(own, file_name)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                os.chown(path, 0, group)
                os.chmod(path, volume[kind].get("defaultMode", 0o644))
            return own, ["rbind", "ro"]
        if kind == "persistentVolumeClaim":
            shared = self.node.claim(volume[kind]["claimName"])
            os.chown(shared, 0, group)
            os.chmod(shared, 0o2775)
            return shared, ["rbind", "rw"]
        raise Unavailable(f"{self.name}: a volume of kind {kind} is nothing that this node knows")

    def mounts(self):
        mounts = [{"destination": "/proc", "type": "proc", "source": "proc"},
                  {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                  {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                   "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                  {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
                  {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}]
        sources = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        given = {mount["mountPath"] for mount in self.container.get("volumeMounts", [])}
        if "/dev/shm" not in given:
            mounts.append({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                           "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]})
        for mount in self.container.get("volumeMounts", []):
            source, options = self.volume(sources[mount["name"]])
            options = [*options[:1], "ro"] if mount.get("readOnly") else options
            mounts.append({"destination": mount["mountPath"], "type": "bind", "source": source, "options": options})
        files = {"/etc/hosts": self.hosts_file, "/etc/hostname": self.write("hostname", self.hostname + "\n"),
                 "/etc/resolv.conf": self.write("resolv.conf", ""), self.message_path: self.message_file}
        for destination, source in files.items():
            mounts.append({"destination": destination, "type": "bind", "source": source, "options": ["bind", "rw"]})
        return mounts

    @property
    def message_path(self):
        return self.container.get("terminationMessagePath", "/dev/termination-log")

    @property
    def hosts_file(self):
        return os.path.join(self.folder, "hosts")

    @property
    def message_file(self):
        return os.path.join(self.folder, "message")

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def config(self):
        user = self.security("runAsUser", 0)
        if self.security("runAsNonRoot") and user == 0:
            raise Unavailable(f"{self.name}: runAsNonRoot, and no user is said")
        groups = [self.spec["securityContext"]["fsGroup"]] if "fsGroup" in self.spec["securityContext"] else []
        if self.container["securityContext"]["capabilities"] != {"drop": ["ALL"]}:
            raise Unavailable(f"{self.name}: this node gives no capabilities")
        limits = self.container.get("resources", {}).get("limits", {})
        linux = {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                                {"type": "network", "path": f"/proc/{self.holder.pid}/ns/net"}],
                 "cgroupsPath": f"/muster-test/{self.id}",
                 "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
                 "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
                 "resources": {"devices": [{"allow": False, "access": "rwm"}]}}
        if "memory" in limits:
            linux["resources"]["memory"] = {"limit": int(quantity(limits["memory"]))}
        if "cpu" in limits:
            linux["resources"]["cpu"] = {"period": 100000, "quota": int(quantity(limits["cpu"]) * 100000)}
        if self.security("seccompProfile", {}).get("type") == "RuntimeDefault":
            linux["seccomp"] = default_seccomp()
        return {"ociVersion": "1.0.2", "hostname": self.hostname,
                "root": {"path": os.path.join(self.folder, "root"), "readonly": bool(self.security("readOnlyRootFilesystem"))},
                "process": {"user": {"uid": user, "gid": self.security("runAsGroup", user), "additionalGids": groups}, "cwd": "/",
                            "args": self.words(), "env": [f"{name}={value}" for name, value in self.variables().items()],
                            "noNewPrivileges": self.security("allowPrivilegeEscalation") is False, "capabilities": {}},
                "mounts": self.mounts(), "linux": linux}

    # --- Its life ---

    def start(self):
        os.makedirs(os.path.join(self.folder, "root"))
        for folder in ("upper", "work", "volumes"):
            os.mkdir(os.path.join(self.folder, folder))
        os.chmod(self.folder, 0o755)
        self.write("hosts", "")
        self.write("message", "", 0o666)
        self.node.connect(self)
        _run("mount", "-t", "overlay", "-o", f"lowerdir={self.node.image},upperdir={self.folder}/upper,workdir={self.folder}/work", "overlay", f"{self.folder}/root")
        self.write("config.json", json.dumps(self.config()))
        self.node.tell_names()
        with open(os.path.join(self.folder, "stdout"), "wb") as out, open(os.path.join(self.folder, "stderr"), "wb") as err:
            self.process = subprocess.Popen(["runc", "--root", self.node.runc_root, "run", "--bundle", self.folder, self.id], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=err)

    def runc(self, *words):
        return subprocess.run(["runc", "--root", self.node.runc_root, *words], capture_output=True, text=True)

    def signal(self, name):
        """To the first process, as a container runtime does."""
        return self.runc("kill", self.id, name).returncode == 0

    def kill(self):
        """The container is gone at once, as with a node that has lost its power."""
        self.signal("KILL")

    def delete(self):
        """What deleting or draining does: SIGTERM, and SIGKILL at the end of the grace period. `poll` has to be called meanwhile."""
        if self.deleted_at is None:
            self.deleted_at = time.monotonic()
            self.signal("TERM")

    @property
    def grace(self):
        return self.spec.get("terminationGracePeriodSeconds", 30)

    def poll(self):
        if self.exit_code is not None or self.process is None:
            return self.exit_code
        code = self.process.poll()
        if code is None:
            if self.deleted_at is not None and time.monotonic() > self.deleted_at + self.grace:
                self.kill()
            return None
        self.exit_code = code if code >= 0 else 128 - code
        self.ended_at = time.monotonic()
        self.release()
        return self.exit_code

    def release(self):
        self.runc("delete", "--force", self.id)
        if self.holder is not None and self.holder.poll() is None:
            self.holder.kill()
            self.holder.wait()

    def text(self, which):
        try:
            with open(os.path.join(self.folder, which), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    @property
    def message(self):
        """As `kubectl describe` shows it."""
        message = self.text("message")[:MESSAGE_BYTES_MAX]
        if not message and self.exit_code and self.container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = "".join((self.text("stdout") + self.text("stderr")).splitlines(True)[-80:])[-2048:]
        return message

    def pids(self):
        """Of all its processes, as numbered here."""
        done = self.runc("ps", "--format", "json", self.id)
        return json.loads(done.stdout) or [] if done.returncode == 0 else []


class Job:
    """One Job and what its controller does: a pod an index, replaced when it has failed, by the rules of podFailurePolicy."""

    def __init__(self, node, document):
        self.node, self.document = node, document
        self.name = document["metadata"]["name"]
        self.is_indexed = document["spec"].get("completionMode") == "Indexed"
        self.pods = []  # all there ever were
        self.failed = self.succeeded = False
        self.failures = 0

    def create(self, index):
        pod = Pod(self.node, self, index, self.node.next_number())
        self.pods.append(pod)
        pod.start()
        return pod

    def start(self):
        for index in range(self.document["spec"]["completions"]) if self.is_indexed else [None]:
            self.create(index)

    def live(self, index=None):
        """The newest pod of an index that has not ended."""
        return next((pod for pod in reversed(self.pods) if pod.index == index and pod.exit_code is None), None)

    def action(self, pod):
        for rule in self.document["spec"].get("podFailurePolicy", {}).get("rules", []):
            if "onPodConditions" in rule and pod.deleted_at is not None:
                return rule["action"]
            codes = rule.get("onExitCodes")
            if codes and (pod.exit_code in codes["values"]) == (codes["operator"] == "In"):
                return rule["action"]
        return "Count"

    def turn(self):
        for pod in list(self.pods):
            if pod.exit_code is not None or pod.poll() is None:
                continue
            self.node.tell_names()
            if pod.exit_code == 0:
                rules = self.document["spec"].get("successPolicy", {}).get("rules", [])
                done = [one for one in self.pods if one.exit_code == 0]
                enough = rules[0]["succeededCount"] if rules else self.document["spec"].get("completions", 1)
                self.succeeded = self.succeeded or len(done) >= enough
                continue
            action = self.action(pod)
            if action == "FailJob":
                self.failed = True
            elif action == "Count":
                self.failures += 1
            if not (self.failed or self.succeeded or self.node.closing) and self.live(pod.index) is None:
                self.create(pod.index)


class Node:
    def __init__(self, folder, image):
        missing = what_is_missing()
        if missing:
            raise Unavailable(missing)
        self.folder, self.image, self.closing = folder, image, False
        self.runc_root = os.path.join(folder, "runc")
        self.objects, self.jobs, self._number = {}, {}, 0
        libc = ctypes.CDLL(None, use_errno=True)
        # Mounts of ours are seen by nobody else, and go with us.
        if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) != 0:
            raise Unavailable(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
        self.switch = self.new_network()
        self.inside(self.switch, "ip", "link", "add", "br0", "type", "bridge")
        self.inside(self.switch, "ip", "link", "set", "br0", "up")

    def next_number(self):
        self._number += 1
        return self._number

    @staticmethod
    def new_network():
        holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, preexec_fn=_die_with_parent)
        own = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 20
        while os.readlink(f"/proc/{holder.pid}/ns/net") == own:
            if time.monotonic() > end or holder.poll() is not None:
                raise Unavailable("no network namespace")
            time.sleep(0.001)
        return holder

    @staticmethod
    def inside(holder, *words):
        return _run("nsenter", "-t", str(holder.pid), "--net", *words)

    def connect(self, pod):
        pod.holder = self.new_network()
        veth = "v" + pod.id.rsplit("-", 1)[1]
        self.inside(self.switch, "ip", "link", "add", veth, "master", "br0", "up", "type", "veth", "peer", "name", "eth0", "netns", str(pod.holder.pid))
        self.inside(pod.holder, "ip", "addr", "add", pod.address + "/16", "dev", "eth0")
        self.inside(pod.holder, "ip", "link", "set", "lo", "up")
        self.inside(pod.holder, "ip", "link", "set", "eth0", "up")

    def claim(self, name):
        path = os.path.join(self.folder, "claims", name)
        os.makedirs(path, exist_ok=True)
        return path

    def apply(self, documents):
        for document in documents:
            self.objects[(document["kind"], document["metadata"]["name"])] = document
            if document["kind"] == "Job":
                self.jobs[document["metadata"]["name"]] = Job(self, document)

    def job(self, name):
        return self.jobs[name]

    def pods(self):
        return [pod for job in self.jobs.values() for pod in job.pods if pod.holder is not None and pod.exit_code is None]

    def tell_names(self):
        """What DNS would say: a headless Service is the addresses of its pods, ready or not, and each pod has a name below it."""
        lines = []
        for (kind, name), service in self.objects.items():
            if kind != "Service":
                continue
            for pod in self.pods():
                if service["spec"]["selector"].items() <= pod.labels.items():
                    own = f" {pod.hostname}.{name}" if pod.spec.get("subdomain") == name else ""
                    lines.append(f"{pod.address} {name}{own}\n")
        for pod in self.pods():
            with open(pod.hosts_file, "w", encoding="utf-8") as file:
                file.write(f"127.0.0.1 localhost\n{pod.address} {pod.hostname}\n" + "".join(lines))

    def start_jobs(self):
        for job in self.jobs.values():
            job.start()

    def turn(self):
        for job in self.jobs.values():
            job.turn()

    def wait(self, condition, seconds=60):
        """Lets the controllers work until `condition()`; its last value."""
        end = time.monotonic() + seconds
        while True:
            self.turn()
            value = condition()
            if value or time.monotonic() > end:
                return value
            time.sleep(0.01)

    def story(self):
        """For a test that has failed."""
        return "\n".join(f"== {pod.name} {pod.address} exit {pod.exit_code}\n{pod.text('stdout')[-1500:]}\n{pod.text('stderr')[-3000:]}"
                         for job in self.jobs.values() for pod in job.pods)

    def close(self):
        self.closing = True
        for job in self.jobs.values():
            for pod in job.pods:
                if pod.exit_code is None and pod.process is not None:
                    pod.runc("delete", "--force", pod.id)
                    pod.process.kill()
                    pod.process.wait()
                pod.release()
        self.switch.kill()
        self.switch.wait()
        for holder in [self.switch, *(pod.holder for job in self.jobs.values() for pod in job.pods)]:
            if holder is not None and holder.stdin is not None:
                holder.stdin.close()
        for folder in glob.glob("/sys/fs/cgroup/**/muster-test", recursive=True):
            try:
                os.rmdir(folder)
            except OSError:
                pass  # of another test's
        with open("/proc/self/mounts", encoding="utf-8") as file:
            ours = [line.split()[1] for line in file if line.split()[1].startswith(self.folder + "/")]
        for place in reversed(ours):
            subprocess.run(["umount", "-l", place], capture_output=True)

"""A cluster for pods, for tests alone: reads what `muster k8s render` prints and runs its pods as runc containers, as kubelets,
controllers and a cluster's DNS would as far as a job can see it.

    node = Node(folder, image_root)       # raises Unavailable with the reason
    node.apply(documents)                 # objects of a manifest
    node.start_jobs()                     # a pod for each index, or one
    node.wait(lambda: node.job("words-coordinator").succeeded)   # turns the controllers meanwhile
    node.close()

A pod (pod.py) has a machine of its own: a network namespace on one bridge with an address that no other pod ever has. Its container
(container_spec.py) has the manifest's user, no capabilities, the containers' default seccomp profile
(golang-github-containers-common), no_new_privs, a root that is read-only where the manifest says so, 64 MB of shared memory, its
volumes, the downward API's variables and files, /etc/hosts with the headless Services' names, a file for its last words, and memory
and CPU limits by cgroups. Which pods there are the controllers say (controllers.py). All of it goes with the process that made it.

Where the API server would be somebody listens and answers nobody: api_callers() says who has tried.
"""
import ctypes
import glob
import os
import shutil
import signal
import socket
import subprocess
import time

from container_spec import SECCOMP
from controllers import controllers_of

CLONE_NEWNS, CLONE_NEWNET, MS_REC, MS_PRIVATE = 0x20000, 0x40000000, 0x4000, 1 << 18
API_SERVER = ("10.89.255.1", 443)
NODE_LABELS_COPIED = 35  # KEP-4742: since 1.35 a pod has the region and zone of its node as labels


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


def _libc(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise Unavailable(f"{name}: {os.strerror(ctypes.get_errno())}")


class Node:
    def __init__(self, folder, image, version=33, machine_labels=None):
        """`version`: Kubernetes 1.N. `machine_labels`: labels of a machine by its number; pods are put on machines 1, 2, ... in turn."""
        missing = what_is_missing()
        if missing:
            raise Unavailable(missing)
        self.folder, self.image, self.version, self.closing = folder, image, version, False
        self.machine_labels = machine_labels or (lambda number: {})
        self.token = None  # (pod, audience, seconds) -> text, for who wants projected tokens
        self.runc_root = os.path.join(folder, "runc")
        self.objects, self.controllers, self._number = {}, [], 0
        # Mounts of ours are seen by nobody else, and go with us.
        _libc("unshare", CLONE_NEWNS)
        _libc("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
        self.switch = self.new_network()
        self.inside(self.switch, "ip", "link", "set", "lo", "up")
        self.inside(self.switch, "ip", "link", "add", "br0", "type", "bridge")
        self.inside(self.switch, "ip", "addr", "add", API_SERVER[0] + "/16", "dev", "br0")
        self.inside(self.switch, "ip", "link", "set", "br0", "up")
        self.api_server = self.listen_in(self.switch, API_SERVER)

    def next_number(self):
        self._number += 1
        return self._number

    # --- Networks ---

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

    @staticmethod
    def listen_in(holder, address):
        """A listening socket in the network of another process; a socket stays in the one in which it was made."""
        with open("/proc/self/ns/net", "rb") as own, open(f"/proc/{holder.pid}/ns/net", "rb") as other:
            _libc("setns", other.fileno(), CLONE_NEWNET)
            try:
                listener = socket.create_server(address, backlog=1024)
            finally:
                _libc("setns", own.fileno(), CLONE_NEWNET)
        listener.setblocking(False)
        return listener

    def connect(self, pod):
        pod.holder = self.new_network()
        veth = "v" + pod.id.rsplit("-", 1)[1]
        self.inside(self.switch, "ip", "link", "add", veth, "master", "br0", "up", "type", "veth", "peer", "name", "eth0", "netns", str(pod.holder.pid))
        self.inside(pod.holder, "ip", "addr", "add", pod.address + "/16", "dev", "eth0")
        self.inside(pod.holder, "ip", "link", "set", "lo", "up")
        self.inside(pod.holder, "ip", "link", "set", "eth0", "up")

    @staticmethod
    def service_variables():
        """Every container has these, whatever its pod says of service links."""
        return {"KUBERNETES_SERVICE_HOST": API_SERVER[0], "KUBERNETES_SERVICE_PORT": str(API_SERVER[1])}

    def api_callers(self):
        """Addresses that have connected to the API server since it was asked last."""
        callers = []
        while True:
            try:
                connection, (address, _) = self.api_server.accept()
            except BlockingIOError:
                return callers
            connection.close()
            callers.append(address)

    # --- Objects ---

    def apply(self, documents):
        documents = list(documents)
        for document in documents:
            self.objects[(document["kind"], document["metadata"]["name"])] = document
        self.controllers += controllers_of(self, documents)

    def claim(self, name):
        path = os.path.join(self.folder, "claims", name)
        os.makedirs(path, exist_ok=True)
        return path

    def labels_copied(self, number):
        """Of a machine's labels those that its pods have."""
        if self.version < NODE_LABELS_COPIED:
            return {}
        return {name: value for name, value in self.machine_labels(number).items()
                if name in ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")}

    def job(self, name):
        """A Job, whoever made it."""
        return next(jobs[name] for jobs in (controller.jobs() for controller in self.controllers) if name in jobs)

    def all_pods(self):
        return [pod for controller in self.controllers for pod in controller.pods]

    def pods(self):
        return [pod for pod in self.all_pods() if pod.holder is not None and pod.exit_code is None]

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

    # --- Time ---

    def start_jobs(self):
        for controller in self.controllers:
            controller.start()

    def turn(self):
        for controller in self.controllers:
            controller.turn()

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
        return "\n".join(f"== {pod.name} {pod.address} exit {pod.exit_code} {pod.exit_codes}\n{pod.text('stdout')[-1500:]}\n{pod.text('stderr')[-3000:]}"
                         for pod in self.all_pods())

    def close(self):
        self.closing = True
        for pod in self.all_pods():
            pod.close()
        self.api_server.close()
        self.switch.kill()
        self.switch.wait()
        self.switch.stdin.close()
        for folder in glob.glob("/sys/fs/cgroup/**/muster-test", recursive=True):
            try:
                os.rmdir(folder)
            except OSError:
                pass  # of another test's
        with open("/proc/self/mounts", encoding="utf-8") as file:
            ours = [line.split()[1] for line in file if line.split()[1].startswith(self.folder + "/")]
        for place in reversed(ours):
            subprocess.run(["umount", "-l", place], capture_output=True)

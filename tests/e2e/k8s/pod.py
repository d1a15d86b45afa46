"""One pod on a Node: a runc container in a network of its own, from the manifest's template to its last words."""
import json
import os
import subprocess
import time

from container_spec import Volumes, filled, oci_config

MESSAGE_BYTES_MAX = 4096


class Pod:
    made = 0  # in this process

    def __init__(self, node, template, name, hostname, number, index=None, labels=None, variables=None):
        """`number`: of the machine that it is on, which has no other pod. `labels`, `variables`: what whoever made it adds to the template's."""
        self.node, self.name, self.hostname, self.index = node, name, hostname, index
        self.machine = f"machine-{number}"
        self.address = f"10.89.{number // 250}.{number % 250 + 2}"
        self.spec = template["spec"]
        self.container = self.spec["containers"][0]
        self.labels = {**template["metadata"]["labels"], **(labels or {}), **node.labels_copied(number)}
        self.added = variables or {}
        self.folder = os.path.join(node.folder, name)
        Pod.made += 1
        self.id = f"muster-{os.getpid()}-{Pod.made}"  # never one of an earlier node's, whose cgroups may still end
        self.volumes = Volumes(self, os.path.join(self.folder, "volumes"))
        self.exit_code = None       # of the pod
        self.restarts = 0           # of its container, in place
        self.exit_codes = []        # of its container
        self.deleted_at = None      # monotonic
        self.lost = False           # with its machine
        self.holder = self.process = None

    # --- What the manifest says ---

    def variables(self):
        values = {"PATH": "/usr/local/bin:/usr/bin", "HOSTNAME": self.hostname, **self.node.service_variables(), **self.added}
        fields = {"metadata.name": self.name, "metadata.namespace": "default", "spec.nodeName": self.machine, "status.podIP": self.address}
        for label, value in self.labels.items():
            fields[f"metadata.labels['{label}']"] = value
        for one in self.container.get("env", []):
            values[one["name"]] = fields[one["valueFrom"]["fieldRef"]["fieldPath"]] if "valueFrom" in one else filled(one["value"], values)
        return values

    def files(self):
        return {"/etc/hosts": self.hosts_file, "/etc/hostname": self.write("hostname", self.hostname + "\n"),
                "/etc/resolv.conf": self.write("resolv.conf", ""),
                self.container.get("terminationMessagePath", "/dev/termination-log"): self.write("message", "", 0o666)}

    @property
    def hosts_file(self):
        return os.path.join(self.folder, "hosts")

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    @property
    def grace(self):
        return self.spec.get("terminationGracePeriodSeconds", 30)

    def restarts_in_place(self, code):
        """Whether the kubelet runs the container again: its own rules (KEP-5307) go before the pod's policy. Without its back-off."""
        if self.lost or self.deleted_at is not None:
            return False
        for rule in self.container.get("restartPolicyRules", []):
            if (code in rule["exitCodes"]["values"]) == (rule["exitCodes"]["operator"] == "In"):
                return rule["action"] == "Restart"
        policy = self.container.get("restartPolicy", self.spec["restartPolicy"])
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    # --- Its life ---

    def start(self):
        os.makedirs(os.path.join(self.folder, "volumes"))
        os.chmod(self.folder, 0o755)
        self.write("hosts", "")
        self.node.connect(self)
        self.run_container()

    @property
    def container_id(self):
        return f"{self.id}-{self.restarts}"

    def run_container(self):
        place = os.path.join(self.folder, f"container-{self.restarts}")
        for folder in ("root", "upper", "work"):
            os.makedirs(os.path.join(place, folder))
        subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={self.node.image},upperdir={place}/upper,workdir={place}/work", "overlay",
                        f"{place}/root"], check=True)
        with open(os.path.join(place, "config.json"), "w", encoding="utf-8") as file:
            json.dump(oci_config(self, f"{place}/root", f"/muster-test/{self.container_id}"), file)
        self.node.tell_names()
        with open(os.path.join(self.folder, "stdout"), "ab") as out, open(os.path.join(self.folder, "stderr"), "ab") as err:
            self.process = subprocess.Popen(["runc", "--root", self.node.runc_root, "run", "--bundle", place, self.container_id],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def runc(self, *words):
        return subprocess.run(["runc", "--root", self.node.runc_root, *words], capture_output=True, text=True)

    def execute(self, *words):
        """As `kubectl exec` does it: in the container, with its user and variables."""
        variables = [word for name, value in self.variables().items() for word in ("--env", f"{name}={value}")]
        return self.runc("exec", *variables, self.container_id, *words)

    def signal(self, name):
        """To the first process, as a container runtime does."""
        return self.runc("kill", self.container_id, name).returncode == 0

    def kill(self):
        """The container's first process is killed, and all others with it."""
        self.signal("KILL")

    def lose(self):
        """Its machine has lost its power: nobody starts anything again there."""
        self.lost = True
        self.kill()

    def delete(self):
        """What deleting or draining does: SIGTERM, and SIGKILL at the end of the grace period. `poll` has to be called meanwhile."""
        if self.deleted_at is None:
            self.deleted_at = time.monotonic()
            self.signal("TERM")

    def poll(self):
        """Does what a kubelet does; the pod's exit code, or None."""
        if self.exit_code is not None or self.process is None:
            return self.exit_code
        code = self.process.poll()
        if code is None:
            if self.deleted_at is not None and time.monotonic() > self.deleted_at + self.grace:
                self.kill()
            return None
        code = code if code >= 0 else 128 - code
        self.exit_codes.append(code)
        self.runc("delete", "--force", self.container_id)
        if self.restarts_in_place(code):
            self.restarts += 1
            self.run_container()
            return None
        self.exit_code = code
        self.release()
        return self.exit_code

    def release(self):
        self.runc("delete", "--force", self.container_id)
        if self.holder is not None and self.holder.poll() is None:
            self.holder.kill()
            self.holder.wait()

    def close(self):
        if self.exit_code is None and self.process is not None:
            self.runc("delete", "--force", self.container_id)
            self.process.kill()
            self.process.wait()
        self.release()
        if self.holder is not None:
            self.holder.stdin.close()

    # --- What is seen of it ---

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
        done = self.runc("ps", "--format", "json", self.container_id)
        return json.loads(done.stdout) or [] if done.returncode == 0 else []

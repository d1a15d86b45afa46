"""What the controllers of Kubernetes, JobSet, Kubeflow Trainer and the MPI Operator make of an object: pods, and others in their place.

Each has start(), turn(), jobs() (those it has now, by name), pods (all there ever were), succeeded and failed. What they do follows the
descriptions in the objects' own schemas, as far as a manifest of ours can tell.
"""
import copy
import uuid

from pod import Pod


class Job:
    """batch/v1 Job: a pod an index, replaced when it has failed, by the rules of podFailurePolicy and the limits beside it."""

    def __init__(self, node, document, labels=None):
        """`labels`: what another controller adds to its pods."""
        self.node, self.document = node, document
        self.name, self.spec = document["metadata"]["name"], document["spec"]
        self.labels = {**(labels or {}), "batch.kubernetes.io/job-name": self.name, "batch.kubernetes.io/controller-uid": str(uuid.uuid4())}
        self.is_indexed = self.spec.get("completionMode") == "Indexed"
        self.pods = []  # all there ever were
        self.failed = self.succeeded = False
        self.reason = ""  # of the failure
        self.failures = 0
        self.failures_of = {}  # by index
        self.is_started = False

    def jobs(self):
        return {self.name: self}

    def create(self, index):
        number = self.node.next_number()
        stem = self.name if index is None else f"{self.name}-{index}"
        name = f"{stem}-{number:05x}"
        labels, variables = dict(self.labels), {}
        if index is not None:
            labels["batch.kubernetes.io/job-completion-index"] = variables["JOB_COMPLETION_INDEX"] = str(index)
        # An Indexed Job's pods are called after their index in the network, others after themselves.
        pod = Pod(self.node, self.spec["template"], name, name if index is None else stem, number, index, labels, variables)
        self.pods.append(pod)
        pod.start()
        return pod

    def start(self):
        self.is_started = True
        for index in range(self.spec["completions"]) if self.is_indexed else [None]:
            self.create(index)

    def live(self, index=None):
        """The newest pod of an index that has not ended."""
        return next((pod for pod in reversed(self.pods) if pod.index == index and pod.exit_code is None), None)

    def action(self, pod):
        for rule in self.spec.get("podFailurePolicy", {}).get("rules", []):
            if "onPodConditions" in rule and pod.deleted_at is not None:
                return rule["action"]
            codes = rule.get("onExitCodes")
            if codes and (pod.exit_code in codes["values"]) == (codes["operator"] == "In"):
                return rule["action"]
        return "Count"

    def fail(self, reason):
        self.failed, self.reason = True, reason
        for pod in self.pods:
            if pod.exit_code is None:
                pod.delete()

    def count(self, pod):
        self.failures += 1
        per_index = self.spec.get("backoffLimitPerIndex")
        if per_index is None:
            if self.failures > self.spec.get("backoffLimit", 6):
                self.fail("BackoffLimitExceeded")
            return
        self.failures_of[pod.index] = self.failures_of.get(pod.index, 0) + 1
        if len([one for one in self.failures_of.values() if one > per_index]) > self.spec.get("maxFailedIndexes", self.spec["completions"]):
            self.fail("MaxFailedIndexesExceeded")

    def is_over(self, index):
        return self.failed or self.succeeded or self.node.closing or self.failures_of.get(index, 0) > self.spec.get("backoffLimitPerIndex", 1 << 30)

    def turn(self):
        for pod in list(self.pods):
            if pod.exit_code is not None or pod.poll() is None:
                continue
            self.node.tell_names()
            if pod.exit_code == 0:
                rules = self.spec.get("successPolicy", {}).get("rules", [])
                done = [one for one in self.pods if one.exit_code == 0]
                enough = rules[0]["succeededCount"] if rules else self.spec.get("completions", 1)
                self.succeeded = self.succeeded or (not self.failed and len(done) >= enough)
                continue
            action = self.action(pod)
            if action == "FailJob":
                self.fail("PodFailurePolicy")
            elif action == "Count":
                self.count(pod)
            if not self.is_over(pod.index) and self.live(pod.index) is None:
                self.create(pod.index)

    def delete(self):
        """With its pods; True when nothing is left of them."""
        self.failed = True  # nothing is made anew
        for pod in self.pods:
            if pod.exit_code is None:
                pod.delete()
        return all(pod.exit_code is not None for pod in self.pods)


class JobSet:
    """jobset.x-k8s.io/v1alpha2: Jobs <set>-<replicated job>-<number>, started, ended and begun anew as one."""

    def __init__(self, node, document):
        self.node, self.spec, self.name = node, document["spec"], document["metadata"]["name"]
        self.failed = self.succeeded = False
        self.restarts = 0
        self.gone = []  # Jobs of earlier attempts
        network = self.spec["network"]
        self.subdomain = network.get("subdomain", self.name)
        if network.get("enableDNSHostnames"):
            node.objects[("Service", self.subdomain)] = {"kind": "Service", "metadata": {"name": self.subdomain},
                                                        "spec": {"clusterIP": "None", "selector": {"jobset.sigs.k8s.io/jobset-name": self.name}}}
        self.made = self.make()

    def endpoint(self):
        """<pod hostname>.<headless service>"""
        said = self.spec.get("coordinator")
        return said and f"{self.name}-{said['replicatedJob']}-{said['jobIndex']}-{said['podIndex']}.{self.subdomain}"

    def make(self):
        made = {}
        for replicated in self.spec["replicatedJobs"]:
            for number in range(replicated["replicas"]):
                name = f"{self.name}-{replicated['name']}-{number}"
                document = copy.deepcopy(replicated["template"])
                document["metadata"] = {**document.get("metadata", {}), "name": name}
                document["spec"]["template"]["spec"]["subdomain"] = self.subdomain
                labels = {"jobset.sigs.k8s.io/jobset-name": self.name, "jobset.sigs.k8s.io/replicatedjob-name": replicated["name"],
                          "jobset.sigs.k8s.io/job-index": str(number), "jobset.sigs.k8s.io/restart-attempt": str(self.restarts)}
                if self.endpoint():
                    labels["jobset.sigs.k8s.io/coordinator"] = self.endpoint()
                made[name] = Job(self.node, document, labels)
                made[name].replicated = replicated["name"]
        return made

    def jobs(self):
        return self.made

    @property
    def pods(self):
        return [pod for job in [*self.gone, *self.made.values()] for pod in job.pods]

    def start(self):
        for job in self.made.values():
            if not job.is_started:
                job.start()

    def action(self, job):
        for rule in self.spec.get("failurePolicy", {}).get("rules", []):
            targets, reasons = rule.get("targetReplicatedJobs") or [job.replicated], rule.get("onJobFailureReasons") or [job.reason]
            if job.replicated in targets and job.reason in reasons:
                return rule["action"]
        return "RestartJobSet"

    def restart(self):
        if self.restarts >= self.spec.get("failurePolicy", {}).get("maxRestarts", 0):
            self.failed = True
            return
        self.restarts += 1
        for job in self.made.values():
            job.delete()
        self.gone += self.made.values()
        self.made = self.make()

    def turn(self):
        for job in [*self.gone, *self.made.values()]:
            job.turn()
        if self.failed or self.succeeded:
            return
        said = self.spec.get("successPolicy", {"operator": "All"})
        targets = [job for job in self.made.values() if job.replicated in (said.get("targetReplicatedJobs") or [job.replicated])]
        if (all if said["operator"] == "All" else any)(job.succeeded for job in targets):
            self.succeeded = True
        elif (failed := next((job for job in self.made.values() if job.failed), None)) is not None:
            if self.action(failed) == "FailJobSet":
                self.failed = True
            else:
                self.restart()
        elif self.gone and all(job.delete() for job in self.gone) and not self.node.closing:
            self.start()
        if self.failed or self.succeeded:  # what still runs is ended
            for job in self.made.values():
                job.delete()


def job_set_of(train_job, runtime):
    """What Kubeflow Trainer (trainer.kubeflow.org/v1alpha1) makes of a TrainJob and the runtime that it names: a JobSet of its name."""
    spec, trainer = copy.deepcopy(runtime["spec"]["template"]["spec"]), train_job["spec"].get("trainer", {})
    nodes = trainer.get("numNodes", runtime["spec"].get("mlPolicy", {}).get("numNodes", 1))
    for replicated in spec["replicatedJobs"]:
        labels = replicated["template"].get("metadata", {}).get("labels", {})
        if labels.get("trainer.kubeflow.org/trainjob-ancestor-step") != "trainer":
            continue
        job = replicated["template"]["spec"]
        job["parallelism"] = job["completions"] = nodes
        container = next(one for one in job["template"]["spec"]["containers"] if one["name"] == "node")
        container.update({name: trainer[name] for name in ("image", "command", "args") if name in trainer})
    return {"kind": "JobSet", "metadata": {"name": train_job["metadata"]["name"]}, "spec": spec}


class MpiJob:
    """kubeflow.org/v2beta1 MPIJob: a Job of one launcher, and workers that are pods of their own, <name>-worker-<number>."""

    def __init__(self, node, document):
        self.node, self.spec, self.name = node, document["spec"], document["metadata"]["name"]
        self.failed = self.succeeded = False
        self.workers = []  # all there ever were
        replicas = self.spec["mpiReplicaSpecs"]
        self.replicas = replicas["Worker"]["replicas"]
        hosts = "".join(f"{self.name}-worker-{i}.{self.name} slots={self.spec['slotsPerWorker']}\n" for i in range(self.replicas))
        node.objects[("ConfigMap", self.name + "-config")] = {"data": {"hostfile": hosts, "discover_hosts.sh": "#!/bin/sh\n" + hosts}}
        node.objects[("Secret", self.name + "-ssh")] = {"stringData": {"ssh-privatekey": "none", "ssh-publickey": "none"}}
        node.objects[("Service", self.name)] = {"kind": "Service", "metadata": {"name": self.name},
                                               "spec": {"clusterIP": "None", "selector": {"training.kubeflow.org/job-name": self.name}}}
        launcher = self.template(replicas["Launcher"])
        container = launcher["spec"]["containers"][0]
        launcher["spec"]["volumes"].append({"name": "mpi-job-config", "configMap": {"name": self.name + "-config"}})
        container["volumeMounts"].append({"name": "mpi-job-config", "mountPath": "/etc/mpi"})
        container["env"] += [{"name": "OMPI_MCA_orte_keep_fqdn_hostnames", "value": "true"},
                             {"name": "OMPI_MCA_orte_default_hostfile", "value": "/etc/mpi/hostfile"},
                             {"name": "OMPI_MCA_plm_rsh_args", "value": "-o ConnectionAttempts=10"}]
        self.launcher = Job(node, {"metadata": {"name": self.name + "-launcher"},
                                   "spec": {"template": launcher, "backoffLimit": self.spec["runPolicy"].get("backoffLimit", 6)}},
                            self.labels("launcher"))
        self.worker = self.template(replicas["Worker"])

    def labels(self, role):
        return {"training.kubeflow.org/job-name": self.name, "training.kubeflow.org/job-role": role}

    def template(self, replica):
        """The replica's restartPolicy goes before the template's, and everybody gets the ssh key."""
        template = copy.deepcopy(replica["template"])
        template["spec"]["restartPolicy"] = replica.get("restartPolicy", "Never")
        template["spec"]["volumes"].append({"name": "ssh-auth", "secret": {"secretName": self.name + "-ssh"}})
        template["spec"]["containers"][0]["volumeMounts"].append({"name": "ssh-auth", "mountPath": self.spec.get("sshAuthMountPath", "/root/.ssh")})
        return template

    def jobs(self):
        return {self.launcher.name: self.launcher}

    @property
    def pods(self):
        return [*self.launcher.pods, *self.workers]

    def start(self):
        for index in range(self.replicas):
            self.create(index)
        self.launcher.start()

    def create(self, index):
        name = f"{self.name}-worker-{index}"
        labels = {**self.labels("worker"), "training.kubeflow.org/replica-index": str(index)}
        template = copy.deepcopy(self.worker)
        template["spec"]["subdomain"] = self.name
        attempt = len([pod for pod in self.workers if pod.index == index])
        pod = Pod(self.node, template, name, name, self.node.next_number(), index, labels)
        pod.folder += f".{attempt}" if attempt else ""  # here alone: the name is the same
        pod.volumes.folder = pod.folder + "/volumes"
        self.workers.append(pod)
        pod.start()

    def live(self, index):
        return next((pod for pod in reversed(self.workers) if pod.index == index and pod.exit_code is None), None)

    def turn(self):
        self.launcher.turn()
        for pod in list(self.workers):
            if pod.exit_code is None and pod.poll() is not None:
                self.node.tell_names()
                # A worker that has ended by itself stays as it is; one whose machine is gone is made anew.
                if pod.lost and not (self.succeeded or self.failed or self.node.closing):
                    self.create(pod.index)
        self.succeeded, self.failed = self.launcher.succeeded, self.launcher.failed
        if (self.succeeded or self.failed) and self.spec["runPolicy"].get("cleanPodPolicy", "Running") == "Running":
            for pod in self.workers:
                if pod.exit_code is None:
                    pod.delete()


def controllers_of(node, documents):
    """Of the objects that make pods, in their order."""
    made = []
    for document in documents:
        if document["kind"] == "Job":
            made.append(Job(node, document))
        elif document["kind"] == "JobSet":
            made.append(JobSet(node, document))
        elif document["kind"] == "TrainJob":
            reference = document["spec"]["runtimeRef"]
            made.append(JobSet(node, job_set_of(document, node.objects[(reference["kind"], reference["name"])])))
        elif document["kind"] == "MPIJob":
            made.append(MpiJob(node, document))
    return made

"""Mistakes that people make in manifests, each a change of documents that were right. Knows nothing of how they are found: what each is
should be called stands beside it.

A mistake is (name, which documents it wants, function(documents, random), rules of which one must be found).
"""


def walk(value):
    yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(member)


def of_kind(documents, *kinds):
    return [one for one in documents if one["kind"] in kinds]


def job_specs(documents):
    return [one for one in walk(documents) if isinstance(one, dict) and "completionMode" in one and "template" in one]


def pod_specs(documents):
    return [one for one in walk(documents) if isinstance(one, dict) and "containers" in one]


def templates(documents):
    return [one for one in walk(documents) if isinstance(one, dict) and "containers" in one.get("spec", {}) and "labels" in one.get("metadata", {})]


def containers(documents):
    return [one for spec in pod_specs(documents) for one in spec["containers"]]


def agents(documents):
    return [spec for spec in pod_specs(documents) if spec["containers"][0]["args"][0] == "agent"]


def agent_jobs(documents):
    return [spec for spec in job_specs(documents) if spec["template"]["spec"] in agents(documents)]


def any_of(choose, change):
    return lambda documents, random: change(random.choice(choose(documents)), random)


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(target, _):
        for name in path:
            target = target[name] if isinstance(name, int) else target.setdefault(name, {})
        target[last] = value
    return change


def drop(*path):
    def change(target, _):
        for name in path[:-1]:
            target = target[name]
        del target[path[-1]]
    return change


def misspelt(target, random):
    """A field of any object, at any depth, with two letters changed over."""
    places = [(one, name) for one in walk(target) if isinstance(one, dict) for name in one
              if name in ("spec", "template", "containers", "completions", "parallelism", "resources", "securityContext", "restartPolicy",
                          "volumeMounts", "fieldRef", "emptyDir", "subdomain", "clusterIP", "minAvailable", "podSelector", "image", "rules")]
    place, name = random.choice(places)
    at = random.randrange(1, len(name) - 1)
    wrong = name[:at] + name[at + 1] + name[at] + name[at + 2:]
    if wrong == name:
        wrong = name + "s"
    place[wrong] = place.pop(name)


def of_wrong_type(target, random):
    places = [(one, name) for one in walk(target) if isinstance(one, dict) for name in one
              if (isinstance(one[name], (int, bool)) and name != "minAvailable") or name in ("containers", "args", "labels")]
    place, name = random.choice(places)
    old = place[name]
    place[name] = {bool: "maybe", int: "many", list: "one", dict: ["a"]}[type(old)]


def misplaced(target, random):
    """A field of the pod in the container, or of the Job in the pod."""
    spec = random.choice(job_specs(target))
    pod = spec["template"]["spec"]
    if random.random() < 0.5:
        pod["containers"][0]["terminationGracePeriodSeconds"] = pod.pop("terminationGracePeriodSeconds")
    else:
        pod["completions"] = spec["completions"]


def second_container(pod, _):
    pod["containers"].append({**pod["containers"][0], "name": "proxy", "ports": []})


def sorted_wrong(spec, random):
    rules = [one for one in spec["podFailurePolicy"]["rules"] if "onExitCodes" in one]
    values = random.choice(rules)["onExitCodes"]["values"]
    values.reverse()


def zero_in(spec, _):
    spec["podFailurePolicy"]["rules"].append({"action": "Count", "onExitCodes": {"operator": "In", "values": [0, 3]}})


def many_rules(spec, _):
    for code in range(1, 25):
        spec["podFailurePolicy"]["rules"].append({"action": "Count", "onExitCodes": {"operator": "In", "values": [code]}})


def no_disruption(spec, random):
    rules = spec["podFailurePolicy"]["rules"]
    random.choice([lambda: rules.pop(0), rules.reverse])()


def other_container(spec, _):
    for rule in spec["podFailurePolicy"]["rules"]:
        if "onExitCodes" in rule:
            rule["onExitCodes"]["containerName"] = "main"


def long_name(documents, random):
    target = random.choice(of_kind(documents, "Job", "JobSet"))
    target["metadata"]["name"] = "a" * random.randrange(62, 200)


def memory_volume(pod, _):
    pod["volumes"].append({"name": "fast", "emptyDir": {"medium": "Memory"}})


def memory_volume_too_large(pod, _):
    pod["volumes"].append({"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "900Ti"}})
    pod["containers"][0]["volumeMounts"].append({"name": "fast", "mountPath": "/fast"})


def mount_nothing(pod, _):
    pod["containers"][0]["volumeMounts"].append({"name": "nowhere", "mountPath": "/nowhere"})


def mount_twice(pod, _):
    pod["containers"][0]["volumeMounts"].append({"name": "tmp", "mountPath": pod["containers"][0]["volumeMounts"][0]["mountPath"]})


def add_env(name, value):
    return lambda container, _: container["env"].append({"name": name, "value": value})


def add_volume(source):
    return lambda pod, _: pod["volumes"].append({"name": "extra", **source})


def shell(container, _):
    container["command"] = ["/bin/bash", "-c", "cd /work; python3 train.py"]
    del container["args"]


def gpu_twice(container, random):
    container["resources"].setdefault("requests", {})["nvidia.com/gpu"] = "1"
    container["resources"].setdefault("limits", {})["nvidia.com/gpu"] = random.choice(["2", "0.5"])


def other_labels(template, _):
    template["metadata"]["labels"] = {"app": "other"}


def elsewhere(documents, random):
    random.choice(of_kind(documents, "Service", "PodDisruptionBudget"))["spec"]["selector"] = {"app": "nobody"}
    for budget in of_kind(documents, "PodDisruptionBudget"):
        if budget["spec"]["selector"] == {"app": "nobody"}:
            budget["spec"]["selector"] = {"matchLabels": {"app": "nobody"}}


def drop_service(documents, _):
    documents[:] = [one for one in documents if not (one["kind"] == "Service" and one["metadata"]["name"] == "words")]


def blocks(policy, random):
    policy["spec"]["ingress"] = random.choice([[], [{"from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]}]])


def blocks_dns(policy, _):
    policy["spec"]["policyTypes"].append("Egress")
    policy["spec"]["egress"] = [{"to": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 4242}]}]


def injected(template, random):
    labels = template["metadata"]["labels"]
    kind = random.randrange(3)
    if kind == 0:
        labels["sidecar.istio.io/inject"] = "true"
    elif kind == 1:
        labels.pop("sidecar.istio.io/inject", None)
        labels["istio.io/dataplane-mode"] = "ambient"
    else:
        labels.pop("sidecar.istio.io/inject", None)
        labels.pop("istio.io/dataplane-mode", None)
        template["metadata"].setdefault("annotations", {})["linkerd.io/inject"] = "enabled"


def injecting_namespace(documents, _):
    for template in templates(documents):
        for name in ("sidecar.istio.io/inject", "istio.io/dataplane-mode"):
            template["metadata"]["labels"].pop(name, None)
    documents.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "train", "labels": {"istio-injection": "enabled"}}})


def depends_on_later(jobset, _):
    jobset["spec"]["replicatedJobs"][0]["dependsOn"] = [{"name": jobset["spec"]["replicatedJobs"][1]["name"], "status": "Ready"}]


def startup_too(jobset, _):
    jobset["spec"]["replicatedJobs"][1]["dependsOn"] = [{"name": jobset["spec"]["replicatedJobs"][0]["name"], "status": "Ready"}]
    jobset["spec"]["startupPolicy"] = {"startupPolicyOrder": "InOrder"}


def two_topologies(template, _):
    template["metadata"].setdefault("annotations", {}).update(
        {"kueue.x-k8s.io/podset-required-topology": "rack", "kueue.x-k8s.io/podset-preferred-topology": "block"})


def partial(job, _):
    job["metadata"].setdefault("annotations", {})["kueue.x-k8s.io/job-min-parallelism"] = "2"


def elastic(job, _):
    job["metadata"].setdefault("annotations", {})["kueue.x-k8s.io/elastic-job"] = "true"


def sshd(job, random):
    container = job["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    if random.random() < 0.5:
        container["command"], container["args"] = ["/usr/sbin/sshd"], ["-De"]
    else:
        del container["command"], container["args"]


def one_node_claim(claim, _):
    claim["spec"]["accessModes"] = ["ReadWriteOnce"]


def annotated(documents):
    return [one for one in of_kind(documents, "Job") if "annotations" in one["spec"]["template"]["metadata"]]


JOB, JOBSET, TRAIN, MPI = "job", "jobset", "trainjob", "mpijob"
ANY = (JOB, JOBSET, TRAIN, MPI)
SETS = (JOB, JOBSET, TRAIN)
MISTAKES = [
    ("a field misspelt", ANY, lambda documents, random: misspelt(documents, random), {"unknown-field"}),
    ("a field at another level", SETS, misplaced, {"unknown-field"}),
    ("a value of another type", ANY, lambda documents, random: of_wrong_type([d for d in documents], random), {"wrong-type"}),
    ("a port as a text", ANY, any_of(lambda d: [c for c in containers(d) if "ports" in c], put("ports", 0, "containerPort", "4242")), {"wrong-type"}),
    ("a word that is none", ANY, any_of(containers, put("terminationMessagePolicy", "FallbackToLogs")), {"wrong-word"}),
    ("GiB", ANY, any_of(containers, put("resources", "limits", "memory", "8GiB")), {"bad-quantity"}),
    ("no name for a container", ANY, any_of(containers, drop("name")), {"missing-field"}),
    ("no template", (JOB,), any_of(lambda d: of_kind(d, "Job"), drop("spec", "template")), {"missing-field"}),
    ("no kind", ANY, any_of(lambda d: d, lambda one, random: one.pop(random.choice(["kind", "apiVersion"]))), {"no-kind"}),
    ("a capital in a name", ANY, any_of(lambda d: of_kind(d, "Service", "Job", "JobSet", "TrainJob", "MPIJob"), put("metadata", "name", "Words")), {"bad-name"}),
    ("a name that is too long", (JOB, JOBSET), long_name, {"name-too-long"}),
    ("a label with a blank", ANY, any_of(templates, put("metadata", "labels", "team", "deep learning")), {"bad-label"}),
    ("two volumes of one name", ANY, any_of(pod_specs, lambda pod, _: pod["volumes"].append({"name": "tmp", "emptyDir": {}})), {"duplicate-name"}),
    ("a long port name", ANY, any_of(lambda d: [c for c in containers(d) if "ports" in c], put("ports", 0, "name", "muster-coordinator")), {"bad-port-name"}),
    ("restartPolicy Always", SETS, any_of(job_specs, put("template", "spec", "restartPolicy", "Always")), {"job-restart-policy"}),
    ("no restartPolicy", SETS, any_of(job_specs, drop("template", "spec", "restartPolicy")), {"job-restart-policy"}),
    ("OnFailure with a policy", SETS, any_of(job_specs, put("template", "spec", "restartPolicy", "OnFailure")), {"policy-needs-never"}),
    ("replaced while ending", SETS, any_of(job_specs, put("podReplacementPolicy", "TerminatingOrFailed")), {"replacement-with-policy"}),
    ("replacement left open", SETS, any_of(job_specs, lambda spec, _: (spec.pop("podReplacementPolicy"), spec.pop("podFailurePolicy"))), {"two-of-an-index"}),
    ("a drain counts", SETS, any_of(job_specs, no_disruption), {"disruption-counts"}),
    ("FailIndex alone", SETS, any_of(job_specs, lambda spec, _: (spec.pop("backoffLimitPerIndex", 0), spec.pop("maxFailedIndexes", 0), spec["podFailurePolicy"]["rules"].append(
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3]}}))), {"fail-index-needs-limit"}),
    ("no index", SETS, any_of(agent_jobs, put("completionMode", "NonIndexed")), {"needs-indexed"}),
    ("failed indexes without a limit", SETS, any_of(agent_jobs, drop("backoffLimitPerIndex")), {"max-failed-needs-limit"}),
    ("in waves", SETS, any_of(agent_jobs, put("parallelism", 1)), {"runs-in-waves"}),
    ("the default backoff", SETS, any_of(agent_jobs, lambda spec, _: (spec.pop("backoffLimitPerIndex"), spec.pop("maxFailedIndexes"))), {"default-backoff"}),
    ("exit codes in disorder", SETS, any_of(job_specs, sorted_wrong), {"bad-exit-codes"}),
    ("exit code 0 fails", SETS, any_of(job_specs, zero_in), {"bad-exit-codes"}),
    ("rules without end", SETS, any_of(job_specs, many_rules), {"too-many-rules"}),
    ("another container's code", SETS, any_of(job_specs, other_container), {"unknown-container"}),
    ("success of no index", SETS, any_of(job_specs, put("successPolicy", {"rules": [{"succeededIndexes": "0,99"}]})), {"bad-success-index"}),
    ("the pod's deadline", SETS, any_of(job_specs, put("template", "spec", "activeDeadlineSeconds", 3600)), {"pod-deadline"}),
    ("a selector of one's own", SETS, any_of(job_specs, lambda spec, _: spec.update(manualSelector=True, selector={"matchLabels": {"app": "words"}})), {"manual-selector"}),
    ("gone at once", SETS, any_of(job_specs, put("ttlSecondsAfterFinished", 0)), {"gone-at-once"}),
    ("no grace", ANY, any_of(pod_specs, lambda pod, random: random.choice([lambda: pod.pop("terminationGracePeriodSeconds"), lambda: pod.update(
        terminationGracePeriodSeconds=random.choice([0, 5, 30]))])()), {"no-grace"}),
    ("preStop takes it all", ANY, any_of(containers, put("lifecycle", {"preStop": {"sleep": {"seconds": 110}}})), {"prestop-eats-grace"}),
    ("a liveness probe", ANY, any_of(containers, put("livenessProbe", {"tcpSocket": {"port": 4242}})), {"liveness-kills-ranks"}),
    ("a second container", ANY, any_of(pod_specs, second_container), {"sidecar-never-ends"}),
    ("a shell", ANY, any_of(containers, shell), {"shell-swallows-sigterm"}),
    ("no resources", ANY, any_of(containers, drop("resources")), {"no-resources"}),
    ("half of the limit", ANY, any_of(containers, put("resources", "requests", "memory", "1Mi")), {"requests-differ"}),
    ("half a GPU", ANY, any_of(containers, gpu_twice), {"device-request"}),
    ("memory without end", ANY, any_of(pod_specs, memory_volume), {"memory-volume-unbounded"}),
    ("more memory than there is", ANY, any_of(pod_specs, memory_volume_too_large), {"memory-volume-too-large"}),
    ("a volume that is not there", ANY, any_of(pod_specs, mount_nothing), {"unknown-volume"}),
    ("two volumes at a path", ANY, any_of(pod_specs, mount_twice), {"mount-twice"}),
    ("a claim that is not there", ANY, any_of(containers, put("resources", "claims", [{"name": "gpus"}])), {"unknown-claim"}),
    ("latest", ANY, any_of(containers, lambda c, random: c.update(image=random.choice(["words", "words:latest", "registry:5000/words"]))), {"moving-image"}),
    ("a password", ANY, any_of(containers, add_env("S3_SECRET_KEY", "hunter2")), {"secret-in-env"}),
    ("no last words", ANY, any_of(containers, drop("terminationMessagePolicy")), {"no-last-words"}),
    ("a variable that is not there", ANY, any_of(containers, lambda c, _: c["args"].append("$(NODE_RANK)")), {"undefined-variable"}),
    ("the host's network", ANY, any_of(pod_specs, put("hostNetwork", True)), {"pss-host-namespaces"}),
    ("the host's network without DNS", ANY, any_of(pod_specs, put("hostNetwork", True)), {"host-network-dns"}),
    ("the host's IPC", ANY, any_of(pod_specs, put("hostIPC", True)), {"pss-host-namespaces"}),
    ("privileged", ANY, any_of(containers, put("securityContext", "privileged", True)), {"pss-privileged"}),
    ("a folder of the host", ANY, any_of(pod_specs, add_volume({"hostPath": {"path": "/dev/infiniband"}})), {"pss-host-path"}),
    ("a port of the host", ANY, any_of(lambda d: [c for c in containers(d) if "ports" in c], put("ports", 0, "hostPort", 4242)), {"pss-host-port"}),
    ("IPC_LOCK", ANY, any_of(containers, put("securityContext", "capabilities", "add", ["IPC_LOCK"])), {"pss-capabilities"}),
    ("nothing dropped", ANY, any_of(containers, drop("securityContext", "capabilities")), {"pss-capabilities"}),
    ("an unmasked /proc", ANY, any_of(containers, put("securityContext", "procMount", "Unmasked")), {"pss-proc-mount"}),
    ("a sysctl", ANY, any_of(pod_specs, put("securityContext", "sysctls", [{"name": "net.core.somaxconn", "value": "1024"}])), {"pss-sysctls"}),
    ("no seccomp", ANY, any_of(pod_specs, lambda pod, random: random.choice([lambda: pod["securityContext"].pop("seccompProfile"), lambda: pod["securityContext"][
        "seccompProfile"].update(type="Unconfined")])()), {"pss-seccomp"}),
    ("rights may grow", ANY, any_of(containers, drop("securityContext", "allowPrivilegeEscalation")), {"pss-escalation"}),
    ("root", ANY, any_of(pod_specs, lambda pod, random: random.choice([lambda: pod["securityContext"].update(runAsUser=0), lambda: pod["securityContext"].pop(
        "runAsNonRoot")])()), {"pss-root"}),
    ("NFS in the pod", ANY, any_of(pod_specs, add_volume({"nfs": {"server": "a", "path": "/"}})), {"pss-volume-type"}),
    ("a token", ANY, any_of(pod_specs, drop("automountServiceAccountToken")), {"token-mounted"}),
    ("a root that can be written", ANY, any_of(containers, drop("securityContext", "readOnlyRootFilesystem")), {"root-writable"}),
    ("a job of another name", (JOBSET,), any_of(lambda d: of_kind(d, "JobSet"), put("spec", "successPolicy", "targetReplicatedJobs", ["driver"])), {"unknown-job"}),
    ("waiting for a later job", (JOBSET,), any_of(lambda d: of_kind(d, "JobSet"), depends_on_later), {"depends-on-later"}),
    ("two ways to start", (JOBSET,), any_of(lambda d: of_kind(d, "JobSet"), startup_too), {"startup-and-depends"}),
    ("a coordinator beyond", (JOBSET,), any_of(lambda d: of_kind(d, "JobSet"), put("spec", "coordinator", "podIndex", 7)), {"coordinator-index"}),
    ("in place without the rest", (JOBSET, TRAIN), any_of(lambda d: [one for one in walk(d) if isinstance(one, dict) and "maxRestarts" in one],
                                                          put("restartStrategy", "InPlaceRestart")), {"in-place-restart"}),
    ("names only when ready", (JOBSET, TRAIN), any_of(lambda d: [one["network"] for one in walk(d) if isinstance(one, dict) and "network" in one],
                                                      put("publishNotReadyAddresses", False)), {"names-before-ready"}),
    ("a Service only when ready", ANY, any_of(lambda d: of_kind(d, "Service"), drop("spec", "publishNotReadyAddresses")), {"names-before-ready"}),
    ("not suspended", (JOB, JOBSET, TRAIN), any_of(lambda d: [one for one in d if one.get("spec", {}).get("suspend")], drop("spec", "suspend")), {"not-suspended"}),
    ("a smaller world", (JOB,), any_of(annotated, partial), {"partial-world"}),
    ("two topologies", ANY, any_of(templates, two_topologies), {"topology-twice"}),
    ("a topology for nobody", (JOB,), any_of(annotated, drop("metadata", "labels", "kueue.x-k8s.io/queue-name")), {"topology-without-queue"}),
    ("elastic in a rack", (JOB,), any_of(annotated, elastic), {"elastic-topology"}),
    ("no container for Trainer", (TRAIN,), any_of(agents, put("containers", 0, "name", "trainer")), {"no-trainer-node"}),
    ("two frameworks", (TRAIN,), any_of(lambda d: of_kind(d, "ClusterTrainingRuntime"), lambda one, _: one["spec"]["mlPolicy"].update(torch={}, mpi={})), {"two-policies"}),
    ("no launcher", (MPI,), any_of(lambda d: of_kind(d, "MPIJob"), drop("spec", "mpiReplicaSpecs", "Launcher")), {"no-launcher"}),
    ("sshd", (MPI,), any_of(lambda d: of_kind(d, "MPIJob"), sshd), {"sshd-in-worker"}),
    ("no Service for the subdomain", (JOB,), drop_service, {"subdomain-without-service"}),
    ("an address for the subdomain", (JOB,), any_of(lambda d: [one for one in of_kind(d, "Service") if one["metadata"]["name"] == "words"], drop("spec", "clusterIP")), {"not-headless"}),
    ("selects nobody", ANY, elsewhere, {"selects-nothing"}),
    ("a port that is not there", ANY, any_of(lambda d: [one for one in of_kind(d, "Service") if "targetPort" in one["spec"]["ports"][0]],
                                             put("spec", "ports", 0, "targetPort", "grpc")), {"unknown-target-port"}),
    ("a mesh", ANY, any_of(templates, injected), {"mesh-intercepts"}),
    ("a namespace with a mesh", (JOB, JOBSET, MPI), injecting_namespace, {"mesh-intercepts"}),
    ("peers shut out", ANY, any_of(lambda d: of_kind(d, "NetworkPolicy"), blocks), {"policy-blocks-peers"}),
    ("no DNS", ANY, any_of(lambda d: of_kind(d, "NetworkPolicy"), blocks_dns), {"policy-blocks-dns"}),
    ("a budget in percent", ANY, any_of(lambda d: of_kind(d, "PodDisruptionBudget"), put("spec", "minAvailable", "75%")), {"budget-needs-number"}),
    ("a budget of the unavailable", ANY, any_of(lambda d: of_kind(d, "PodDisruptionBudget"), lambda one, _: (one["spec"].pop("minAvailable"), one["spec"].update(maxUnavailable=1))), {"budget-needs-number"}),
    ("a claim for one node", ANY, any_of(lambda d: of_kind(d, "PersistentVolumeClaim"), one_node_claim), {"claim-on-one-node"}),
    ("an API that is gone", ANY, any_of(lambda d: of_kind(d, "PodDisruptionBudget"), put("apiVersion", "policy/v1beta1")), {"kind-gone"}),
]

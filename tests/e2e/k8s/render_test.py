"""muster k8s render: what comes out is valid to the letter, and its command lines really start the job."""
import os
import re
import shutil
import socket
import subprocess
import unittest

import strict_schema
from muster_e2e import DEADLINE, MUSTER, MusterCase

try:
    import yaml
except ImportError:
    yaml = None

APIS = ("job", "jobset", "trainjob", "mpijob")
VERSIONS = [f"1.{minor}" for minor in range(28, 38)]
PLAIN = "name: words\ncommand: [train]\nworkers: {max: 4, per_node: 2}\nkubernetes: {image: 'muster:1'}\n"
# Every field that has to do with a cluster, each once.
FULL = """
name: words
command: [train, --data, /data/words]
workers: {min: 2, max: 8, per_node: 2}
resources: {cpu: 2, memory: 4Gi, gpu: 1}
placement: {map_by: numa, rank_by: slot, bind_to: core}
env: {OMP_NUM_THREADS: "1", ODD: "a: b #c"}
checkpoint: {path: /data/words, every_steps: 100, keep: 3}
recovery: {max_restarts: 3, last_call: 90s}
kubernetes:
  image: registry.example.com/words:1
  namespace: train
  queue: research
  record: words-record
  volumes: [{claim: words-data, path: /data, size: 10Gi, class: shared}, {claim: old, path: /old}]
  grace: 2m
  deadline: 24h
  keep_finished: 1h
  retries: 5
  user: 1000
  port: 5000
  shm: 1Gi
  priority_class: high
  mesh: MESH
  join: token
  topology: {required: cloud.example.com/rack}
  node_selector: {example.com/pool: gpu}
  tolerations: [{key: nvidia.com/gpu, effect: NoSchedule}, {key: team, value: words}]
"""


class RenderCase(MusterCase):
    def job_file(self, text):
        path = os.path.join(self.folder, "job.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def render(self, text, *arguments):
        result = self.muster("k8s", "render", "-f", self.job_file(text), *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def documents(self, text, *arguments):
        return list(yaml.load_all(self.render(text, *arguments), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


@unittest.skipIf(yaml is None, "no python3-yaml")
@unittest.skipUnless(strict_schema.are_here(), f"no schemas of Kubernetes in {strict_schema.FOLDER} (MUSTER_KUBERNETES_SCHEMAS)")
class Validity(RenderCase):
    def test_every_object_is_valid_at_every_version(self):
        schemas = strict_schema.Schemas()
        without_schema, checked = set(), 0
        jobs = [PLAIN, FULL.replace("MESH", "istio"), FULL.replace("MESH", "linkerd").replace("required:", "preferred:")]
        for text in jobs:
            for api in APIS:
                for version in VERSIONS:
                    for document in self.documents(text, "--api", api, "--kubernetes", version, "--new-join-key"):
                        self.assertEqual(schemas.errors(document), [], (api, version))
                        checked += 1
                        if not schemas.schemas_of(document):
                            without_schema.add(document["kind"])
        self.assertGreater(checked, 800)
        # Nobody here has a schema of these; the fields that they may have stand in the linter's own table.
        self.assertEqual(without_schema, {"NetworkPolicy", "PodDisruptionBudget"})

    def test_the_check_would_see_a_mistake(self):
        schemas = strict_schema.Schemas()
        job = [one for one in self.documents(PLAIN) if one["kind"] == "Job"][0]
        job["spec"]["template"]["spec"]["restartPolicie"] = "Never"
        self.assertEqual(schemas.errors(job), ["Job.spec.template.spec.restartPolicie: there is no such field"])
        del job["spec"]["template"]["spec"]["restartPolicie"]
        job["spec"]["completions"] = "2"
        self.assertEqual(schemas.errors(job), ["Job.spec.completions: '2' is no integer"])


class Usage(RenderCase):
    def test_a_folder_gets_a_file_an_object(self):
        folder = os.path.join(self.folder, "out", "words")
        self.render(PLAIN, "-o", folder, "--new-join-key")
        names = sorted(os.listdir(folder))
        self.assertEqual([name[3:] for name in names],
                         ["serviceaccount-words.yaml", "secret-words-join.yaml", "service-words-coordinator.yaml", "networkpolicy-words.yaml",
                          "poddisruptionbudget-words.yaml", "service-words.yaml", "job-words-coordinator.yaml", "job-words-workers.yaml"])
        self.assertEqual(os.stat(os.path.join(folder, names[1])).st_mode & 0o077, 0, "everybody may read the key")
        again = self.muster("k8s", "render", "-f", self.job_file(PLAIN), "-o", folder, "--api", "jobset")
        self.assertEqual(again.returncode, 0)
        self.assertIn("also holds", again.stderr)

    def test_two_keys_are_never_the_same(self):
        keys = [re.search(r'key: "?([0-9a-f]{64})', self.render(PLAIN, "--new-join-key")).group(1) for _ in range(2)]
        self.assertNotEqual(*keys)

    def test_without_a_key_it_says_how_to_make_one(self):
        result = self.muster("k8s", "render", "-f", self.job_file(FULL.replace("MESH", "none")))
        self.assertIn("openssl rand -hex 32 | kubectl -n train create secret generic words-join --from-file=key=/dev/stdin", result.stderr)

    def test_what_is_wrong_is_said_with_its_place(self):
        def refused(code, text, *arguments):
            result = self.muster("k8s", "render", "-f", self.job_file(text), *arguments)
            self.assertEqual((result.returncode, result.stdout), (code, ""), result.stderr)
            return result.stderr.replace(self.folder + "/", "")
        self.assertIn("muster: job.yaml:4:14: kubernetes.imag: there is no such field; did you mean image?",
                      refused(78, PLAIN.replace("image", "imag")))
        self.assertIn("muster: job.yaml: name: is missing", refused(78, PLAIN.replace("name: words\n", "")))
        self.assertIn("env.RANK: muster itself sets it", refused(78, PLAIN + "env: {RANK: 1}\n"))
        self.assertIn("placement.map_by: ", refused(78, PLAIN + "placement: {map_by: nonsense}\n"))
        self.assertIn('--api: there is no API "jobs"', refused(64, PLAIN, "--api", "jobs"))
        self.assertIn('--kubernetes: "1.27" is no version', refused(64, PLAIN, "--kubernetes", "1.27"))
        self.assertIn("none.yaml cannot be read", self.muster("k8s", "render", "-f", "none.yaml").stderr)
        self.assertEqual(self.muster("k8s").returncode, 64)
        self.assertIn("did you mean render?", self.muster("k8s", "rendr").stderr)

    def test_files_on_the_network_go_along_or_are_refused(self):
        nodes = os.path.join(self.folder, "nodes.json")

        def rendered(text):
            with open(nodes, "w", encoding="utf-8") as file:
                file.write(text)
            result = self.muster("k8s", "render", "-f", self.job_file(PLAIN + f"topology: {{files: ['kubernetes:{nodes}']}}\n"))
            return result.returncode, result.stdout, result.stderr
        code, said, _ = rendered('{"a": {"topology.kubernetes.io/zone": "z: #1"}}')
        self.assertEqual(code, 0)
        (files,) = [one for one in yaml.safe_load_all(said) if one["kind"] == "ConfigMap"]
        self.assertEqual(files["data"], {"0-nodes.json": '{"a": {"topology.kubernetes.io/zone": "z: #1"}}'})
        self.assertIn("kubernetes:/run/muster/network/0-nodes.json", said)
        for text, what in (("{", "nodes.json:1:"), ('{"a": {"k": "' + "v" * 1_100_000 + '"}}', "a ConfigMap holds 1024000 of them")):
            code, said, why = rendered(text)
            self.assertEqual((code, said), (78, ""), why)
            self.assertIn(what, why)
        missing = self.muster("k8s", "render", "-f", self.job_file(PLAIN + "topology: {files: [none.json]}\n"))
        self.assertEqual(missing.returncode, 78)
        self.assertIn("topology.files: none.json cannot be read", missing.stderr)

    def test_a_folder_that_cannot_be_made(self):
        result = self.muster("k8s", "render", "-f", self.job_file(PLAIN), "-o", "/proc/nothing/here")
        self.assertEqual(result.returncode, 73)


@unittest.skipIf(yaml is None, "no python3-yaml")
class CommandLines(RenderCase):
    """The containers' command lines, run as processes: a pod each, addresses of loopback for theirs."""

    def pods(self, text, *arguments):
        """(args, env) of coordinator and agents, as a cluster would fill them in."""
        def find(value, found):
            if isinstance(value, dict):
                if isinstance(value.get("args"), list) and "image" in value:
                    found.append(value)
                for member in value.values():
                    find(member, found)
            elif isinstance(value, list):
                for item in value:
                    find(item, found)
        found = []
        find(self.documents(text, *arguments), found)
        by_word = {one["args"][0]: one for one in found}
        self.assertEqual(sorted(by_word), ["agent", "run"])
        return by_word["run"], by_word["agent"]

    def start_pod(self, container, variables):
        values = {**variables, **{one["name"]: one["value"] for one in container["env"] if "value" in one}}
        folders = {"/run/muster/join": self.key_folder, "/var/lib/muster": self.state, "/tmp": self.temporary}

        def filled(word):
            word = re.sub(r"(?<!\$)\$\((\w+)\)", lambda match: values[match.group(1)], word).replace("$$(", "$(")
            word = re.sub("^(" + "|".join(folders) + ")(?=/|$)", lambda match: folders[match.group(1)], word)
            return word.replace("words-coordinator:", "localhost:")
        environment = dict(self.environment)
        environment.update({name: filled(value) for name, value in values.items()})
        process = subprocess.Popen([MUSTER, *map(filled, container["args"])], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=environment)

        def end():
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.addCleanup(end)
        return process

    def run_job(self, api, program, *lines):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        text = ("name: words\ncommand: " + program + "\nworkers: {min: 4, max: 4, per_node: 2}\n"
                f"kubernetes: {{image: x, port: {port}}}\n" + "".join(lines))
        self.key_folder = os.path.join(self.folder, "key")
        os.makedirs(self.key_folder, exist_ok=True)
        with open(os.path.join(self.key_folder, "key"), "w", encoding="utf-8") as file:
            file.write("0123456789abcdef" * 4)
        run, agent = self.pods(text, "--api", api)
        index = {"mpijob": "NODE_INDEX"}.get(api, "JOB_COMPLETION_INDEX")
        # Agents first: they wait for a coordinator that is not there yet.
        agents = [self.start_pod(agent, {index: str(node), "POD_NAME": f"words-{node}", "NODE_NAME": f"machine-{node}",
                                         "POD_IP": f"127.0.0.{node + 2}"}) for node in range(2)]
        coordinator = self.start_pod(run, {})
        output, said = coordinator.communicate(timeout=DEADLINE)
        codes = [one.wait(timeout=DEADLINE) for one in agents]
        return coordinator.returncode, sorted(output.splitlines()), said, codes

    def test_each_api_starts_the_job(self):
        for api in APIS:
            code, lines, said, agents = self.run_job(api, '[sh, -c, "echo $RANK $WORLD_SIZE $GROUP_RANK $ODD"]', 'env: {ODD: "$(B) #c"}\n')
            self.assertEqual((code, agents), (0, [0, 0]), said)
            self.assertEqual(lines, ["0 4 0 $(B) #c", "1 4 0 $(B) #c", "2 4 1 $(B) #c", "3 4 1 $(B) #c"])

    def test_a_failure_names_the_pod_and_its_machine(self):
        code, _, said, agents = self.run_job("job", '[sh, -c, "test $RANK = 3 && exit 5; sleep 100"]')
        self.assertEqual((code, agents), (5, [0, 0]), said)
        self.assertIn("rank 3", said)
        self.assertIn("words-1@machine-1", said)

    def test_a_restart_goes_on_with_the_same_agents(self):
        mark = os.path.join(self.folder, "mark")
        code, lines, said, _ = self.run_job("job", f'[sh, -c, "mkdir {mark} 2>/dev/null && exit 5; echo $TORCHELASTIC_RESTART_COUNT"]',
                                            "recovery: {max_restarts: 1}\n")
        self.assertEqual(code, 0, said)
        self.assertIn("1", lines)


@unittest.skipIf(shutil.which("kubectl") is None, "no kubectl")
class Kubectl(RenderCase):
    def test_kustomize_takes_a_folder(self):
        folder = os.path.join(self.folder, "out")
        self.render(PLAIN, "-o", folder)
        with open(os.path.join(folder, "kustomization.yaml"), "w", encoding="utf-8") as file:
            file.write("resources:\n" + "".join(f"- {name}\n" for name in sorted(os.listdir(folder)) if name[0].isdigit()))
        built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertEqual(built.stdout.count("kind: Job\n"), 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)

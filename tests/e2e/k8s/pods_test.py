"""The manifests of `muster k8s render`, run: pods as restricted runc containers from the built image, which train and are disturbed."""
import hashlib
import json
import os
import sys
import unittest

import pod_node
from muster_e2e import MUSTER, read

try:
    import yaml
except ImportError:
    yaml = None

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "train"))
from train_case import TrainCase, some_words  # noqa: E402

BUILD = os.path.dirname(os.path.dirname(os.path.abspath(MUSTER)))
IMAGE = os.path.join(BUILD, "image", "root")
STEPS, EVERY = 300, 20
JOB = f"""
name: words
command: [train_words, --data, /data/words.txt, --steps, "{STEPS}", --result, /data/result.json, --resume]
workers: {{min: 2, max: 4, per_node: 2}}
resources: {{cpu: 2, memory: 256Mi}}
env: {{OMP_NUM_THREADS: "1"}}
checkpoint: {{path: /data/checkpoints, every_steps: {EVERY}, keep: 2}}
recovery: {{max_restarts: 5, last_call: 20s}}
kubernetes: {{image: 'muster:latest', grace: 20s, volumes: [{{claim: words-data, path: /data, size: 1Gi}}]}}
"""

def setUpModule():
    missing = pod_node.what_is_missing() or ("no python3-yaml" if yaml is None else "")
    if not missing and not os.path.isdir(IMAGE):
        missing = f"no image in {IMAGE} (scripts/image)"
    if missing:
        raise unittest.SkipTest(f"no pods here: {missing}")

class PodsCase(TrainCase):
    undisturbed = None

    def setUp(self):
        super().setUp()
        self.node = pod_node.Node(os.path.join(self.folder, "node"), IMAGE)
        self.addCleanup(self.node.close)
        claim = self.node.claim("words-data")
        self.result = os.path.join(claim, "result.json")
        self.checkpoints = os.path.join(claim, "checkpoints")
        with open(os.path.join(claim, "words.txt"), "w", encoding="utf-8") as file:
            file.write("".join(word + "\n" for word in some_words()))

    def apply(self, text=JOB, *arguments):
        path = os.path.join(self.folder, "job.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        rendered = self.muster("k8s", "render", "-f", path, "--new-join-key", *arguments)
        self.assertEqual(rendered.returncode, 0, rendered.stderr)
        self.node.apply(yaml.safe_load_all(rendered.stdout))
        self.coordinator, self.workers = self.node.job("words-coordinator"), self.node.job("words-workers")

    def expected(self):
        """What the same training gives on this machine without any disturbance."""
        if PodsCase.undisturbed is None:
            result = os.path.join(self.folder, "local.json")
            kept = os.path.join(self.folder, "local")
            done = self.muster("run", "-np", "4", "--checkpoint-path", kept, "--checkpoint-every", str(EVERY), "train_words", "--data", self.data,
                               "--steps", str(STEPS), "--result", result)
            self.assertEqual(done.returncode, 0, done.stderr)
            PodsCase.undisturbed = json.loads(read(result))
            PodsCase.undisturbed_data = self.checkpoint_data(kept)
        return PodsCase.undisturbed

    @staticmethod
    def checkpoint_data(folder):
        """Of the newest checkpoint: what its data files hold. Their names are never the same twice."""
        newest = os.path.join(folder, f"step-{max(int(name[5:]) for name in os.listdir(folder) if name[:5] == 'step-')}")
        return sorted(hashlib.sha256(read(os.path.join(newest, name))).hexdigest() for name in os.listdir(newest) if name.endswith(".safetensors"))

    def checkpoint_after(self, step):
        """True when a checkpoint of a later step stands."""
        try:
            names = os.listdir(self.checkpoints)
        except OSError:
            return False
        return any(int("".join(filter(str.isdigit, name)) or 0) > step for name in names)

    def wait(self, condition, what, seconds=60):
        self.assertTrue(self.node.wait(condition, seconds), f"{what}\n{self.node.story()}")

    def finish(self):
        self.wait(lambda: self.coordinator.succeeded or self.coordinator.failed, "the job does not end")
        self.assertTrue(self.coordinator.succeeded, self.node.story())
        result, local = json.loads(read(self.result)), self.expected()
        for name in ("weights_sha256", "samples_sha256"):
            self.assertEqual(result[name], local[name], name)
        return result

class Undisturbed(PodsCase):
    def test_trains_as_on_a_laptop_and_may_do_nothing_else(self):
        self.apply()
        self.node.start_jobs()
        self.wait(lambda: self.checkpoint_after(0), "no checkpoint")
        pod = self.workers.live(0)
        seen = 0
        for pid in pod.pids():
            status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status", "r").splitlines() if ":\t" in line)
            if not status:
                continue
            seen += 1
            self.assertEqual((status["CapEff"], status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]), ("0" * 16, "0" * 16, "1", "2"), status["Name"])
            self.assertEqual(status["Uid"].split(), ["65532"] * 4)
            self.assertFalse(os.path.exists(f"/proc/{pid}/root/var/run/secrets"))
        self.assertGreaterEqual(seen, 3)
        self.finish()
        self.assertEqual(self.checkpoint_data(self.checkpoints), self.undisturbed_data)
        self.assertGreaterEqual(len(self.undisturbed_data), 1)
        self.wait(lambda: all(one.exit_code == 0 for one in self.workers.pods), "agents do not end with the job")
        said = json.loads(self.coordinator.pods[0].message)
        self.assertEqual((said["exit_code"], said["workers"], said["restarts"]), (0, 4, 0))
        self.assertIn("all 4 workers ended with 0", said["sentence"])
        self.assertEqual(json.loads(pod.message), {"exit_code": 0, "sentence": "the job is over", "host": f"{pod.name}@{pod.machine}"})

    def test_a_failure_says_which_pod_of_which_machine(self):
        self.apply(JOB.replace("--resume", "--optimizer, nonsense").replace("max_restarts: 5", "max_restarts: 0").replace("min: 2", "min: 4"))
        self.node.start_jobs()
        self.wait(lambda: self.coordinator.failed or self.coordinator.succeeded, "the job does not end")
        self.assertTrue(self.coordinator.failed, self.node.story())
        self.assertEqual([pod.exit_code for pod in self.coordinator.pods], [64])
        said = json.loads(self.coordinator.pods[0].message)
        self.assertEqual(said["exit_code"], 64)
        self.assertRegex(said["sentence"], r"rank \d .*words-workers-\d-\w+@machine-\d")

    def test_a_pod_that_waits_for_its_coordinator_can_be_deleted(self):
        self.apply()
        pod = self.workers.create(0)

        def takes_sigterm():  # before it does, the first process of a container gets none
            blocked = [line.split()[1] for pid in pod.pids() for line in read(f"/proc/{pid}/status", "r").splitlines() if line.startswith("SigBlk:")]
            return any(int(one, 16) & 1 << 14 for one in blocked) and read(f"/proc/{pod.pids()[0]}/comm") == b"muster\n"
        self.wait(takes_sigterm, "muster does not start")
        pod.delete()
        self.wait(lambda: pod.exit_code is not None, "it does not end")
        self.assertEqual(pod.exit_code, 143, self.node.story())
        self.assertLess(pod.ended_at - pod.deleted_at, pod.grace / 2)
        self.assertIn("before there was a coordinator", json.loads(pod.message)["sentence"])


class Disturbed(PodsCase):
    """Something happens when a checkpoint stands; at the end the weights are those of an undisturbed run."""

    def begin(self, text=JOB):
        self.apply(text)
        self.node.start_jobs()
        self.wait(lambda: self.checkpoint_after(0), "no checkpoint")

    def newest(self):
        return json.loads(self.coordinator.pods[-1].message)

    def test_a_pod_is_killed(self):
        self.begin()
        victim = self.workers.live(1)
        victim.kill()
        self.finish()
        self.assertEqual(victim.exit_code, 137)
        self.assertEqual([pod.index for pod in self.workers.pods], [0, 1, 1])
        self.assertGreaterEqual(self.newest()["restarts"], 1)

    def test_a_pod_is_drained(self):
        self.begin()
        victim = self.workers.live(1)
        victim.delete()
        self.finish()
        self.assertEqual(victim.exit_code, 143, victim.text("stderr"))
        self.assertLess(victim.ended_at - victim.deleted_at, victim.grace)
        said = json.loads(victim.message)
        self.assertEqual(said["exit_code"], 143)
        self.assertIn("asked to end by TERM", said["sentence"])
        self.assertEqual(self.workers.failures, 0, "a drained pod counts as a failure")

    def test_two_pods_of_one_index(self):
        self.begin()
        older = self.workers.live(0)
        newer = self.workers.create(0)
        self.finish()
        self.wait(lambda: older.exit_code is not None and newer.exit_code is not None, "pods do not end with the job")
        self.assertEqual((older.exit_code, newer.exit_code), (77, 0), self.node.story())
        self.assertEqual(json.loads(older.message)["exit_code"], 77)

    def lose_coordinator(self, end, text=JOB):
        self.begin(text)
        first = self.coordinator.pods[0]
        others = [pod.id for pod in self.workers.pods]
        end(first)
        self.finish()
        self.assertEqual(len(self.coordinator.pods), 2, self.node.story())
        self.assertEqual([pod.id for pod in self.workers.pods], others, "pods of agents were made anew")

        return first

    def test_the_coordinator_is_lost_with_its_record(self):
        first = self.lose_coordinator(lambda pod: pod.kill())
        self.assertEqual(first.exit_code, 137)

    def test_the_coordinator_is_lost_and_its_record_stays(self):
        self.lose_coordinator(lambda pod: pod.kill(), JOB.replace("grace: 20s", "grace: 20s, record: words-record"))
        folder = os.path.join(self.node.claim("words-record"), "muster")
        records = {name for name in os.listdir(folder) if read(os.path.join(folder, name, "record"))}
        self.assertEqual(len(records), 2, "the record of the lost coordinator is gone")
        newest = self.newest()["job_id"]
        self.assertIn(newest, records)
        self.assertEqual(json.loads(read(os.path.join(folder, newest, "verdict.json")))["exit_code"], 0)

    def test_the_coordinator_is_drained(self):
        first = self.lose_coordinator(lambda pod: pod.delete())
        self.assertEqual(first.exit_code, 143, first.text("stderr"))
        self.assertEqual(json.loads(first.message)["exit_code"], 143)

if __name__ == "__main__":
    unittest.main(verbosity=2)

"""Jobs in pods: a manifest of `muster k8s render` on a Node, with train_words on data of a claim."""
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


def what_is_missing():
    """Why there can be no pods here; empty: there can."""
    missing = pod_node.what_is_missing() or ("no python3-yaml" if yaml is None else "")
    return missing or ("" if os.path.isdir(IMAGE) else f"no image in {IMAGE} (scripts/image)")


def skip_without_pods():
    if missing := what_is_missing():
        raise unittest.SkipTest(f"no pods here: {missing}")


def checkpoint_data(folder):
    """Of the newest checkpoint: what its data files hold. Their names are never the same twice."""
    newest = os.path.join(folder, f"step-{max(int(name[5:]) for name in os.listdir(folder) if name[:5] == 'step-')}")
    return sorted(hashlib.sha256(read(os.path.join(newest, name))).hexdigest() for name in os.listdir(newest) if name.endswith(".safetensors"))


class PodsCase(TrainCase):
    undisturbed = None

    def make_node(self, **options):
        self.node = pod_node.Node(os.path.join(self.folder, "node"), IMAGE, **options)
        self.addCleanup(self.node.close)
        claim = self.node.claim("words-data")
        self.result = os.path.join(claim, "result.json")
        self.checkpoints = os.path.join(claim, "checkpoints")
        with open(os.path.join(claim, "words.txt"), "w", encoding="utf-8") as file:
            file.write("".join(word + "\n" for word in some_words()))

    def apply(self, text=JOB, *arguments):
        """The objects go to the node as they are rendered; returns what controls the pods."""
        path = os.path.join(self.folder, "job.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        rendered = self.muster("k8s", "render", "-f", path, "--new-join-key", "--kubernetes", f"1.{self.node.version}", *arguments)
        self.assertEqual(rendered.returncode, 0, rendered.stderr)
        self.node.apply(yaml.safe_load_all(rendered.stdout))
        return self.node.controllers[-1]

    def expected(self):
        """What the same training gives on this machine without any disturbance."""
        if PodsCase.undisturbed is None:
            result = os.path.join(self.folder, "local.json")
            kept = os.path.join(self.folder, "local")
            done = self.muster("run", "-np", "4", "--checkpoint-path", kept, "--checkpoint-every", str(EVERY), "train_words", "--data", self.data,
                               "--steps", str(STEPS), "--result", result)
            self.assertEqual(done.returncode, 0, done.stderr)
            PodsCase.undisturbed = json.loads(read(result))
            PodsCase.undisturbed_data = checkpoint_data(kept)
        return PodsCase.undisturbed

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

    def verdict(self):
        """The last words of the coordinator's newest pod."""
        return json.loads(self.coordinator.pods[-1].message)


class JobCase(PodsCase):
    """Pods of batch/v1 Jobs."""

    def setUp(self):
        super().setUp()
        self.make_node()

    def apply(self, text=JOB, *arguments):
        super().apply(text, *arguments)
        self.coordinator, self.workers = self.node.job("words-coordinator"), self.node.job("words-workers")

"""One job.yaml on this machine, on hosts by ssh, in an allocation of Slurm and in pods: the same weights, the same bytes in the checkpoint."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from muster_e2e import DEADLINE, MUSTER, read

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [os.path.join(HERE, "..", room) for room in ("hosts", "slurm", "k8s", "train")]
import host_network  # noqa: E402
import pods_case  # noqa: E402
import slurm_cluster  # noqa: E402
from train_case import TrainCase  # noqa: E402

FIELDS = ("weights_sha256", "samples_sha256", "steps", "world_size")
JOB = """
name: words
command: [train_words, --data, {data}/words.txt, --steps, "60", --result, {data}/result.json]
workers: {{min: 4, max: 4, per_node: 2}}
resources: {{cpu: 2, memory: 256Mi}}
env: {{OMP_NUM_THREADS: "1"}}
checkpoint: {{path: {data}/checkpoints, every_steps: 20, keep: 2}}
recovery: {{max_restarts: 1, last_call: 20s}}
kubernetes: {{image: 'muster:latest', grace: 20s, volumes: [{{claim: words-data, path: {data}, size: 1Gi}}]}}
"""


class SameJobFile(pods_case.PodsCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.mkdtemp(prefix="e2e-same-")
        cls.addClassCleanup(shutil.rmtree, cls.place, ignore_errors=True)
        cls.here = None

    def setUp(self):
        super().setUp()
        # Where the data lie is the same path everywhere, so that the file can be the same.
        self.place_of_data = os.path.join(self.place, "data")
        shutil.rmtree(self.place_of_data, ignore_errors=True)
        os.mkdir(self.place_of_data)
        shutil.copy(self.data, self.place_of_data)
        self.file = os.path.join(self.place, "job.yaml")
        text = JOB.format(data=self.place_of_data)
        if os.path.exists(self.file):
            self.assertEqual(read(self.file, "r"), text)
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(text)

    def outcome(self, folder):
        result = json.loads(read(os.path.join(folder, "result.json")))
        return {name: result[name] for name in FIELDS}, pods_case.checkpoint_data(os.path.join(folder, "checkpoints"))

    def train_here(self):
        if SameJobFile.here is None:
            done = self.muster("run", "-f", self.file, "--nodes", "2")
            self.assertEqual(done.returncode, 0, done.stderr)
            SameJobFile.here = self.outcome(self.place_of_data)
            shutil.rmtree(os.path.join(self.place_of_data, "checkpoints"))
            os.remove(os.path.join(self.place_of_data, "result.json"))

    def same(self, folder):
        there = self.outcome(folder)
        self.assertGreaterEqual(len(there[1]), 1)
        self.assertEqual(there, self.here)

    def test_on_this_machine_again(self):
        self.train_here()
        done = self.muster("run", "-f", self.file, "--nodes", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.same(self.place_of_data)

    def test_by_ssh(self):
        self.train_here()
        try:
            network = host_network.HostNetwork(self.folder, ["node-a", "node-b"])
        except host_network.Unavailable as why:
            self.skipTest(f"no ssh hosts here: {why}")
        self.addCleanup(network.close)
        words = network.login.command("sh", "-c", 'cd "$0" && exec "$@"', self.folder, MUSTER, "run", "--ssh", network.ssh, "-f", self.file,
                                      "-H", "node-a:2,node-b:2")
        done = subprocess.run(words, capture_output=True, text=True, env=self.environment, stdin=subprocess.DEVNULL, timeout=DEADLINE)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.same(self.place_of_data)

    def test_in_an_allocation_of_slurm(self):
        if missing := slurm_cluster.what_is_missing():
            self.skipTest(f"no Slurm here: {missing}")
        self.train_here()
        folder = tempfile.mkdtemp(prefix="e2e-slurm-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        clean = {name: value for name, value in self.environment.items() if not name.startswith("SLURM")}
        cluster = slurm_cluster.Cluster(folder, clean)
        self.addCleanup(cluster.end)
        done = subprocess.run(cluster.words("salloc", "-Q", "-N2", "-n4", MUSTER, "run", "-f", self.file), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=DEADLINE, env=cluster.environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.same(self.place_of_data)

    def test_in_pods(self):
        if missing := pods_case.what_is_missing():
            self.skipTest(f"no pods here: {missing}")
        self.train_here()
        self.make_node()
        self.apply(read(self.file, "r"))
        self.coordinator = self.node.job("words-coordinator")
        self.node.start_jobs()
        self.wait(lambda: self.coordinator.succeeded or self.coordinator.failed, "the job does not end")
        self.assertTrue(self.coordinator.succeeded, self.node.story())
        self.assertEqual(self.node.job("words-workers").spec["completions"], 2)
        self.same(self.node.claim("words-data"))


if __name__ == "__main__":
    unittest.main(verbosity=2)

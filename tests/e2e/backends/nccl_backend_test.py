"""The NCCL backend under `muster run --backend nccl`: the suite every backend passes and training, where there are GPUs; what is said
where there are none, or where a library is missing."""
import json
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
from muster_e2e import DEADLINE, MUSTER, TEST_BIN
from train_case import TrainCase

TRAIN_WORDS = os.path.join(os.path.dirname(MUSTER), "train_words")
CONFORMANCE = os.path.join(TEST_BIN, "conformance_session")
BREAKS = ["ACallThatDiffersIsNamedByAll", "AbortReachesEveryRankAndStays", "ADeadlineEndsACallThatWaitsForSomebody",
          "WhoLeavesEarlyIsNamed"]


def gpus():
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


GPUS = gpus()


class NcclBackendCase(TrainCase):
    def setUp(self):
        super().setUp()
        for name in ("MUSTER_BACKEND", "MUSTER_NCCL_LIBRARY", "MUSTER_CUDA_LIBRARY"):
            self.environment.pop(name, None)
        self.environment["OMP_NUM_THREADS"] = "1"

    def by_muster(self, ranks, *words):
        return self.muster("run", "-np", str(ranks), "--backend", "nccl", *words)

    def alone(self, _, *words):
        return subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=DEADLINE,
                              env={**self.environment, "MUSTER_BACKEND": "nccl"})

    # Where NCCL runs as many ranks.
    def need_gpus(self, ranks):
        if GPUS < ranks:
            self.skipTest(f"needs {ranks} GPUs, here are {GPUS}")


class OnGpus(NcclBackendCase):
    def test_conformance(self):
        for ranks in [count for count in (1, 2, 4) if count <= GPUS] or [1]:  # NCCL's averages are exact for powers of two
            self.need_gpus(ranks)
            done = self.by_muster(ranks, CONFORMANCE, "--gtest_filter=*Conformance*")
            self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr)
            for rank in range(ranks):
                self.assertIn(f"conformance over nccl: rank {rank} of {ranks} passed", done.stdout)

    def test_what_ends_a_world(self):
        self.need_gpus(2)
        for name in BREAKS:
            done = self.by_muster(min(GPUS, 3), CONFORMANCE, f"--gtest_filter=*Breaks.{name}/Session")
            with self.subTest(name):
                self.assertNotIn("FAILED", done.stdout, done.stdout[-6000:] + done.stderr)
                self.assertGreaterEqual(done.stdout.count("passed\n"), 1, done.stdout[-6000:] + done.stderr)

    def test_learns_what_the_native_backend_does(self):
        self.need_gpus(2)
        native = self.train(2)
        path = os.path.join(self.folder, "result.json")
        done = self.by_muster(2, TRAIN_WORDS, "--data", self.data, "--steps", "30", "--result", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(path, encoding="utf-8") as file:
            nccl = json.load(file)
        self.assertEqual(nccl["samples_sha256"], native["samples_sha256"])
        self.assertAlmostEqual(nccl["heldout_loss"], native["heldout_loss"], delta=1e-4)

    # auto, too, sees that there is no GPU for each rank.
    def test_two_ranks_on_one_gpu_are_told(self):
        self.need_gpus(1)
        done = self.by_muster(GPUS + 1, TRAIN_WORDS, "--data", self.data, "--steps", "3")
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn(f"ranks 0 and {GPUS} share the GPU ", done.stderr)


class CannotRun(NcclBackendCase):
    def fails(self, start, *parts):
        done = start(2, TRAIN_WORDS, "--data", self.data, "--steps", "3")
        self.assertEqual(done.returncode, 69, done.stdout + done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("train_words: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        for part in ("the NCCL backend cannot be used: rank 0: ", "or leave --backend nccl and MUSTER_BACKEND out", *parts):
            self.assertIn(part, lines[0])

    # The real libraries, where they are; nothing without them.
    def test_without_a_gpu(self):
        if GPUS:
            self.skipTest(f"there are {GPUS} GPUs here")
        done = self.by_muster(1, TRAIN_WORDS, "--data", self.data, "--steps", "3")
        if "the CUDA runtime is not installed" in done.stderr:
            self.skipTest("no CUDA runtime here")
        for start in (self.by_muster, self.alone):
            self.fails(start, "no GPU can be used: ")

    def test_without_the_libraries(self):
        self.environment["MUSTER_CUDA_LIBRARY"] = os.path.join(self.folder, "nowhere.so")
        for start in (self.by_muster, self.alone):
            self.fails(start, "the CUDA runtime cannot be loaded: MUSTER_CUDA_LIBRARY: ", "nowhere.so", "there or unset it")

    def test_on_two_nodes(self):
        self.environment["MUSTER_CUDA_LIBRARY"] = os.path.join(self.folder, "nowhere.so")
        done = self.muster("run", "-np", "2", "--nodes", "2", "--backend", "nccl", TRAIN_WORDS, "--data", self.data)
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn("the NCCL backend cannot be used: rank 0: the CUDA runtime cannot be loaded", done.stderr)

    # Every rank trains on the CPU, and nothing is said where there is no GPU to be missed.
    def test_auto_is_native_then(self):
        if GPUS:
            self.skipTest(f"there are {GPUS} GPUs here")
        for more in ((), ("--nodes", "2")):
            done = self.muster("run", "-np", "2", *more, "--backend", "auto", CONFORMANCE, "--gtest_filter=*RanksKnowTheirPlace*")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("conformance over native: rank 1 of 2 passed", done.stdout)
            self.assertNotIn("NCCL", done.stderr)


if __name__ == "__main__":
    unittest.main()

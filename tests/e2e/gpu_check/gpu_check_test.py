"""scripts/gpu-check on a machine without a GPU, or where CUDA is made to see none: the bundle, what is said, and its checks rehearsed on
the processor."""
import os
import subprocess
import unittest

from muster_e2e import MUSTER, MusterCase

SOURCE = os.environ["MUSTER_SOURCE"]
BUILD = os.environ["MUSTER_BUILD"]
SYSTEM = ("linux-vdso", "ld-linux", "libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "libresolv.so")


class GpuCheckCase(MusterCase):
    def setUp(self):
        super().setUp()
        self.environment.update(MUSTER_BUILD=BUILD)

    def call(self, *words, timeout=200):
        return subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=self.environment, timeout=timeout)

    def bundle(self):
        folder = os.path.join(self.folder, "bundle")
        done = self.call(os.path.join(SOURCE, "scripts/gpu-check"), "bundle", folder, "--lean")
        if not os.path.exists(os.path.join(BUILD, "lib/libmuster_cuda.so")):
            self.assertEqual(done.returncode, 69, done.stderr)
            self.assertIn("nothing to bundle", done.stderr)
            self.skipTest("built without nvcc: no libmuster_cuda.so to bundle")
        self.assertEqual(done.returncode, 0, done.stderr)
        return folder


class Bundle(GpuCheckCase):
    def test_needs_nothing_outside(self):
        folder = self.bundle()
        self.environment["LD_LIBRARY_PATH"] = os.path.join(folder, "lib")
        for name in os.listdir(os.path.join(folder, "bin")):
            for line in self.call("ldd", os.path.join(folder, "bin", name)).stdout.splitlines():
                library, _, path = line.strip().partition(" => ")
                # NVIDIA's are left out of a lean one.
                if library.startswith(SYSTEM) or "ld-linux" in library or library.startswith("libcublas"):
                    continue
                with self.subTest(program=name, library=library):
                    self.assertTrue(path.startswith(folder), line)

    def test_says_that_there_is_no_gpu(self):
        folder = self.bundle()
        done = self.call(os.path.join(folder, "run"))
        self.assertEqual(done.returncode, 69, done.stdout + done.stderr)
        self.assertTrue(done.stdout.startswith("not run: no NVIDIA GPU here ("), done.stdout)
        self.assertEqual(self.call(os.path.join(folder, "run"), "rattle").returncode, 64)

    def test_its_checks_on_the_processor(self):
        folder = self.bundle()
        checks = ["kernels", "words", "conformance", "nccl_words", "order", "death", "rate"]
        done = self.call(os.path.join(folder, "run"), "--rehearse", *checks)
        verdicts = dict(reversed(line[:22].rsplit(None, 1)) for line in done.stdout.splitlines()[1:])
        expected = {check: "PASS" for check in checks}
        expected.update(kernels="NOT RUN", order="NOT RUN")
        self.assertEqual(verdicts, expected, done.stdout + done.stderr)
        self.assertEqual(done.returncode, 0)


class TrainWords(GpuCheckCase):
    def test_says_that_there_is_no_gpu(self):
        done = self.call(MUSTER, "run", "-np", "2", "train_words", "--device", "cuda")
        self.assertEqual(done.returncode, 69, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("train_words: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("train_words: --device cuda: "), lines)
        self.assertTrue(lines[0].endswith("; or train with --device cpu"), lines)


if __name__ == "__main__":
    unittest.main()

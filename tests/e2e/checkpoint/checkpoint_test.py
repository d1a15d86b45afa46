"""muster checkpoint ls and verify on real folders; and the files, read by a reader of their format that is not muster's."""
import json
import math
import os
import shutil
import subprocess
import unittest

import safetensors_reader
from muster_e2e import TEST_BIN, MusterCase


class Checkpoint(MusterCase):
    def setUp(self):
        super().setUp()
        self.run_folder = os.path.join(self.folder, "run")
        self.write(10, 20, 30, "40?")

    def write(self, *steps):
        subprocess.run([os.path.join(TEST_BIN, "write_checkpoints"), self.run_folder, *map(str, steps)], check=True)

    def in_step(self, step):
        return os.path.join(self.run_folder, f"step-{step}")

    def manifest(self, step):
        with open(os.path.join(self.in_step(step), "manifest.json"), encoding="utf-8") as file:
            return json.load(file)

    def flip(self, path, byte):
        with open(path, "r+b") as file:
            file.seek(byte)
            old = file.read(1)
            file.seek(byte)
            file.write(bytes([old[0] ^ 4]))

    def test_another_reader_sees_the_same(self):
        manifest = self.manifest(30)
        self.assertEqual(manifest["format"], "muster-checkpoint")
        self.assertEqual(manifest["step"], 30)
        self.assertEqual(manifest["attributes"], {"cursor": "1920"})
        self.assertGreater(len(manifest["files"]), 1)
        read = []
        for about in manifest["files"]:
            path = os.path.join(self.in_step(30), about["name"])
            self.assertEqual(os.path.getsize(path), about["bytes"])
            tensors, begin = safetensors_reader.read(path)
            self.assertEqual(begin % 64, 0)
            read.append((tensors, begin))
        expected_names = ["weight", "moment/weight", 'bias "b" \u00fc', "half", "count", "places", "bytes", "none"]
        self.assertEqual([tensor["name"] for tensor in manifest["tensors"]], expected_names)
        for place, tensor in enumerate(manifest["tensors"]):
            tensors, begin = read[tensor["file"]]
            dtype, shape, values = tensors[tensor["name"]]
            self.assertEqual((dtype, shape), (tensor["type"], tensor["shape"]))
            self.assertEqual(values, [(30 + 10 * place + i) % 100 for i in range(math.prod(shape))])
            names = list(tensors)  # in the order of their places
            before = sum(len(tensors[name][2]) * safetensors_reader.SIZES[tensors[name][0]]
                         for name in names[:names.index(tensor["name"])])
            self.assertEqual(tensor["offset"], begin + before)
            self.assertEqual(tensor["offset"] % safetensors_reader.SIZES[dtype], 0)
        self.assertEqual(sum(len(tensors) for tensors, _ in read), len(expected_names))

    def test_ls(self):
        result = self.muster("checkpoint", "ls", self.run_folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = [line.split() for line in result.stdout.splitlines()]
        self.assertEqual(lines[0], ["STEP", "FILES", "BYTES", "GENERATION", "AGE", "STATE"])
        self.assertEqual([(line[0], line[-1]) for line in lines[1:]], [("20", "complete"), ("30", "complete"), ("40", "unfinished")])
        files = self.manifest(30)["files"]
        self.assertEqual(lines[2][1:4], [str(len(files)), str(sum(file["bytes"] for file in files)), "3"])
        self.flip(os.path.join(self.in_step(20), "manifest.json"), 40)
        result = self.muster("checkpoint", "ls", "--json", cwd=self.run_folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_says(result, "step 20", "manifest.json is damaged")
        shown = json.loads(result.stdout)
        self.assertEqual([entry["state"] for entry in shown], ["damaged", "complete", "unfinished"])
        self.assertEqual(shown[1]["attributes"], {"cursor": "1920"})

    def test_verify(self):
        result = self.muster("checkpoint", "verify", self.run_folder)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        lines = result.stdout.splitlines()
        self.assertEqual([line.split(",")[0] for line in lines[:2]], ["step-20: complete", "step-30: complete"])
        self.assertIn("step-40: unfinished", lines[2])
        damaged = os.path.join(self.in_step(20), self.manifest(20)["files"][1]["name"])
        self.flip(damaged, os.path.getsize(damaged) - 1)
        result = self.muster("checkpoint", "verify", self.run_folder)
        self.assertEqual(result.returncode, 65, result.stdout + result.stderr)
        self.assertIn(f"step-20: damaged: {damaged}", result.stdout)
        self.assertIn("step-30: complete", result.stdout)
        self.assert_says(result, "1 of 2 damaged", "remove its folder")
        self.assertEqual(self.muster("checkpoint", "verify", self.in_step(30)).returncode, 0)
        self.assertEqual(self.muster("checkpoint", "verify", self.in_step(20) + "/").returncode, 65)

    def test_nothing_there(self):
        empty = os.path.join(self.folder, "empty")
        os.mkdir(empty)
        result = self.muster("checkpoint", "ls", empty)
        self.assertEqual(result.returncode, 0)
        self.assert_says(result, f"no checkpoints in {empty}")
        result = self.muster("checkpoint", "verify", empty)
        self.assertEqual(result.returncode, 65)
        self.assert_says(result, f"no complete checkpoint in {empty}")
        shutil.rmtree(empty)
        for verb in ("ls", "verify"):
            result = self.muster("checkpoint", verb, empty)
            self.assertEqual(result.returncode, 64)
            self.assert_says(result, empty, "give the folder")

    def test_words(self):
        for arguments in (("--help",), ("ls", "--help"), ("verify", "--help")):
            result = self.muster("checkpoint", *arguments)
            self.assertEqual(result.returncode, 0)
            self.assertIn("examples", result.stdout)
        for arguments, says in (((), "ls or verify"), (("list",), "knows no list"), (("ls", "a", "b"), "one folder"),
                                (("verify", "--jsn"), "--jsn")):
            result = self.muster("checkpoint", *arguments)
            self.assertEqual(result.returncode, 64, arguments)
            self.assert_says(result, says)


if __name__ == "__main__":
    unittest.main()

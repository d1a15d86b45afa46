"""`muster run train_words` with checkpoints: resumed at any number of ranks with the same bits; damage, full disks and other
runs' folders are named."""
import os
import shutil
import subprocess
import unittest

from train_case import TrainCase


def steps_in(folder):
    return sorted(int(name[5:]) for name in os.listdir(folder) if name.startswith("step-"))


def data_files(step_folder):
    files = {}
    for name in os.listdir(step_folder):
        if name.endswith(".safetensors"):
            with open(os.path.join(step_folder, name), "rb") as file:
                files[name] = file.read()
    return files


def flip(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 4]))


class Checkpoints(TrainCase):
    def setUp(self):
        super().setUp()
        self.checkpoints = os.path.join(self.folder, "checkpoints")

    def copy(self):
        """The folder as it is now, under another name."""
        copied = os.path.join(self.folder, "copy")
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(self.checkpoints, copied)
        return copied

    def saved(self, ranks, *flags):
        # The rate depends on --steps, so the whole run is made; what comes after step 20 is thrown away.
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        result = self.train(ranks, "--checkpoint-dir", self.checkpoints, "--checkpoint-every", "10", "--checkpoint-keep", "5", *flags)
        self.assertEqual(steps_in(self.checkpoints), [10, 20, 30])
        self.assertEqual((result["checkpoint_step"], result["resumed_at_step"]), (30, 0))
        shutil.rmtree(os.path.join(self.checkpoints, "step-30"))
        return result

    def assert_same(self, result, undisturbed):
        for key in ("weights_sha256", "samples_sha256", "heldout_loss"):
            self.assertEqual(result[key], undisturbed[key], key)

    def test_resumed_at_any_number_of_ranks(self):
        undisturbed = self.train(1)
        first = None
        for saved in (1, 2, 4, 8):
            self.assert_same(self.saved(saved), undisturbed)
            files = {name.split("-")[-1]: data for name, data in data_files(os.path.join(self.checkpoints, "step-20")).items()}
            first = first or files
            self.assertTrue(files == first, f"the files of {saved} ranks differ from those of one")
            for resumed in (1, 2, 4, 8):
                result = self.train(resumed, "--checkpoint-dir", self.copy(), "--resume")
                self.assertEqual(result["resumed_at_step"], 20)
                self.assertIn("going on from the checkpoint of step 20", self.stdout)
                self.assert_same(result, undisturbed)

    def test_the_jobs_own_settings(self):
        result = os.path.join(self.folder, "result.json")
        done = self.muster("run", "-np", "2", "--checkpoint-path", self.checkpoints, "--checkpoint-every", "7", "--checkpoint-keep", "2",
                           "train_words", "--data", self.data, "--steps", "30", "--result", result)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(steps_in(self.checkpoints), [21, 28])

    def test_damage_is_named_and_the_one_before_used(self):
        undisturbed = self.saved(2)
        newest = os.path.join(self.checkpoints, "step-20")
        for name in os.listdir(newest):
            copied = self.copy()
            path = os.path.join(copied, "step-20", name)
            flip(path, os.path.getsize(path) // 2)
            result_file = os.path.join(self.folder, "result.json")
            done = self.muster("run", "-np", "2", "train_words", "--data", self.data, "--steps", "30", "--checkpoint-dir", copied,
                               "--resume", "--result", result_file)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("passed over a damaged checkpoint", done.stderr)
            self.assertIn(name, done.stderr)
            self.assertIn("going on from the checkpoint of step 10", done.stdout)
            self.assertIn(undisturbed["weights_sha256"], done.stdout)
        for step in (10, 20):
            folder = os.path.join(self.checkpoints, f"step-{step}")
            for name in data_files(folder):
                flip(os.path.join(folder, name), 3000)
        self.assertIn("is whole", self.fails(65, 2, "--checkpoint-dir", self.checkpoints, "--resume"))

    def test_folders_of_other_runs(self):
        self.saved(2)
        self.assertIn("holds checkpoints up to step 20; resume (--resume)", self.fails(64, 2, "--checkpoint-dir", self.checkpoints))
        self.assertIn("is of another run: seed is", self.fails(64, 2, "--checkpoint-dir", self.checkpoints, "--resume", "--seed", "2"))
        self.assertIn("is of another run: batch is 64 there and 32 here",
                      self.fails(64, 2, "--checkpoint-dir", self.checkpoints, "--resume", "--batch", "32"))

    def test_a_folder_that_cannot_be_written(self):
        in_the_way = os.path.join(self.folder, "file")
        with open(in_the_way, "w", encoding="utf-8"):
            pass
        self.assertIn("cannot write checkpoints to", self.fails(73, 2, "--checkpoint-dir", os.path.join(in_the_way, "below")))

    def test_a_full_disk_is_named_and_the_newest_complete_one_loads(self):
        disk = os.path.join(self.folder, "disk")
        os.mkdir(disk)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", disk], capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no file system of its own: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", disk], check=False)
        folder = os.path.join(disk, "checkpoints")
        line = self.fails(73, 2, "--checkpoint-dir", folder, "--checkpoint-every", "1", "--checkpoint-keep", "100")
        self.assertIn("No space left on device", line)
        self.assertIn(folder, line)
        kept = steps_in(folder)
        self.assertGreater(len(kept), 0)
        result = self.train(2, "--checkpoint-dir", folder, "--resume", "--checkpoint-every", "1000")
        self.assertIn(result["resumed_at_step"], kept)
        self.assert_same(result, self.train(1))


if __name__ == "__main__":
    unittest.main()

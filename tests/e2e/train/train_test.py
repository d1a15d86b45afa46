"""`muster run train_words`: the same bits on any number of ranks, a model that learns, and errors that say what to do."""
import hashlib
import json
import os
import random
import signal
import unittest

from muster_e2e import all_pids, read, send
from train_case import TrainCase, some_words

SYSTEM_WORDS = "/usr/share/dict/words"
KEYS = ["heldout_loss", "bigram_loss", "steps", "world_size", "device", "restarts", "resumed_at_step", "checkpoint_step", "generation",
        "weights_sha256", "samples_sha256",
        "seconds", "tokens_per_second", "rank_samples"]


class Bits(TrainCase):
    def same_at_every_world_size(self, *flags, batch=64):
        alone = None
        for ranks in (1, 2, 3, 4, 5, 8):
            result = self.train(ranks, "--batch", str(batch), *flags)
            self.assertEqual(list(result), KEYS)
            self.assertEqual((result["world_size"], result["steps"], result["restarts"]), (ranks, 30, 0))
            self.assertEqual(len(result["rank_samples"]), ranks)
            self.assertEqual(sum(result["rank_samples"]), 30 * batch)
            # One shard a step; and one sample for each of a rank's shards if these are not all of one size.
            uneven = 8 // ranks if batch % 8 else 0
            self.assertLessEqual(max(result["rank_samples"]) - min(result["rank_samples"]), 30 * (batch // 8 + uneven + (uneven > 0)))
            alone = alone or result
            for key in ("weights_sha256", "samples_sha256", "heldout_loss", "bigram_loss"):
                self.assertEqual(result[key], alone[key], f"{key} on {ranks} ranks")
        return alone

    def test_same_on_any_number_of_ranks(self):
        self.same_at_every_world_size()

    def test_same_on_several_nodes(self):
        alone = self.train(1)
        for ranks, nodes in ((4, 2), (8, 4), (5, 3), (3, 3)):
            result = self.train(ranks, nodes=nodes)
            self.assertEqual(result["world_size"], ranks)
            for key in ("weights_sha256", "samples_sha256", "heldout_loss"):
                self.assertEqual(result[key], alone[key], f"{key} of {ranks} ranks on {nodes} nodes")

    def test_same_with_accumulation_small_buckets_and_an_odd_batch(self):
        self.same_at_every_world_size("--accumulate", "3", "--bucket-bytes", "16K", "--hidden", "48", batch=61)

    def test_buckets_do_not_change_bits(self):
        a, b = self.train(3), self.train(3, "--bucket-bytes", "4K")
        self.assertEqual(a["weights_sha256"], b["weights_sha256"])

    def test_weights_file_is_what_was_hashed(self):
        path = os.path.join(self.folder, "weights")
        result = self.train(2, "--weights", path, "--hidden", "20", "--embed", "5", "--context", "3")
        with open(path, "rb") as file:
            weights = file.read()
        self.assertEqual(hashlib.sha256(weights).hexdigest(), result["weights_sha256"])
        symbols = len(set("".join(some_words()))) + 1
        parameters = symbols * 5 + 3 * 5 * 20 + 20 + 20 * 20 + 20 + 20 * symbols + symbols
        self.assertEqual(len(weights), 4 * parameters)

    def test_any_change_shows(self):
        right = self.train(2)
        seed = self.train(2, "--seed", "2")
        self.assertNotEqual(seed["weights_sha256"], right["weights_sha256"])
        self.assertNotEqual(seed["samples_sha256"], right["samples_sha256"])
        for rank in range(2):
            flipped = self.train(2, "--flip-gradient-bit", str(rank))
            self.assertNotEqual(flipped["weights_sha256"], right["weights_sha256"])
            self.assertEqual(flipped["samples_sha256"], right["samples_sha256"])
        for line in (0, 9, 1999):  # the tenth is held out
            words = some_words()
            words[line] += "a"
            self.write_words(words)
            self.assertNotEqual(self.train(2)["weights_sha256"], right["weights_sha256"], f"word {line}")
        self.write_words(some_words())
        self.assertEqual(self.train(2)["weights_sha256"], right["weights_sha256"])


class Learning(TrainCase):
    def test_learns_what_a_bigram_model_cannot(self):
        if os.path.exists(SYSTEM_WORDS):
            self.data = SYSTEM_WORDS
        result = self.train(4, "--steps", "500", "--batch", "64")
        self.assertEqual(result["steps"], 500)
        self.assertLess(result["heldout_loss"], result["bigram_loss"] - 0.1)
        losses = [float(line.split()[1]) for line in self.stdout.splitlines() if line.strip()[:1].isdigit() and len(line.split()) == 3]
        self.assertGreater(len(losses), 5)
        self.assertLess(losses[-1], losses[0] - 0.5)
        invented = self.stdout.split("invented:\n")[1].split()
        self.assertEqual(len(invented), 20)
        with open(self.data, encoding="utf-8") as file:
            self.assertFalse(set(invented) & set(file.read().split("\n")))

    def test_reduction_overlaps_the_backward_pass(self):
        path = os.path.join(self.folder, "trace.json")
        self.train(4, "--bucket-bytes", "64K", "--trace", path)
        with open(path, encoding="utf-8") as file:
            events = [event for event in json.load(file)["traceEvents"] if event["ph"] == "X"]
        overlapped = {rank: 0 for rank in range(4)}
        for rank in overlapped:
            for step in range(30):
                mine = [event for event in events if (event["pid"], event["args"]["step"]) == (rank, step)]
                begin = min(event["ts"] for event in mine if event["cat"] == "all_reduce")
                end = max(event["ts"] + event["dur"] for event in mine if event["cat"] == "backward")
                overlapped[rank] += begin < end
        for rank, steps in overlapped.items():
            self.assertGreater(steps, 0, f"rank {rank}: {overlapped}")

    def test_help_teaches_by_example(self):
        done = self.muster("run", "-np", "2", "train_words", "--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("muster run -np 4 train_words"), 2)


class Errors(TrainCase):
    def test_data_that_cannot_be_used(self):
        self.assertIn("cannot read /nowhere/words: No such file", self.fails(66, 3, "--data", "/nowhere/words"))
        for words, message in (([], "holds 0 words"), (["one", "two"], "holds 2 words"),
                               (some_words(60), "has 54 words to train on, fewer than --batch 64; pass a smaller --batch")):
            self.write_words(words)
            self.assertIn(message, self.fails(65, 3))
        with open(self.data, "ab") as file:
            file.write(b"caf\xe9\n")
        self.assertIn("words.txt, line 61: byte 4 (0xe9) is not UTF-8", self.fails(65, 3))

    def test_more_ranks_than_shards(self):
        self.assertIn("9 ranks but only 8 shards", self.fails(64, 9))
        self.assertIn("pass --shards 16", self.fails(64, 9))
        self.assertIn("at most 2 ranks", self.fails(64, 3, "--shards", "2"))

    def test_wrong_flags(self):
        self.assertIn("unknown flag --stepz", self.fails(64, 2, "--stepz", "3"))
        self.assertIn("--batch 0: must be a whole number, at least 1", self.fails(64, 2, "--batch", "0"))
        self.assertIn("--flip-gradient-bit 2: there are only 2 ranks", self.fails(64, 2, "--flip-gradient-bit", "2"))

    def test_results_that_cannot_be_written(self):
        for flag in ("--result", "--weights", "--trace"):
            self.assertIn("cannot write /nowhere/file: No such file or directory", self.fails(73, 2, flag, "/nowhere/file"))

    def test_a_full_disk_is_named(self):
        self.assertIn("cannot write /dev/full: No space left on device", self.fails(73, 2, "--steps", "1", "--weights", "/dev/full"))
        weights = os.path.join(self.folder, "weights")
        self.assertIn("No space left on device", self.fails(73, 2, "--steps", "1", "--trace", "/dev/full", "--weights", weights))
        self.assertGreater(os.path.getsize(weights), 0)  # a lost trace is no lost training

    def test_a_killed_rank_is_named_once(self):
        process = self.start("run", "-np", "4", "train_words", "--data", self.data, "--steps", "100000000")
        for line in process.stdout:
            if line.split()[:1] == ["1"]:  # the first step is done
                break
        worker = [pid for pid in all_pids() if self.data.encode() in read(f"/proc/{pid}/cmdline")
                  and b"\0RANK=2\0" in b"\0" + read(f"/proc/{pid}/environ")]
        self.assertEqual(len(worker), 1)
        send(worker[0], signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 128 + signal.SIGKILL, stderr)
        self.assertEqual(len([line for line in stderr.splitlines() if "rank 2" in line and "SIGKILL" in line]), 1, stderr)
        self.assertNotIn("train_words:", stderr)


if __name__ == "__main__":
    unittest.main()

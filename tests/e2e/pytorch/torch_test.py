"""Ordinary torch.distributed programs under muster run: on one node and on several, beside torchrun, failing, started again."""
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

from muster_e2e import DEADLINE, MusterCase, poll

HERE = os.path.dirname(os.path.abspath(__file__))
TRAIN = os.path.join(HERE, "train_ddp.py")


def python_with_torch():
    """The first interpreter that has PyTorch: another may stand before Debian's in PATH."""
    for python in (shutil.which("python3"), "/usr/bin/python3"):
        if python and subprocess.run([python, "-c", "import torch.distributed"], capture_output=True, check=False).returncode == 0:
            return python
    return None


PYTHON = python_with_torch()
CAN_MAKE_NETWORKS = os.geteuid() == 0 and shutil.which("ip") is not None
TORCHRUN = "/usr/bin/torchrun"


@unittest.skipUnless(PYTHON, "PyTorch is not here: scripts/install frameworks")
class TorchCase(MusterCase):
    def setUp(self):
        super().setUp()
        self.environment["PYTHON_EXEC"] = PYTHON
        self.environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def finals(self, text, ranks):
        """What each rank had at the end: {(loss, sha256 of the parameters)}, all ranks there once, each having seen the whole sum."""
        self.assertEqual(sorted(re.findall(r"sum (\d+)", text)), [str(sum(range(1, ranks + 1)))] * ranks, text)
        return self.ends(text, ranks)

    def ends(self, text, ranks):
        found = re.findall(r"final (\d+) (\d+) (\S+) ([0-9a-f]{64})", text)
        self.assertEqual(sorted((int(rank), int(size)) for rank, size, _, _ in found), [(rank, ranks) for rank in range(ranks)], text)
        return {(loss, digest) for _, _, loss, digest in found}

    def train(self, *arguments, program=()):
        result = self.muster("run", *arguments, TRAIN, *program)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result


class Trains(TorchCase):
    def test_the_same_on_one_node_on_two_and_under_torchrun(self):
        one = self.finals(self.train("-np", "4").stdout, 4)
        self.assertEqual(len(one), 1, "the ranks' parameters differ")
        # The mean of equal shards' gradients is that of the whole, but for rounding.
        [(loss, _)] = self.finals(self.train("-np", "1").stdout, 1)
        self.assertAlmostEqual(float(loss), float(next(iter(one))[0]), places=4)
        [(less, _)] = self.finals(self.train("-np", "1", program=("--steps", "4")).stdout, 1)
        self.assertGreater(float(less), float(loss) + 0.01, "it learns nothing")
        self.assertEqual(self.finals(self.train("-np", "4", "--nodes", "2", "--node-network", "host").stdout, 4), one)
        with self.subTest("network namespaces"):
            if not CAN_MAKE_NETWORKS:
                self.skipTest("a network for each node needs root and ip")
            result = self.train("-np", "4", "--nodes", "2", "--node-network", "namespaces")
            self.assertEqual(self.finals(result.stdout, 4), one)
            self.assertNotIn("GLOO_SOCKET_IFNAME", result.stderr)  # gloo's warning that it found no address
        with self.subTest("torchrun"):
            if not os.path.exists(TORCHRUN):
                self.skipTest("torchrun is not here")
            # That of Debian 12 cannot start without these: its enumeration knows no 0 under Python 3.11.
            each = ",".join(f"{rank}:1" for rank in range(4))
            beside = subprocess.run([TORCHRUN, "--nproc_per_node", "4", "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0",
                                     "-r", each, "-t", each, "--log_dir", self.folder, TRAIN],
                                    capture_output=True, text=True, env=self.environment, timeout=DEADLINE, check=False)
            self.assertEqual(beside.returncode, 0, beside.stderr)
            self.assertEqual(self.finals(beside.stdout, 4), one)

    @unittest.skipUnless(CAN_MAKE_NETWORKS, "a network for each node needs root and ip")
    def test_the_interface_between_nodes_is_said_unless_the_user_has(self):
        say = ["sh", "-c", "echo $RANK ${GLOO_SOCKET_IFNAME-none} $(ip -o addr show to $(ip -o -4 addr show scope global | "
               "tr -s ' ' | cut -d' ' -f4 | cut -d/ -f1) | tr -s ' ' | cut -d' ' -f2)"]
        told = self.muster("run", "-np", "2", "--nodes", "2", "--node-network", "namespaces", *say)
        self.assertEqual(told.returncode, 0, told.stderr)
        for line in told.stdout.splitlines():
            _, gloo, interface = line.split()
            self.assertEqual(gloo, interface.split("@")[0])
        chosen = self.muster("run", "-np", "2", "--nodes", "2", "--node-network", "namespaces", "-x", "GLOO_SOCKET_IFNAME=lo", *say)
        self.assertEqual({line.split()[1] for line in chosen.stdout.splitlines()}, {"lo"})
        alone = self.muster("run", "-np", "1", "sh", "-c", "echo ${GLOO_SOCKET_IFNAME-none}")
        self.assertEqual(alone.stdout, "none\n")


class Fails(TorchCase):
    def fail(self, how, *arguments):
        report = os.path.join(self.folder, "report.json")
        result = self.muster("run", "--report", report, *arguments, TRAIN, "--die", "2", "1", how, os.path.join(self.folder, "once"))
        with open(report, encoding="utf-8") as file:
            return result, json.load(file)

    def test_the_sentence_names_the_exception(self):
        result, report = self.fail("raise", "-np", "2", "--nodes", "2", "--node-network", "host")
        self.assertEqual(result.returncode, 1)
        with open(TRAIN, encoding="utf-8") as file:
            line = 1 + file.read().split("raise RuntimeError")[0].count("\n")
        error = f"RuntimeError: the loss is nan (train_ddp.py, line {line})"
        (sentence,) = self.words_of(result.stderr)
        self.assertEqual(sentence, f"muster: rank 1 on host node1 exited with code 1: {error}; 1 other rank ended because of it")
        self.assertEqual((report["rank"], report["host"], report["error"]), (1, "node1", error))
        (cause,) = report["causes"]
        self.assertIn("Traceback (most recent call last)", cause["traceback"])
        self.assertIn("and more lines than one", cause["traceback"])

    def test_a_killed_rank_is_the_cause_and_not_those_that_lost_it(self):
        result, report = self.fail("kill", "-np", "3", "--nodes", "2", "--node-network", "host")
        self.assertEqual(result.returncode, 137)
        (sentence,) = self.words_of(result.stderr)
        self.assertRegex(sentence, r"rank 1 on host \S+ was killed by signal 9 \(SIGKILL\); 2 other ranks ended because of it$")
        self.assertEqual([cause["rank"] for cause in report["causes"]], [1])

    def test_an_error_of_the_generation_before_is_not_told_again(self):
        once = os.path.join(self.folder, "once")
        script = os.path.join(self.folder, "twice.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write("import json, os, sys\n"
                       f"first = not os.path.exists({once!r})\n"
                       f"open({once!r}, 'w').close()\n"
                       "if first:\n"
                       "    json.dump({'message': {'message': 'OSError: first'}}, open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w'))\n"
                       "sys.exit(3)\n")
        result = self.muster("run", "-np", "1", "--max-restarts", "1", script)
        self.assertEqual(result.returncode, 3)
        first, last = self.words_of(result.stderr)
        self.assertIn("exited with code 3: OSError: first; restarting", first)
        self.assertRegex(last, r"exited with code 3; the job had been restarted 1 time")


class StartsAgain(TorchCase):
    def test_from_its_checkpoint(self):
        straight = self.finals(self.train("-np", "2", program=("--steps", "8")).stdout, 2)
        result = self.train("-np", "2", "--nodes", "2", "--node-network", "host", "--max-restarts", "1",
                            program=("--steps", "8", "--checkpoint", f"{self.folder}/model.pt", "--die", "5", "1", "kill",
                                     f"{self.folder}/once"))
        # Step 5 needs rank 1, so rank 0 saved nothing after it.
        self.assertEqual(re.findall(r"resumed at step (\d+) restart (\d+)", result.stdout), [("5", "1")] * 2)
        self.assertEqual(self.ends(result.stdout, 2), straight)
        self.assertIn("restart 1 of 1", result.stderr)
        with self.subTest("elastic: smaller when a node goes for good"):
            [(loss, _)], [(straight_loss, _)] = self.lose_a_node(8), straight
            # One rank has all samples, so the loss goes on as it would have.
            self.assertAlmostEqual(float(loss), float(straight_loss), places=4)

    def lose_a_node(self, steps):
        """The second of two nodes goes at step 5; its agent was started by hand, so nobody starts it again."""
        model, waits = f"{self.folder}/elastic.pt", f"{self.folder}/waits"
        coordinator = self.start("coordinator", "--listen", "127.0.0.1", "--nodes", "2", "-np", "2", "--min-np", "1",
                                 "--max-restarts", "1", "--last-call", "0.5", TRAIN, "--steps", str(steps), "--checkpoint", model,
                                 "--die", "5", "1", "wait", waits)
        tickets = dict(re.fullmatch(r"muster: on node (\d) run: muster (agent .*)\n", coordinator.stderr.readline()).groups()
                       for _ in range(2))
        agents = [self.start(*tickets[node].split(), "--host", f"hand{node}") for node in ("0", "1")]
        self.assertTrue(poll(lambda: os.path.exists(waits)))
        agents[1].terminate()
        out, err = coordinator.communicate(timeout=DEADLINE)
        self.assertEqual(coordinator.returncode, 0, err)
        self.assertEqual(re.findall(r"resumed at step (\d+) restart (\d+)", out), [("5", "1")])
        return self.ends(out, 1)


if __name__ == "__main__":
    unittest.main()

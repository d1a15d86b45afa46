"""Workers, guards, agents and whole nodes killed at random instants: the job names each cause, starts again, and ends with the
bits of a run that nobody disturbed.

MUSTER_KILLS sets how many (default 60; scripts/soak makes many), MUSTER_TEST_SEED what is drawn (printed when something fails)."""
import json
import os
import random
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
from muster_e2e import DEADLINE, MUSTER, all_pids, command_of, net_of, poll, read, send, tree_of
from train_case import TrainCase, some_words

KILLS = int(os.environ.get("MUSTER_KILLS", "60"))
SEED = int(os.environ.get("MUSTER_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
STEPS = 400


class Job:
    """One `muster run`, and what may be killed of it."""

    def __init__(self, case, number, arguments):
        self.folder = os.path.join(case.folder, f"job{number}")
        os.mkdir(self.folder)
        self.result = os.path.join(self.folder, "result.json")
        self.process = subprocess.Popen(
            [MUSTER, "run", *arguments, "--max-restarts", "1000", "train_words", "--data", case.data, "--steps", str(STEPS),
             "--checkpoint-dir", os.path.join(self.folder, "checkpoints"), "--checkpoint-every", "10", "--result", self.result],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=case.environment)
        self.own_net = net_of(os.getpid())
        self.said = []
        self.reader = threading.Thread(target=self.read_all, daemon=True)
        self.reader.start()
        case.addCleanup(self.end)

    def read_all(self):
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(DEADLINE)
        self.process.stderr.close()

    def ours(self):
        return tree_of(self.process.pid)

    def victims(self, kind):
        """Process ids that die together."""
        ours = self.ours()
        if kind == "worker":
            return [[pid] for pid in ours if command_of(pid) == "train_words"]
        if kind == "guard":
            return [[pid] for pid in ours if command_of(pid) == "muster-guard"]
        agents = [pid for pid in ours if read(f"/proc/{pid}/cmdline").split(b"\0")[1:2] == [b"agent"]]
        if kind == "agent":
            return [[pid] for pid in agents]
        nodes = []
        for pid in agents:
            net = net_of(pid)
            apart = net not in (None, self.own_net)
            nodes.append([p for p in all_pids() if net_of(p) == net] if apart else tree_of(pid))
        return nodes


class Kills(TrainCase):
    def setUp(self):
        super().setUp()
        self.write_words(some_words(500))
        self.draw = random.Random(SEED)

    def undisturbed(self):
        result = self.train(1, "--steps", str(STEPS))
        return {key: result[key] for key in ("weights_sha256", "samples_sha256", "heldout_loss")}

    def disturb(self, kills, kinds, arguments):
        """Runs jobs one after the other until so many kills have been made."""
        right = self.undisturbed()
        made = restarts = jobs = 0
        while made < kills:
            jobs += 1
            job = Job(self, jobs, arguments)
            killed = []
            end = time.monotonic() + 5 * DEADLINE
            while job.process.poll() is None:
                self.assertLess(time.monotonic(), end, f"seed {SEED}: job {job.folder} does not end: {job.said}")
                # An instant like any other: while nodes join, workers start, a step, a checkpoint, a recovery.
                poll(lambda: job.process.poll() is not None, self.draw.uniform(0, 1.2))
                victims = job.victims(self.draw.choice(kinds)) if made < kills else []
                if not victims:
                    continue
                victim = self.draw.choice(victims)
                killed.append([command_of(pid) for pid in victim])
                for pid in victim:
                    send(pid, 9)
                made += 1
            job.reader.join(DEADLINE)
            said = "\n".join(job.said)
            context = f"MUSTER_TEST_SEED={SEED}, {arguments}, killed {killed}:\n{said}"
            self.assertEqual(job.process.returncode, 0, context)
            with open(job.result, encoding="utf-8") as file:
                result = json.load(file)
            self.assertEqual({key: result[key] for key in right}, right, context)
            notes = [line for line in job.said if "restarting all" in line]
            self.assertEqual(result["restarts"], len(notes), context)
            for note in notes:  # each says who broke and how
                self.assertRegex(note, r"^muster: (rank \d+|the agent|the guard process)\b.*(SIGKILL|lost|died)", context)
            restarts += len(notes)
            left = poll(lambda: not [pid for pid in all_pids() if job.folder.encode() in read(f"/proc/{pid}/cmdline")])
            self.assertTrue(left, f"processes are left: {context}")
        print(f"{' '.join(arguments)}: {made} kills, {restarts} restarts, {jobs} jobs", file=sys.stderr)
        self.assertGreater(restarts, kills // 4, "most kills hit nothing")

    def test_on_one_node(self):
        self.disturb(KILLS // 5, ["worker", "worker", "guard"], ["-np", "3"])

    def test_on_two_nodes(self):
        self.disturb(KILLS * 2 // 5, ["worker", "guard", "agent", "node"], ["-np", "4", "--nodes", "2"])

    def test_on_four_nodes(self):
        self.disturb(KILLS // 5, ["worker", "agent", "node"], ["-np", "4", "--nodes", "4"])

    def test_on_nodes_without_namespaces(self):
        self.disturb(KILLS // 5, ["worker", "agent", "node"], ["-np", "4", "--nodes", "2", "--node-network", "host"])


if __name__ == "__main__":
    unittest.main()

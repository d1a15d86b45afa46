"""Programs linked with libmuster under the real `muster`: how they end, and what is said about it."""
import concurrent.futures
import json
import os
import random
import signal
import socket
import time
import unittest

from muster_e2e import DEADLINE, TEST_BIN, MusterCase, command_of, poll, processes_of, read

WORKER = os.path.join(TEST_BIN, "session_worker")
LEAVES = int(os.environ.get("MUSTER_LEAVES", "200"))
SEED = int(os.environ.get("MUSTER_LEAVE_SEED", str(random.SystemRandom().randrange(1 << 20))))


class Sessions(MusterCase):
    def running(self, workers):
        process = self.start("run", "-np", str(workers), WORKER, "loop")
        job_id = ""
        for _ in range(workers):
            words = process.stdout.readline().split()
            self.assertEqual(words[:1], ["ready"], words)
            job_id = words[1]
        by_rank = {}
        for pid in processes_of(job_id):
            if command_of(pid) == "session_worker":
                variables = dict(setting.split(b"=", 1) for setting in read(f"/proc/{pid}/environ").split(b"\0") if b"=" in setting)
                by_rank[int(variables[b"RANK"])] = pid
        self.assertEqual(sorted(by_rank), list(range(workers)))
        return process, job_id, by_rank

    def test_a_killed_worker_is_the_only_cause(self):
        for rank in range(4):
            process, job_id, by_rank = self.running(4)
            begin = time.monotonic()
            os.kill(by_rank[rank], signal.SIGKILL)
            _, err = process.communicate(timeout=DEADLINE)
            seconds = time.monotonic() - begin
            print(f"  exit after {seconds * 1000:.0f} ms: {err.splitlines()[-1]}", flush=True)
            self.assertEqual(process.returncode, 137, err)
            words = self.words_of(err)
            self.assertEqual(len(words), 1, err)
            for part in (f"rank {rank} ", socket.gethostname(), "SIGKILL"):
                self.assertIn(part, words[0])
            # What the survivors were told names the dead rank as well.
            told = [line for line in err.splitlines() if line.startswith("rank ") and "UNAVAILABLE" in line]
            self.assertEqual(len(told), 3, err)
            for line in told:
                self.assertIn(f"rank {rank}", line.split(":", 1)[1])
            self.assertTrue(poll(lambda: not processes_of(job_id)), processes_of(job_id))

    def test_ranks_that_leave_at_random_moments_are_no_error(self):
        print(f"\n  {LEAVES} runs, replay: MUSTER_LEAVE_SEED={SEED} MUSTER_LEAVES={LEAVES} {__file__}", flush=True)

        def run(i):
            result = self.muster("run", "-np", str(2 + i % 3), "-x", "OMP_NUM_THREADS=1", WORKER, "leave", str(SEED + i))
            return i, result.returncode, result.stderr

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for i, code, err in pool.map(run, range(LEAVES)):
                self.assertEqual((code, err), (0, ""), f"run {i}, seed {SEED}")

    def test_exit_with_0_in_mid_job_is_named(self):
        report = os.path.join(self.folder, "report.json")
        result = self.muster("run", "-np", "3", "--report", report, WORKER, "exit", "1")
        self.assertNotEqual(result.returncode, 0)
        words = self.words_of(result.stderr)
        self.assertEqual(len(words), 1, result.stderr)
        self.assertIn("rank 1", words[0])
        self.assertIn("left", words[0])
        with open(report, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["rank"], 1)

    def test_a_call_that_differs_is_named(self):
        result = self.muster("run", "-np", "3", WORKER, "differ", "2")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("all_gather", result.stderr)
        self.assertIn("all_reduce", result.stderr)
        self.assertIn("rank 2", "".join(self.words_of(result.stderr)))

    def test_children_by_fork_do_no_harm(self):
        result = self.muster("run", "-np", "2", WORKER, "fork")
        self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()

"""kill -9 of whatever there is: the sentence, the time, and that nothing is left.

The random kills print their seed; MUSTER_KILL_SEED replays them, MUSTER_KILLS says how many (200). With MUSTER_KILL_COVER=subreaper
it all happens where no PID namespace may be made, so that guard and muster have to clean up by themselves.
"""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import unittest

from muster_e2e import (DEADLINE, STUBBORN, TEST_BIN, MusterCase, all_pids, command_of, keeper_and_guard_of, memory_named, poll,
                        processes_of, read, send, sockets_named)

JOINED = os.path.join(TEST_BIN, "session_worker")  # linked with libmuster
KILLS = int(os.environ.get("MUSTER_KILLS", "200"))
SEED = int(os.environ.get("MUSTER_KILL_SEED", str(random.SystemRandom().randrange(1 << 32))))


class Job:
    """A running job of stubborn workers, or of `program`."""

    def __init__(self, case, workers, program=(STUBBORN,)):
        self.process = case.start("run", "-np", str(workers), *program)
        self.job_id = ""
        for _ in range(workers):
            words = self.process.stdout.readline().split()
            case.assertEqual(words[:1], ["ready"], words)
            self.job_id = words[1]
        self.keeper, self.guard = keeper_and_guard_of(self.process.pid)
        case.assertTrue(self.keeper and self.guard)
        # The rest of the family has other names (stubborn_worker.cc).
        self.by_rank = {}
        for pid in processes_of(self.job_id):
            if command_of(pid) == os.path.basename(program[0]):
                variables = dict(setting.split(b"=", 1) for setting in read(f"/proc/{pid}/environ").split(b"\0") if b"=" in setting)
                self.by_rank[int(variables[b"RANK"])] = pid
        case.assertEqual(sorted(self.by_rank), list(range(workers)))

    def leftovers(self, temporary):
        left = [f"process {pid} {command_of(pid)}" for pid in processes_of(self.job_id)]
        mark = self.job_id.encode()
        left += [f"process {pid} {command_of(pid)}" for pid in all_pids() if mark in read(f"/proc/{pid}/cmdline")]  # of muster's own
        left += [f"socket {line}" for line in sockets_named(self.job_id)]
        left += [f"memory of {pid} {command_of(pid)}" for pid in memory_named(self.job_id)]
        left += [f"file {name}" for name in os.listdir(temporary) if self.job_id in name]
        for pid in (self.process.pid, self.keeper, self.guard):
            if pid and os.path.exists(f"/proc/{pid}/exe") and command_of(pid) in ("muster", "muster-guard"):
                left.append(f"{command_of(pid)} {pid}")
        return left


class Kills(MusterCase):
    def nothing_left(self, job, what=""):
        """Seconds until nothing of the job was left."""
        begin = time.monotonic()
        poll(lambda: not job.leftovers(self.temporary))
        seconds = time.monotonic() - begin
        left = job.leftovers(self.temporary)
        self.assertEqual(left, [], f"{what} after {seconds:.2f} s")
        return seconds

    def end(self, job):
        """muster's exit status and its stderr."""
        _, err = job.process.communicate(timeout=DEADLINE)
        return job.process.returncode, err

    def test_of_a_worker_names_rank_host_and_signal(self):
        for _ in range(3):
            job = Job(self, 3)
            begin = time.monotonic()
            os.kill(job.by_rank[1], signal.SIGKILL)
            code, err = self.end(job)
            seconds = time.monotonic() - begin
            print(f"  kill -9 of a worker: exit after {seconds * 1000:.0f} ms: {err.splitlines()[-1]}", flush=True)
            self.assertEqual(code, 137, err)
            words = self.words_of(err)
            self.assertEqual(len(words), 1, err)
            for part in ("rank 1", socket.gethostname(), "SIGKILL"):
                self.assertIn(part, words[0])
            self.nothing_left(job)

    def test_of_the_guard_is_named(self):
        for who in ("guard", "keeper"):
            job = Job(self, 2)
            os.kill(getattr(job, who), signal.SIGKILL)
            code, err = self.end(job)
            self.assertEqual(code, 70, err)
            words = self.words_of(err)
            self.assertEqual(len(words), 1, err)  # said once
            self.assertIn("the guard process on host", words[0])
            self.nothing_left(job)

    def test_of_muster_leaves_nothing(self):
        job = Job(self, 3)
        self.assertGreaterEqual(len(processes_of(job.job_id)), 9)
        os.kill(job.process.pid, signal.SIGKILL)
        job.process.wait()
        self.nothing_left(job)

    def test_a_worker_that_exits_takes_its_family_along(self):
        process = self.start("run", "-np", "2", "sh", "-c", f"{STUBBORN} > $TMPDIR/out & while ! grep -q ready $TMPDIR/out; do :; done; "
                             "echo $MUSTER_JOB_ID")
        job_id = process.stdout.readline().strip()
        _, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 0, err)
        self.assertTrue(poll(lambda: not processes_of(job_id)))

    def test_random_kills(self):
        random_source = random.Random(SEED)
        checks = json.loads(self.muster("doctor", "--json").stdout)["checks"]
        cover = next(check for check in checks if check["name"] == "kill cover")
        kinds = ["worker", "guard", "keeper", "muster", "guard and muster"]
        if cover["level"] == "ok":
            kinds.append("all")
        print(f"\n  {KILLS} kills, replay: MUSTER_KILL_SEED={SEED} MUSTER_KILLS={KILLS} {__file__}; cover: "
              f"{cover['finding']}", flush=True)
        counts, slowest = dict.fromkeys(kinds, 0), 0.0
        begin = time.monotonic()
        for i in range(KILLS):
            kind = random_source.choice(kinds)
            workers = random_source.randint(1, 3)
            program = random_source.choice([(STUBBORN,), (JOINED, "loop")])
            what = f"kill {i} of {kind}, {workers} workers of {program[0]}, seed {SEED}"
            job = Job(self, workers, program)
            victims = {"worker": [job.by_rank[random_source.randrange(workers)]], "guard": [job.guard], "keeper": [job.keeper],
                       "muster": [job.process.pid], "guard and muster": [job.guard, job.process.pid],
                       "all": [job.guard, job.keeper, job.process.pid]}[kind]
            random_source.shuffle(victims)
            # Those that are to die together see nothing of each other's death, however long this script waits for a core.
            for how in (signal.SIGSTOP, signal.SIGKILL) if len(victims) > 1 else (signal.SIGKILL,):
                for victim in victims:
                    send(victim, how)
            code, err = self.end(job)
            self.assertEqual(code, {"worker": 137, "guard": 70, "keeper": 70}.get(kind, -9), f"{what}: {err}")
            if kind == "all":
                # Nobody is left to remove the folder; the next job does.
                self.assertEqual(self.muster("run", "-np", "1", "true").returncode, 0)
            slowest = max(slowest, self.nothing_left(job, what))
            counts[kind] += 1
        print(f"  {counts}, {(time.monotonic() - begin) / KILLS:.2f} s each, slowest clean-up {slowest * 1000:.0f} ms", flush=True)


def without_namespaces():
    """Starts this script again in a user namespace that grants no PID namespace; ctest sees 77 where there is none to be had."""
    enter = ["unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 > /proc/sys/user/max_pid_namespaces && exec "$0" "$@"']
    if subprocess.run([*enter, "true"], capture_output=True, check=False).returncode != 0:
        print("skipped: no user namespace may be made here, so PID namespaces cannot be taken away")
        sys.exit(77)
    os.environ["MUSTER_KILL_COVER"] = ""
    os.execvp(enter[0], [*enter, sys.executable, "-B", *sys.argv])


if __name__ == "__main__":
    if os.environ.get("MUSTER_KILL_COVER") == "subreaper":
        without_namespaces()
    unittest.main()

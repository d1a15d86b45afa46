#!/usr/bin/env python3
"""50 jobs started at once on one host, some with a coordinator of their own: all run side by side, and all finish."""
import json
import os
import subprocess
import unittest

import muster_e2e
from muster_e2e import poll

JOBS = 50
WITH_COORDINATOR = 5
PATIENCE = 240.0


class ManyJobs(muster_e2e.MusterCase):
    def jobs(self):
        return json.loads(self.muster("ps", "--json").stdout or "[]")

    def test_fifty_jobs_at_once(self):
        gate = os.path.join(self.folder, "gate")
        os.mkfifo(gate)
        # Each rank says that it is there, then waits until somebody opens the gate for writing.
        program = ["sh", "-c", f'echo > {self.folder}/here-$MUSTER_JOB_ID-$RANK; : < {gate}; echo "$RANK of $WORLD_SIZE at $MASTER_PORT"']
        # A job that is older than all others, and runs longer: more than the 20 that are kept come after it.
        oldest = self.start("run", "-np", "1", "cat", stdin=subprocess.PIPE)
        self.assertTrue(poll(lambda: any(job["state"] == "running" for job in self.jobs())))
        oldest_id = self.jobs()[0]["job_id"]

        jobs = []
        for i in range(JOBS):
            nodes = ["--nodes", "2", "--node-network", "host"] if i < WITH_COORDINATOR else []
            jobs.append(self.start("run", "-np", "2", *nodes, *program))
        here = lambda: [name for name in os.listdir(self.folder) if name.startswith("here-")]

        def all_here():
            ended = [job for job in jobs if job.poll() is not None]
            self.assertEqual([(job.returncode, job.communicate()) for job in ended], [], "ended before its ranks could")
            return len(here()) == 2 * JOBS
        self.assertTrue(poll(all_here, PATIENCE), f"{len(here())} of {2 * JOBS} ranks run")

        # All live at the same moment, each in a folder of its own, none pruned.
        running = [job for job in self.jobs() if job["running"]]
        self.assertEqual(len(running), JOBS + 1)
        self.assertEqual(len({job["folder"] for job in running}), JOBS + 1)
        self.assertEqual({job["job_id"] for job in running}, {name.split("-")[1] for name in here()} | {oldest_id})

        keep_open = os.open(gate, os.O_RDWR)
        self.addCleanup(os.close, keep_open)
        ports = []
        for job in jobs:
            text, errors = job.communicate(timeout=PATIENCE)
            self.assertEqual(job.returncode, 0, errors)
            said = sorted(line.split(" at ") for line in text.splitlines())
            self.assertEqual([line[0] for line in said], ["0 of 2", "1 of 2"])
            self.assertEqual(len({line[1] for line in said}), 1, "one MASTER_PORT a job")
            ports.append(said[0][1])
        self.assertEqual(len(set(ports)), JOBS, "a MASTER_PORT of its own for each job that runs at the same time")

        # One more prunes to 20, and spares the oldest, which runs.
        self.assertEqual(self.muster("run", "-np", "1", "true").returncode, 0)
        folders = self.kept_jobs()
        self.assertLessEqual(len(folders), 21, folders)
        self.assertIn(oldest_id, folders)
        self.assertEqual([job["job_id"] for job in self.jobs()], [oldest_id])
        self.assertEqual(oldest.communicate("baa\n", timeout=PATIENCE)[0], "baa\n")
        self.assertEqual(oldest.returncode, 0)
        verdict = json.loads(muster_e2e.read(os.path.join(self.state, "muster", oldest_id, "verdict.json"), "r"))
        self.assertEqual(verdict["exit_code"], 0)
        self.assertEqual(os.listdir(self.temporary), [], "session folders are removed")


if __name__ == "__main__":
    unittest.main()

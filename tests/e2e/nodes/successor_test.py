"""A coordinator that is lost and started again under the same name: the job goes on, and its workers notice nothing."""
import json
import os
import signal
import socket
import unittest

from muster_e2e import DEADLINE, MusterCase, children_of, command_of, poll, processes_of, read, send

# Says that it starts, and stays until it may go.
WORKER = 'echo "$RANK $MUSTER_JOB_ID" >> "$0/starts"; while [ ! -e "$0/go" ]; do sleep 0.02; done; echo "rank $RANK is done"'


class Successor(MusterCase):
    def setUp(self):
        super().setUp()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.key = os.path.join(self.folder, "key")
        with open(self.key, "w", encoding="utf-8") as file:
            file.write("0123456789abcdef" * 4)
        self.agents = [self.start("agent", "--coordinator", f"localhost:{self.port}", "--join-key-file", self.key, "--node", str(node), "--host",
                                  f"host{node}", "--slots", "2") for node in range(2)]

    def run_job(self, *options):
        return self.start("run", "--starter", "join", "--join-key-file", self.key, "--listen", f"127.0.0.1:{self.port}", "--nodes", "2", "-np", "4",
                          *options, "sh", "-c", WORKER, self.folder)

    def starts(self):
        return sorted(read(os.path.join(self.folder, "starts"), "r").splitlines())

    def started(self):
        self.assertTrue(poll(lambda: len(self.starts()) == 4), self.starts())
        self.assertTrue(poll(lambda: self.status()["state"] == "running"), self.status())
        return self.starts()

    def status(self):
        shown = self.muster("status", "--json")
        return json.loads(shown.stdout) if shown.returncode == 0 else {"state": shown.stderr}

    def let_go(self):
        with open(os.path.join(self.folder, "go"), "w", encoding="utf-8"):
            pass

    def end(self, process, code):
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, code, err)
        return out, err

    def goes_on(self, before, jobs):
        """The next coordinator ends the job with the workers that were there."""
        second = self.run_job("--same-job", "u-1")
        self.assertTrue(poll(lambda: "the coordinator starts again from its record" in self.muster("events").stdout), self.muster("events").stdout)
        self.assertTrue(poll(lambda: self.status()["state"] == "running"), self.status())
        self.let_go()
        out, err = self.end(second, 0)
        self.assertEqual(sorted(out.splitlines()), [f"rank {rank} is done" for rank in range(4)])
        self.assertIn(f"goes on with job {jobs[0][:8]}, whose coordinator was lost", err)
        for agent in self.agents:
            self.assertIn("another goes on with the job at", self.end(agent, 0)[1])
        self.assertEqual((self.starts(), self.kept_jobs()), (before, jobs))
        self.assertEqual(json.loads(read(os.path.join(self.state, "muster", jobs[0], "verdict.json")))["restarts"], 0)

    def test_command_and_coordinator_are_killed(self):
        first = self.run_job("--same-job", "u-1")
        before, jobs = self.started(), self.kept_jobs()
        for pid in [first.pid, *children_of(first.pid)]:
            send(pid, signal.SIGKILL)
        self.end(first, -signal.SIGKILL)
        self.goes_on(before, jobs)

    def test_the_coordinator_alone_is_killed(self):
        first = self.run_job("--same-job", "u-1")
        before, jobs = self.started(), self.kept_jobs()
        (coordinator,) = children_of(first.pid)
        send(coordinator, signal.SIGKILL)
        self.assertIn("its workers run on for the one that comes after it", self.end(first, 69)[1])
        self.goes_on(before, jobs)

    def test_workers_that_end_meanwhile_are_told_of(self):
        first = self.run_job("--same-job", "u-1")
        (job,) = self.started() and self.kept_jobs()
        for pid in [first.pid, *children_of(first.pid)]:
            send(pid, signal.SIGKILL)
        self.end(first, -signal.SIGKILL)
        self.let_go()
        self.assertTrue(poll(lambda: not [pid for pid in processes_of(job) if command_of(pid) == "sh"]))
        out, err = self.end(self.run_job("--same-job", "u-1"), 0)
        self.assertEqual(sorted(out.splitlines()), [f"rank {rank} is done" for rank in range(4)], err)
        for agent in self.agents:
            self.end(agent, 0)
        self.assertEqual((len(self.starts()), self.kept_jobs()), (4, [job]))

    def test_sigterm_leaves_the_job_to_the_next(self):
        first = self.run_job("--same-job", "u-1")
        before, jobs = self.started(), self.kept_jobs()
        first.send_signal(signal.SIGTERM)
        self.assertIn("the job goes on under the coordinator that comes after this one", self.end(first, 143)[1])
        self.goes_on(before, jobs)

    def test_muster_cancel_ends_it_and_the_next_is_a_new_job(self):
        first = self.run_job("--same-job", "u-1")
        self.started()
        (job,) = self.kept_jobs()
        cancelled = self.muster("cancel")
        self.assertEqual(cancelled.returncode, 0, cancelled.stderr)
        self.assertIn("interrupted (SIGINT) by muster cancel of", self.end(first, 130)[1])
        for agent in self.agents:
            self.end(agent, 0)
        self.let_go()
        second = self.run_job("--same-job", "u-1")
        self.assertTrue(poll(lambda: len(self.kept_jobs()) == 2 and self.status().get("job_id") not in (None, job)))
        second.send_signal(signal.SIGINT)
        self.end(second, 130)
        self.assertIn(job, self.kept_jobs())

    def test_what_goes_with_agents_that_join_alone(self):
        def refused(*options):
            done = self.muster("run", *options, "true")
            self.assertEqual(done.returncode, 64, done.stderr)
            return done.stderr
        join = ("--starter", "join", "--join-key-file", self.key)
        tokens = ("--token-keys", self.folder, "--token-audience", "a", "--token-subject", "s")
        self.assertIn("--same-job is for --starter join", refused("--same-job", "u-1"))
        self.assertIn("go together, with --starter join", refused(*tokens))
        self.assertIn("go together, with --starter join", refused(*join, *tokens[:4]))
        self.assertIn(f"--token-keys: {self.folder}/jwks cannot be read; the folder holds", refused(*join, *tokens))

    def test_another_name_is_another_job(self):
        first = self.run_job("--same-job", "u-1")
        before = self.started()
        for pid in [first.pid, *children_of(first.pid)]:
            send(pid, signal.SIGKILL)
        self.end(first, -signal.SIGKILL)
        second = self.run_job("--same-job", "u-2")
        # Its agents end what they had, and begin anew under it.
        self.assertTrue(poll(lambda: len(self.starts()) == 8), self.starts())
        self.let_go()
        self.end(second, 0)
        for agent in self.agents:
            self.assertIn("begin anew under it", self.end(agent, 0)[1])
        self.assertTrue(set(before) < set(self.starts()), (before, self.starts()))
        self.assertEqual(len(self.kept_jobs()), 2)


if __name__ == "__main__":
    unittest.main()

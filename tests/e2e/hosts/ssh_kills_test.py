"""Whatever is killed of a job on other hosts, nothing of it is left there, and the sentence names the host."""
import signal
import subprocess
import unittest

from hosts_case import HOSTS, HostsCase
from muster_e2e import DEADLINE, send


class KillTest(HostsCase):
    def test_the_coordinator_is_killed(self):
        job = self.start_job("-H", HOSTS)
        send(self.coordinator_of(job), signal.SIGKILL)
        _, stderr = job.communicate(timeout=DEADLINE)
        self.assertEqual(job.returncode, 70, stderr)
        self.assertIn("coordinator", stderr)
        self.assertEqual(self.all_left(), {})

    def test_all_of_the_login_host_is_killed_and_hosts_that_were_started_by_others_end_too(self):
        job = self.start_job("--ssh-fan-out", "2", "-H", HOSTS)
        for pid in [job.pid, self.coordinator_of(job)]:
            send(pid, signal.SIGKILL)
        job.communicate(timeout=DEADLINE)
        self.assertEqual(self.all_left(), {})

    def test_an_ssh_client_is_killed(self):
        job = self.start_job("-H", HOSTS)
        send(self.ssh_to(job, "node-c"), signal.SIGKILL)
        _, stderr = job.communicate(timeout=DEADLINE)
        self.assertNotEqual(job.returncode, 0)
        self.assertIn("the agent on host node-c was lost (the ssh client that held it was killed by SIGKILL)", stderr)
        self.assertEqual(self.all_left(), {})

    def test_an_agent_is_killed(self):
        job = self.start_job("-H", HOSTS)
        _, agent = self.far_end_and_agent_on("node-b")
        send(agent, signal.SIGKILL)
        _, stderr = job.communicate(timeout=DEADLINE)
        self.assertNotEqual(job.returncode, 0)
        self.assertIn("the agent on host node-b was lost (its process was killed by SIGKILL)", stderr)
        self.assertEqual(self.all_left(), {})

    def test_the_far_end_of_a_line_is_killed(self):
        job = self.start_job("-H", HOSTS)
        far_end, _ = self.far_end_and_agent_on("node-d")
        send(far_end, signal.SIGKILL)
        _, stderr = job.communicate(timeout=DEADLINE)
        self.assertNotEqual(job.returncode, 0)
        self.assertIn("node-d", stderr)
        self.assertEqual(self.all_left(), {})

    def test_who_was_started_through_a_lost_agent_goes_on_and_the_lost_one_comes_back(self):
        job = subprocess.Popen(self.words("--ssh-fan-out", "1", "--max-restarts", "1", "-H", "node-a:1,node-b:1", "sh", "-c",
                                          f'echo at $(hostname) $TORCHELASTIC_RESTART_COUNT; '
                                          f'[ "$TORCHELASTIC_RESTART_COUNT" = 1 ] || exec sleep 600'),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment,
                               stdin=subprocess.DEVNULL)
        self.addCleanup(self.finish, job)
        self.assertEqual(sorted(job.stdout.readline() for _ in range(2)), ["at node-a 0\n", "at node-b 0\n"])
        self.assertEqual(len(self.musters_on("node-b")), 2)
        for pid in self.musters_on("node-a"):
            send(pid, signal.SIGKILL)
        stdout, stderr = job.communicate(timeout=DEADLINE)
        self.assertEqual(job.returncode, 0, stderr)
        self.assertEqual(sorted(stdout.splitlines()), ["at node-a 1", "at node-b 1"])
        self.assertIn("node-a", stderr)
        self.assertNotIn("node-b was lost", stderr)
        self.assertEqual(self.all_left(), {})

    # At once, for each waits until the coordinator gives its host up.
    def test_what_is_stopped_is_ended_with_its_job(self):
        job = self.start_job("-H", HOSTS)
        _, agent = self.far_end_and_agent_on("node-b")
        far_end, _ = self.far_end_and_agent_on("node-c")
        stopped = {"node-b": [agent], "node-c": [far_end], "node-d": self.network.host("node-d").left()}
        self.assertGreaterEqual(len(stopped["node-d"]), 6)  # with keeper, guard and workers
        for pids in stopped.values():
            for pid in pids:
                send(pid, signal.SIGSTOP)
        send(job.pid, signal.SIGKILL)
        job.communicate(timeout=DEADLINE)
        self.assertEqual(self.all_left(), {})


if __name__ == "__main__":
    unittest.main()

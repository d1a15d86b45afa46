"""Jobs on four hosts of a HostNetwork, started from its login host."""
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

from host_network import HostNetwork, Unavailable
from muster_e2e import DEADLINE, MUSTER, MusterCase, children_of, parent_of, poll, read, send

NAMES = ["node-a", "node-b", "node-c", "node-d"]
HOSTS = ",".join(f"{name}:2" for name in NAMES)
# Says where it is, and stays.
STAYS = ["sh", "-c", "echo at $(hostname); exec sleep 600"]


class HostsCase(MusterCase):
    ipv6 = False
    bare = []  # hosts without muster

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="e2e-hosts-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        try:
            cls.network = HostNetwork(folder, NAMES + cls.bare, ipv6=cls.ipv6,
                                      hidden={name: [os.path.dirname(MUSTER)] for name in cls.bare})
        except Unavailable as why:
            raise unittest.SkipTest(str(why))
        cls.addClassCleanup(cls.network.close)

    def setUp(self):
        super().setUp()
        self.addCleanup(self.clear_hosts)

    def words(self, *words, ssh=None):
        # From a folder that is there: what is entered otherwise begins in /.
        return self.network.login.command("sh", "-c", 'cd "$0" && exec "$@"', self.folder, MUSTER, "run", "--ssh",
                                          ssh or self.network.ssh, *words)

    def run_job(self, *words, **options):
        done = subprocess.run(self.words(*words, **options), capture_output=True, text=True, env=self.environment,
                              stdin=subprocess.DEVNULL, timeout=DEADLINE)
        self.assertEqual(self.all_left(), {}, done.stderr)
        return done

    def start_job(self, *words):
        """Starts it and waits until all workers have said where they are; returns the process of `muster run`, which is its command."""
        job = subprocess.Popen(self.words(*words, *STAYS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=self.environment, stdin=subprocess.DEVNULL)
        self.addCleanup(self.finish, job)
        self.said = [job.stdout.readline() for _ in range(8)]
        self.assertEqual(sorted(self.said), sorted(f"at {name}\n" for name in NAMES for _ in range(2)))
        return job

    @staticmethod
    def finish(job):
        if job.poll() is None:
            job.kill()
        job.communicate()

    def coordinator_of(self, job):
        return next(pid for pid in children_of(job.pid) if b"coordinator" in read(f"/proc/{pid}/cmdline"))

    def all_left(self):
        """What is left on the hosts once everything had the time to end, but not the 40 s after which an agent ends that nobody has told."""
        poll(lambda: not self.network.left(), 30)
        return self.network.left()

    def clear_hosts(self):
        """What a test that has failed leaves there is not held against the next."""
        def kill():
            left = [pid for pids in self.network.left().values() for pid, _ in pids]
            for pid in left:
                send(pid, signal.SIGKILL)
            return not left
        poll(kill)

    def musters_on(self, name):
        """muster's own processes there: the far end of the line, and the agent."""
        return self.network.host(name).pids("muster")

    def far_end_and_agent_on(self, name):
        """Who has started whom tells which is which; their numbers do not, for numbers begin anew at pid_max."""
        there = self.musters_on(name)
        (far_end,) = [pid for pid in there if parent_of(pid) not in there]
        (agent,) = [pid for pid in there if parent_of(pid) == far_end]
        return far_end, agent

    def ssh_to(self, job, name):
        return next(pid for pid in children_of(self.coordinator_of(job))
                    if f"\0{name}\0".encode() in read(f"/proc/{pid}/cmdline"))

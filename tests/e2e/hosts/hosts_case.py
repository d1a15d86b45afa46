"""Jobs on four hosts of a HostNetwork, started from its login host."""
import os
import shutil
import subprocess
import tempfile
import unittest

from host_network import HostNetwork, Unavailable
from muster_e2e import DEADLINE, MUSTER, MusterCase, children_of, poll, read

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
        """What is left on the hosts once everything had the time to end."""
        poll(lambda: not self.network.left(), 20)
        return self.network.left()

    def agents_on(self, name):
        """The agent's processes there: the far end of the line, then what runs the workers."""
        return sorted(self.network.host(name).pids("muster"))

    def ssh_to(self, job, name):
        return next(pid for pid in children_of(self.coordinator_of(job))
                    if f"\0{name}\0".encode() in read(f"/proc/{pid}/cmdline"))

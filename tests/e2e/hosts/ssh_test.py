"""Jobs on real hosts, as far as one machine goes: namespaces with a network, a host name and an sshd each (host_network.py)."""
import json
import os
import signal
import subprocess
import unittest

from hosts_case import HOSTS, NAMES, HostsCase
from muster_e2e import DEADLINE, MUSTER, TEST_BIN, poll, read


class SshTest(HostsCase):
    bare = ["bare"]

    def test_what_reaches_the_workers_of_other_hosts(self):
        self.environment.update(PLAIN="1", FORWARDED="2")
        done = self.run_job("-H", HOSTS, "-x", "FORWARDED", "-x", "SET=3 $HOME '", "sh", "-c",
                            'echo "$RANK $(hostname) [$PLAIN] [$FORWARDED] [$SET] $PWD $MASTER_ADDR"')
        self.assertEqual(done.returncode, 0, done.stderr)
        first = self.network.host("node-a").address
        self.assertEqual(sorted(done.stdout.splitlines()),
                         [f"{rank} {NAMES[rank // 2]} [] [2] [3 $HOME '] {self.folder} {first}" for rank in range(8)])

    def test_hosts_start_each_other_and_a_host_that_cannot_is_gone_around(self):
        # Two from here, and each of them one more: SSH_CONNECTION says from where the login came.
        done = self.run_job("--ssh-fan-out", "2", "-H", HOSTS, "sh", "-c", 'echo "$RANK $SSH_CONNECTION"')
        self.assertEqual(done.returncode, 0, done.stderr)
        came_from = {int(line.split()[0]): line.split()[1] for line in done.stdout.splitlines()}
        login, a, c = (host.address for host in (self.network.login, self.network.host("node-a"), self.network.host("node-c")))
        self.assertEqual(came_from, {0: login, 1: login, 2: a, 3: a, 4: login, 5: login, 6: c, 7: c})
        # The first is there but has no muster; those behind it run all the same.
        done = self.run_job("--ssh-fan-out", "1", "--max-restarts", "1", "--min-np", "4", "-H", "bare:2,node-a:2,node-b:2", "hostname")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(done.stdout.split()), ["node-a", "node-a", "node-b", "node-b"])
        self.assert_says(done, "there is no muster on bare", "the job goes on without it")

    def test_a_spare_host_stands_by_and_takes_the_place_of_a_lost_one(self):
        script = 'echo "$RANK $(hostname) $TORCHELASTIC_RESTART_COUNT"; [ "$TORCHELASTIC_RESTART_COUNT" = 1 ] || exec sleep 600'
        # No agent can be started again by ssh within a millisecond.
        job = subprocess.Popen(self.words("-H", "node-a:2,node-b:2,node-c:2", "-np", "4", "--max-restarts", "1", "--spares", "1",
                                          "--last-call", "0.001", "sh", "-c", script),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment, stdin=subprocess.DEVNULL)
        self.addCleanup(self.finish, job)
        self.assertEqual(sorted(job.stdout.readline() for _ in range(4)),
                         ["0 node-a 0\n", "1 node-a 0\n", "2 node-b 0\n", "3 node-b 0\n"])
        self.assertTrue(poll(lambda: "host node-c joined" in self.muster("events").stdout), self.muster("events").stdout)
        for pid in self.musters_on("node-a"):
            os.kill(pid, signal.SIGKILL)
        out, err = job.communicate(timeout=DEADLINE)
        self.assertEqual(job.returncode, 0, err)
        self.assertEqual(sorted(out.splitlines()), ["0 node-c 1", "1 node-c 1", "2 node-b 1", "3 node-b 1"])
        self.assertEqual(self.all_left(), {})

    def test_the_job_file_says_where_muster_is(self):
        path = os.path.join(self.folder, "job.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write('command: ["true"]\nworkers: {max: 1}\nstarter: {ssh: {hosts: [bare], remote_muster: /no/such/muster}}\n')
        done = self.run_job("-f", path)
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assert_says(done, "there is no muster on bare", "/no/such/muster")

    def test_this_machine_needs_no_ssh(self):
        done = self.run_job("-H", "login:1,node-a:1", "sh", "-c", 'echo "$RANK $(hostname) ${SSH_CONNECTION:+by ssh}"')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(line.strip() for line in done.stdout.splitlines()), ["0 login", "1 node-a by ssh"])

    def test_why_a_host_cannot_be_had(self):
        old = os.path.join(self.folder, "old-muster")
        with open(old, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho 'muster-line: agent 0 0.0.1'\nexec cat\n")
        os.chmod(old, 0o755)
        keyless = os.path.join(self.folder, "keyless")
        with open(keyless, "w", encoding="utf-8") as file:
            file.write("".join(line for line in read(self.network.ssh.split()[2], "r").splitlines(True)
                               if "IdentityFile" not in line))
        no_keys = ["--ssh-option", "UserKnownHostsFile=/dev/null"]
        cases = [
            (["-H", "node-a,bare"], {}, ["there is no muster on bare", os.path.dirname(MUSTER), "--remote-muster"]),
            ([*no_keys, "-H", "node-b"], {}, ["host key of node-b is not known here"]),
            # What the user says does not make it less strict.
            ([*no_keys, "--ssh-option", "StrictHostKeyChecking=no", "-H", "node-b"], {}, ["host key of node-b is not known here"]),
            (["-H", "node-c"], {"ssh": f"ssh -F {keyless}"}, ["node-c does not let us in without a password", "ssh-copy-id"]),
            (["--ssh-option", "Port=2", "-H", "node-d"], {}, ["node-d refuses ssh connections", "--ssh-option Port=N"]),
            (["-H", "nowhere"], {}, ["nobody knows a host named nowhere"]),
            (["--remote-muster", old, "-H", "node-a"], {}, ["the muster on node-a", old, "version 0.0.1"]),
            (["-H", "node-a"], {"ssh": "/no/such/ssh"}, ["there is no ssh client here", "--ssh COMMAND"]),
            (["-H", self.nobodys_address()], {}, ["no way to " + self.nobodys_address()]),
        ]
        jobs = [(subprocess.Popen(self.words(*words, "-np", str(words[-1].count(",") + 1), "true", **options), text=True,
                                  env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE), says)
                for words, options, says in cases]
        for job, says in jobs:
            self.addCleanup(self.finish, job)
            _, stderr = job.communicate(timeout=DEADLINE)
            with self.subTest(says[0]):
                self.assertEqual(job.returncode, 69, stderr)
                for part in says:
                    self.assertIn(part, stderr)
        self.assertEqual(self.all_left(), {})

    def nobodys_address(self):
        return "fd00:77::99" if self.ipv6 else "10.78.0.99"

    def test_a_folder_that_is_not_there(self):
        folder = os.path.join(self.folder, "elsewhere")
        done = self.run_job("-wdir", folder, "-H", "node-a:1", "pwd")
        self.assertNotEqual(done.returncode, 0)
        self.assert_says(done, folder, "node-a")

    def test_a_program_that_is_not_there(self):
        done = self.run_job("-H", "node-a:1", "no-such-program")
        self.assertEqual(done.returncode, 127, done.stderr)
        self.assert_says(done, "no-such-program", "node-a")


class TrainMixin:
    """The result of one rank on this machine, and of eight on four hosts."""

    def test_eight_ranks_on_four_hosts_train_what_one_does(self):
        data = os.path.join(self.folder, "words.txt")
        with open(data, "w", encoding="utf-8") as file:
            file.write("".join(f"{a}{b}{c}{b}\n" for a in "bdfgklm" for b in "aeiou" for c in "nprst"))
        hostfile = os.path.join(self.folder, "hostfile")
        with open(hostfile, "w", encoding="utf-8") as file:
            file.write("# four hosts\n" + "".join(f"{name} slots=2\n" for name in NAMES))
        training = ["train_words", "--data", data, "--steps", "20", "--result"]
        one, eight = os.path.join(self.folder, "one.json"), os.path.join(self.folder, "eight.json")
        done = self.muster("run", "-np", "1", *training, one)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.run_job("--hostfile", hostfile, *training, eight)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(one, encoding="utf-8") as first, open(eight, encoding="utf-8") as second:
            expected, result = json.load(first), json.load(second)
        self.assertEqual(result["world_size"], 8)
        for name in ("weights_sha256", "samples_sha256"):
            self.assertEqual(result[name], expected[name])

    def test_an_mpi_program_is_one_world(self):
        program = os.path.join(TEST_BIN, "mpi_world_openmpi")
        if not os.path.exists(program):
            self.skipTest("Open MPI was not there when the tests were built (package libopenmpi-dev)")
        done = self.run_job("-H", HOSTS, program, "ring")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(" ".join(line.split()[:6]) for line in done.stdout.splitlines()),
                         [f"ring rank={rank} size=8 ring={rank} sum=36 node={rank % 2}/2" for rank in range(8)])


@unittest.skipUnless(os.path.exists(os.path.join(os.path.dirname(MUSTER), "train_words")), "train_words is not built")
class TrainTest(TrainMixin, HostsCase):
    pass


@unittest.skipUnless(os.path.exists(os.path.join(os.path.dirname(MUSTER), "train_words")), "train_words is not built")
class Ipv6Test(TrainMixin, HostsCase):
    """No IPv4 address but loopback anywhere, no resolver."""
    ipv6 = True

    def test_addresses_are_ipv6_and_one_can_be_chosen(self):
        login = self.network.login.address
        done = self.run_job("--listen", f"[{login}]", "--ssh-fan-out", "3", "-H", HOSTS, "sh", "-c", 'echo "$MASTER_ADDR"')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(set(done.stdout.split()), {self.network.host("node-a").address})
        done = self.run_job("--listen", "fd00:99::1", "-H", HOSTS, "true")
        self.assertEqual(done.returncode, 64, done.stderr)
        self.assert_says(done, "this machine has no such address")


if __name__ == "__main__":
    unittest.main()

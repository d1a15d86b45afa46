"""Lists of hosts from the outside: which worker runs on which host. Hosts are played by this machine (--starter local)."""
import json
import os
import socket
import unittest

from muster_e2e import MusterCase


class HostsCase(MusterCase):
    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def places(self, *arguments):
        """[host, local rank] of each rank, as the report has it and the workers say it."""
        report = os.path.join(self.folder, "report.json")
        result = self.muster("run", "--report", report, *arguments, "sh", "-c",
                             'echo "$RANK $GROUP_RANK $LOCAL_RANK $LOCAL_WORLD_SIZE $WORLD_SIZE"')
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(report, encoding="utf-8") as file:
            hosts = [rank["host"] for rank in json.load(file)["ranks"]]
        places = {}
        for line in result.stdout.splitlines():
            rank, group, local, local_size, world = map(int, line.split())
            self.assertEqual(world, len(hosts))
            self.assertEqual(local_size, hosts.count(hosts[rank]))
            self.assertEqual(group, list(dict.fromkeys(hosts)).index(hosts[rank]))
            places[rank] = [hosts[rank], local]
        return [places[rank] for rank in sorted(places)]

    def refused(self, code, *arguments):
        result = self.muster("run", *arguments, "true")
        self.assertEqual(result.returncode, code, result.stderr)
        if code == 64:
            self.assertFalse(os.path.exists(self.state), "a job was made")
        return result.stderr


class Filling(HostsCase):
    def test_slots_are_filled_host_by_host(self):
        self.assertEqual(self.places("--starter", "local", "-H", "alpha:2,beta:1"), [["alpha", 0], ["alpha", 1], ["beta", 0]])

    def test_no_more_hosts_are_used_than_it_takes(self):
        self.assertEqual(self.places("--starter", "local", "-H", "alpha:2,beta:2,gamma:2", "-np", "3"),
                         [["alpha", 0], ["alpha", 1], ["beta", 0]])

    def test_a_hostfile_with_ranges_and_a_choice(self):
        hostfile = self.write("hosts", "# four hosts\nn[01-03] slots=1\nbig slots=2  # one more\n")
        self.assertEqual(self.places("--starter", "local", "--hostfile", hostfile, "-np", "4"),
                         [["n01", 0], ["n02", 0], ["n03", 0], ["big", 0]])
        self.assertEqual(self.places("--starter", "local", "-hostfile", hostfile, "-host", "big,n02"),
                         [["n02", 0], ["big", 0], ["big", 1]])

    def test_oversubscribed_hosts_share_what_is_left(self):
        self.assertEqual(self.places("--starter", "local", "-H", "alpha:2,beta:1", "-np", "5", "--oversubscribe"),
                         [["alpha", 0], ["alpha", 1], ["alpha", 2], ["beta", 0], ["beta", 1]])

    def test_the_first_hosts_with_workers_for_each(self):
        self.assertEqual(self.places("--starter", "local", "-H", "alpha:2,beta:2,gamma:2", "--nodes", "2", "--nproc-per-node", "1"),
                         [["alpha", 0], ["beta", 0]])
        self.assertEqual(self.places("--starter", "local", "-H", "alpha,beta", "-N", "2", "--nnodes", "1"),
                         [["alpha", 0], ["alpha", 1]])

    def test_cores_are_the_slots_where_none_are_listed(self):
        cores = len(os.sched_getaffinity(0))
        hostfile = self.write("hosts", "alpha\nbeta\ngamma\n")
        wanted = cores + 1
        expected = [["alpha", i] for i in range(cores)] + [["beta", 0]]
        places = self.places("--starter", "local", "--hostfile", hostfile, "-np", str(wanted))
        if places[cores][0] == "alpha":
            self.skipTest("the CPU quota is below the cores")  # muster counts it
        self.assertEqual(places, expected)

    def test_the_failed_workers_host_is_named(self):
        result = self.muster("run", "--starter", "local", "-H", "alpha:1,beta:1", "sh", "-c", '[ "$RANK" = 0 ] || exit 3')
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assert_says(result, "beta")

    def test_a_lost_host_comes_back_with_its_own_slots(self):
        mark = os.path.join(self.folder, "mark")
        result = self.muster("run", "--starter", "local", "-H", "alpha:1,beta:2", "--max-restarts", "1", "sh", "-c",
                             f'if [ "$RANK" = 2 ] && mkdir {mark} 2>/dev/null; then exit 5; fi; '
                             f'[ -d {mark} ] && [ "$TORCHELASTIC_RESTART_COUNT" = 1 ] && echo "$RANK $GROUP_RANK $LOCAL_RANK"; '
                             '[ "$TORCHELASTIC_RESTART_COUNT" = 1 ] || sleep 60')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(sorted(result.stdout.splitlines()), ["0 0 0", "1 1 0", "2 1 1"])


class Here(HostsCase):
    def test_a_list_of_this_machine_needs_no_agent(self):
        for names in ("localhost:3", "127.0.0.1:2,localhost", f"{socket.gethostname()}:2,[::1]:1"):
            # Up from the worker: guard, keeper, and then the command itself.
            result = self.muster("run", "-H", names, "sh", "-c",
                                 'pid=$PPID; for i in 1 2; do pid=$(awk "/^PPid/ {print \\$2}" /proc/$pid/status); done; '
                                 'echo "$LOCAL_RANK $WORLD_SIZE $(tr "\\0" " " </proc/$pid/cmdline | cut -d" " -f2)"')
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual([line.split()[:2] for line in sorted(result.stdout.splitlines())], [["0", "3"], ["1", "3"], ["2", "3"]])
            self.assertNotIn("agent", result.stdout)

    def test_a_name_is_one_slot(self):
        result = self.muster("run", "-H", "localhost", "sh", "-c", "echo $WORLD_SIZE")
        self.assertEqual((result.returncode, result.stdout), (0, "1\n"), result.stderr)


class Refusals(HostsCase):
    def test_more_workers_than_slots(self):
        said = self.refused(64, "-H", "localhost:2", "-np", "3")
        self.assertIn("-np 3 asks for more workers than localhost has slots (2)", said)
        self.assertIn("--oversubscribe", said)
        result = self.muster("run", "-H", "localhost:2", "-np", "3", "--oversubscribe", "sh", "-c", "echo $WORLD_SIZE")
        self.assertEqual((result.returncode, result.stdout), (0, "3\n" * 3), result.stderr)

    def test_more_workers_than_the_hosts_turn_out_to_have(self):
        many = 2 * os.cpu_count() + 1
        said = self.refused(69, "--starter", "local", "-H", "alpha:auto,beta:auto", "-np", str(many))
        self.assertIn(f"-np {many} asks for more workers than the hosts have slots", said)

    def test_errors_say_file_line_and_column(self):
        hostfile = self.write("hosts", "alpha slots=2\nbeta slot=2\n")
        self.assertIn(f"{hostfile}:2:6: \"slot\" is nothing that a host can have; did you mean slots=?",
                      self.refused(64, "--hostfile", hostfile))
        self.assertIn(f"--hostfile {self.folder} cannot be read", self.refused(64, "--hostfile", self.folder))
        self.assertIn('-H: host 2, "b:x"', self.refused(64, "-H", "a,b:x"))
        self.assertIn("which does not name gamma", self.refused(64, "-H", "gamma", "--hostfile", self.write("ok", "alpha\n")))

    def test_what_does_not_fit_together(self):
        self.assertIn("--nodes 3, but the list holds 2 hosts", self.refused(64, "--starter", "local", "-H", "a,b", "--nodes", "3"))
        self.assertIn("is known only there, so say how many", self.refused(64, "--starter", "local", "-H", "a:auto,b"))
        self.assertIn("--starter ssh needs hosts", self.refused(64, "--starter", "ssh"))
        self.assertIn("choose auto, join, local, ssh or slurm", self.refused(64, "--starter", "magic"))
        self.assertIn("one node holds 256", self.refused(64, "--starter", "local", "-H", "a:300,b"))


if __name__ == "__main__":
    unittest.main(verbosity=2)

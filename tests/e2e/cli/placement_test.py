"""Placement, as the workers themselves see it: which processors and whose memory they have, and on which node they are."""
import ctypes
import os
import re
import signal
import subprocess
import unittest

from muster_e2e import MUSTER, TEST_BIN, MusterCase

CPUS = sorted(os.sched_getaffinity(0))
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
# "RANK GROUP_RANK CPUS MEMORY_POLICY"
SEE = "echo see $RANK $GROUP_RANK $(grep Cpus_allowed_list /proc/self/status | cut -f2) $(head -1 /proc/self/numa_maps | cut -d' ' -f2)"


def own_locks():
    """Jobs of others on this machine must not take what is looked at here: a /dev/shm of our own, where we may have one."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        return
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, None)


def numbers(text):
    found = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


@unittest.skipUnless(len(CPUS) >= 2, "needs two processors")
class Placement(MusterCase):
    @classmethod
    def setUpClass(cls):
        own_locks()

    def see(self, *arguments, code=0, prefix=()):
        """Runs workers that say what they see; by rank: (node, processors, memory policy)."""
        result = subprocess.run([*prefix, MUSTER, "run", *arguments, "sh", "-c", SEE], capture_output=True, text=True,
                                env=self.environment, stdin=subprocess.DEVNULL, timeout=60)
        self.assertEqual(result.returncode, code, result.stderr)
        seen = {}
        for line in result.stdout.splitlines():
            _, rank, node, cpus, policy = line.split()
            seen[int(rank)] = (int(node), numbers(cpus), policy)
        self.said = result.stderr
        return seen

    two = ("--cpu-set", f"{CPUS[0]},{CPUS[1]}")

    def test_without_flags_nothing_is_bound(self):
        for node, cpus, policy in self.see("-np", "2").values():
            self.assertEqual((sorted(cpus), policy), (CPUS, "default"))
        # To ask where ranks are does not move them.
        for node, cpus, policy in self.see("-np", "2", "--report-bindings", "--display-map").values():
            self.assertEqual(sorted(cpus), CPUS)
        self.assertIn("rank 1 is not bound", self.said)

    def test_a_processor_each(self):
        for flags in (["--map-by", "hwthread"], ["--bind-to", "hwthread"], ["--map-by", "slot", "--bind-to", "hwthread"],
                      ["--use-hwthread-cpus"], ["--rank-by", "slot", "--bind-to", "hwthread"],
                      ["--use-hwthread-cpus", "--cpus-per-proc", "1"], ["--map-by", "ppr:1:hwthread", "--bind-to", "hwthread"]):
            with self.subTest(flags=flags):
                seen = self.see("-np", "2", *flags, *self.two)
                self.assertEqual([seen[0][1], seen[1][1]], [{CPUS[0]}, {CPUS[1]}])
                self.assertTrue(seen[0][2].startswith("prefer"), seen[0][2])

    def test_cores_do_not_overlap(self):
        for flags in (["--map-by", "core"], ["--bycore"], ["--bind-to", "core"], ["--bind-to-core"]):
            with self.subTest(flags=flags):
                seen = self.see("-np", "1", *flags)
                self.assertLess(len(seen[0][1]), max(len(CPUS), 2))
                self.assertTrue(seen[0][1] <= set(CPUS))

    def test_wider_objects(self):
        for flags in (["--map-by", "package"], ["--map-by", "socket"], ["--bind-to", "package"], ["--bind-to-socket"],
                      ["--map-by", "numa"], ["--bind-to", "numa"], ["--map-by", "hwthread", "--bind-to", "numa"],
                      ["--use-hwthread-cpus", "--map-by", "slot:PE=2"], ["--npersocket", "1", "--bind-to", "package"]):
            with self.subTest(flags=flags):
                seen = self.see("-np", "1", *flags, *self.two)
                self.assertTrue(seen[0][1] >= {CPUS[0]} and seen[0][1] <= {CPUS[0], CPUS[1]}, seen)
                if "slot:PE=2" in flags:
                    self.assertEqual(seen[0][1], {CPUS[0], CPUS[1]})

    def test_none_is_none(self):
        for flags in (["--bind-to", "none"], ["--map-by", "core", "--bind-to-none"]):
            seen = self.see("-np", "2", *flags)
            self.assertEqual([sorted(seen[0][1]), sorted(seen[1][1])], [CPUS, CPUS])

    def test_a_pattern_says_how_many(self):
        self.assertEqual(len(self.see("--map-by", "ppr:1:hwthread", *self.two)), 2)
        self.assertEqual(len(self.see("--npernode", "3")), 3)

    def test_more_ranks_than_processors(self):
        self.see("-np", "3", "--bind-to", "hwthread", *self.two, code=69)
        self.assertIn("--bind-to hwthread:overload-allowed", self.said)
        seen = self.see("-np", "3", "--bind-to", "hwthread:overload-allowed", *self.two)
        self.assertEqual([len(seen[rank][1]) for rank in range(3)], [1, 1, 1])
        # Nobody has asked for a binding: then none.
        seen = self.see("-np", "3", "--map-by", "hwthread", *self.two)
        self.assertEqual(sorted(seen[2][1]), CPUS)
        self.assertIn("ranks are not bound", self.said)

    def test_inside_a_mask(self):
        mask = ("taskset", "-c", str(CPUS[1]))
        self.assertEqual(self.see("-np", "1", "--bind-to", "core", prefix=mask)[0][1], {CPUS[1]})
        self.see("-np", "2", "--bind-to", "core", prefix=mask, code=69)
        self.assertEqual(len(self.see("--map-by", "core", prefix=mask)), 1)

    def test_what_is_shown(self):
        self.see("-np", "2", "--map-by", "hwthread", "--report-bindings", "--display-map", *self.two)
        self.assertRegex(self.said, rf"rank 1 bound to processors {CPUS[1]}: \[.*B.*\]")
        self.assertRegex(self.said, rf"rank 0, local rank 0: processors {CPUS[0]}, memory \d+")

    def test_a_plan_starts_nothing(self):
        file = os.path.join(self.folder, "started")
        result = self.muster("run", "-np", "4", "--nodes", "2", "--map-by", "numa", "--rank-by", "node", "--do-not-launch",
                             "--report-bindings", "--topology", "pack:2 numa:2 core:8", "touch", file)
        self.assertEqual((result.returncode, os.path.exists(file)), (0, False), result.stderr)
        self.assertIn("node node1: slots 2, ranks 2, processors 0-31\n  rank 1, local rank 0: processors 0-7, memory 0", result.stdout)
        self.assertIn("[node0] rank 2 bound to processors 8-15: ", result.stdout)
        wrong = self.muster("run", "--do-not-launch", "--topology", "pack:many", "true")
        self.assertEqual(wrong.returncode, 64)
        self.assert_says(wrong, "--topology pack:many")
        self.assertEqual(self.muster("run", "--topology", "core:4", "true").returncode, 64)

    def test_wrong_words(self):
        for flags, part in ((["--map-by", "cores"], "'cores' is none of"), (["--bind-to", "core:overload"], "overload-allowed"),
                            (["--bynode", "--map-by", "core"], "leave one out"), (["--cpu-set", "zero"], "--cpu-set")):
            result = self.muster("run", *flags, "true")
            self.assertEqual(result.returncode, 64)
            self.assert_says(result, part)

    def nodes_of(self, *flags):
        seen = self.see("-np", "4", "--nodes", "2", *flags)
        return [seen[rank][0] for rank in range(4)]

    def test_ranks_on_nodes(self):
        self.assertEqual(self.nodes_of("--map-by", "slot"), [0, 0, 1, 1])
        self.assertEqual(self.nodes_of("--map-by", "node", "--bind-to", "none"), [0, 1, 0, 1])
        self.assertEqual(self.nodes_of("--bynode", "--rank-by", "slot"), [0, 0, 1, 1])
        self.assertEqual(self.nodes_of("--npernode", "2"), [0, 0, 1, 1])

    def test_nodes_of_one_machine_share_it(self):
        seen = self.see("-np", "2", "--nodes", "2", "--bind-to", "hwthread", *self.two)
        self.assertEqual([seen[0][1], seen[1][1]], [{CPUS[0]}, {CPUS[0]}])

    def test_collectives_name_the_flag_that_they_cannot_do_with(self):
        result = self.muster("run", "-np", "4", "--nodes", "2", "--map-by", "node", "--bind-to", "none",
                             os.path.join(TEST_BIN, "session_worker"), "leave", "1")
        self.assertNotEqual(result.returncode, 0)
        self.assert_says(result, "--map-by node", "--rank-by slot")

    def wait_bound(self, *flags):
        """A job that holds what it is bound to until its stdin ends: (process, processors)."""
        process = self.start("run", *flags, *self.two, "sh", "-c", SEE + "; read line || true", stdin=subprocess.PIPE)
        line = process.stdout.readline().split()
        self.assertEqual(len(line), 5, process.stderr.read() if not line else line)
        return process, numbers(line[3])

    def test_two_jobs_take_different_cores(self):
        one, first = self.wait_bound("-np", "1", "--bind-to", "hwthread")
        two, second = self.wait_bound("-np", "1", "--bind-to", "hwthread")
        self.assertEqual(sorted(first | second), CPUS[:2])
        # Nothing is left: who insists hears who has it, who does not runs unbound.
        self.see("-np", "1", "--bind-to", "hwthread", *self.two, code=69)
        self.assertIn(f"(process {one.pid})", self.said)
        self.assertEqual(sorted(self.see("-np", "1", "--map-by", "hwthread", *self.two)[0][1]), CPUS)
        self.assertIn("ranks are not bound: another job", self.said)
        self.assertEqual(len(self.see("-np", "1", "--bind-to", "hwthread:overload-allowed", *self.two)[0][1]), 1)
        # A job that is killed holds nothing.
        two.send_signal(signal.SIGKILL)
        two.wait()
        self.assertEqual(self.see("-np", "1", "--bind-to", "hwthread", *self.two)[0][1], second)
        one.stdin.close()
        self.assertEqual(one.wait(), 0)

    def test_two_jobs_at_the_same_time(self):
        jobs = [self.start("run", "-np", "1", "--bind-to", "hwthread", *self.two, "sh", "-c", SEE + "; read line || true",
                           stdin=subprocess.PIPE) for _ in range(2)]
        lines = [job.stdout.readline().split() for job in jobs]
        self.assertEqual(sorted(int(line[3]) for line in lines), CPUS[:2])


if __name__ == "__main__":
    unittest.main()

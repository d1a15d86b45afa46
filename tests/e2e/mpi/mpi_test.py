"""MPI programs under the real muster: one world on one node and on several, with Open MPI (C and mpi4py) and MPICH; and what is left
when they are killed."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from muster_e2e import DEADLINE, MUSTER, MusterCase, TEST_BIN, children_of, command_of, keeper_and_guard_of, poll, processes_of, read, send, tree_of

OPENMPI = os.path.join(TEST_BIN, "mpi_world_openmpi")
MPICH = os.path.join(TEST_BIN, "mpi_world_mpich")
PMIX_CLIENT = os.path.join(TEST_BIN, "pmix_client")
PYTHON = "/usr/bin/python3"  # that Debian's mpi4py is for
MPI4PY = """
from mpi4py import MPI
import os
world = MPI.COMM_WORLD
rank, size = world.rank, world.size
passed = rank
for _ in range(size):
    passed = world.sendrecv(passed, (rank + 1) % size, source=(rank - 1) % size)
node = world.Split_type(MPI.COMM_TYPE_SHARED)
half = world.Split(rank % 2, rank)
mine = rank + 1
print(f"ring rank={rank} size={size} ring={passed} sum={world.allreduce(mine)} node={node.rank}/{node.size} "
      f"half={half.size}:{half.allreduce(mine)} app={world.Get_attr(MPI.APPNUM)} pid={os.getpid()}", flush=True)
"""
LINE = re.compile(r"(\w+) rank=(\d+) size=(\d+) ring=(\d+) sum=(\d+) node=(\d+)/(\d+) half=(\d+):(\d+) app=(-?\d+) pid=(\d+)$")
SHARED_MEMORY = re.compile(r"mpich_shar_tmp|ucx_shm_posix_|vader_segment\.|sm_segment\.|osc_sm\.|osc_rdma\.|open_mpi\.|muster-")


def shared_memory(jobs):
    """What may be left over; of muster's own folders those of these jobs, for others may run beside this test."""
    return {name for name in os.listdir("/dev/shm")
            if SHARED_MEMORY.match(name) and (not name.startswith("muster-") or name[len("muster-"):][:32] in jobs)}


def has_mpi4py():
    return os.path.exists(PYTHON) and subprocess.run([PYTHON, "-c", "import mpi4py"], capture_output=True, check=False).returncode == 0


class MpiCase(MusterCase):
    def setUp(self):
        super().setUp()
        self.shared_before = shared_memory([])

    def programs(self):
        """Each MPI program that this machine can run, and the words that run it."""
        found = {"Open MPI": [OPENMPI], "MPICH": [MPICH]}
        found = {name: words for name, words in found.items() if os.path.exists(words[0])}
        if not found:
            self.skipTest("neither Open MPI nor MPICH was there when the tests were built (packages libopenmpi-dev, libmpich-dev)")
        for name in {"Open MPI", "MPICH"} - set(found):
            print(f"skipped: {name} is not there", flush=True)
        return found

    def words_for(self, library):
        programs = self.programs()
        if library not in programs:
            self.skipTest(f"{library} was not there when the tests were built")
        return programs[library]

    def muster_nodes(self, *arguments):
        """UCX, which MPICH sends by, takes nodes that share a machine for one and now and then misses their process ids: its own
        failure, which it names, does not count."""
        for _ in range(3):
            result = self.muster("run", *arguments)
            if "ucx function returned with failed status" not in result.stderr:
                break
            print(f"once more: {result.stderr}", flush=True)
        return result

    def check_world(self, output, ranks_of_nodes, applications=None):
        """Every rank has said its line, and what it says is what a world of these nodes is."""
        ranks_of_nodes = [list(ranks) for ranks in ranks_of_nodes]
        size = sum(len(ranks) for ranks in ranks_of_nodes)
        lines = [LINE.match(line) for line in output.splitlines()]
        said = {int(line[2]): [int(word) for word in line.groups()[1:10]] for line in lines if line}
        self.assertEqual(sorted(said), list(range(size)), output)
        for ranks in ranks_of_nodes:
            for local, rank in enumerate(ranks):
                half = [other for other in range(size) if other % 2 == rank % 2]
                application = applications[rank] if applications else 0
                self.assertEqual(said[rank], [rank, size, rank, size * (size + 1) // 2, local, len(ranks), len(half),
                                              sum(other + 1 for other in half), application], output)

    def job_folders(self):
        home = os.path.join(self.state, "muster")
        return [os.path.join(home, name) for name in self.kept_jobs()] if os.path.isdir(home) else []

    def nothing_left(self, job_id=None):
        if job_id:
            self.assertTrue(poll(lambda: not processes_of(job_id)), "processes are left")
        self.assertTrue(poll(lambda: not os.listdir(self.temporary)), os.listdir(self.temporary))
        jobs = [os.path.basename(folder) for folder in self.job_folders()]
        self.assertTrue(poll(lambda: shared_memory(jobs) <= self.shared_before), shared_memory(jobs) - self.shared_before)


class World(MpiCase):
    def test_on_one_node(self):
        for name, words in self.programs().items():
            for workers in (1, 4):
                with self.subTest(library=name, workers=workers):
                    result = self.muster("run", "-np", str(workers), *words, "ring")
                    self.assertEqual(result.returncode, 0, result.stderr)
                    self.assertEqual(self.words_of(result.stderr), [])
                    self.check_world(result.stdout, [range(workers)])
                    self.nothing_left()

    def test_on_two_nodes(self):
        for name, words in self.programs().items():
            with self.subTest(library=name):
                result = self.muster_nodes("-np", "4", "--nodes", "2", *words, "ring")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.check_world(result.stdout, [range(2), range(2, 4)])
                self.nothing_left()

    def test_of_nodes_that_share_a_machine_and_its_name(self):
        for name, words in self.programs().items():
            with self.subTest(library=name):
                result = self.muster_nodes("-np", "4", "--nodes", "2", "--node-network", "host", *words, "ring")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(len([line for line in result.stdout.splitlines() if LINE.match(line)]), 4, result.stdout)
                self.nothing_left()

    def test_of_ranks_that_are_dealt_out_and_of_uneven_nodes(self):
        for name, words in self.programs().items():
            with self.subTest(library=name):
                result = self.muster_nodes("-np", "4", "--nodes", "2", "--map-by", "node", *words, "ring")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.check_world(result.stdout, [(0, 2), (1, 3)])
                result = self.muster_nodes("-np", "3", "--nodes", "2", *words, "ring")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.check_world(result.stdout, [range(2), range(2, 3)])

    def test_of_several_programs(self):
        for name, words in self.programs().items():
            with self.subTest(library=name):
                result = self.muster("run", "-np", "1", *words, "ring", ":", "-np", "2", *words, "ring")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.check_world(result.stdout, [range(3)], applications=[0, 1, 1])

    def test_inside_an_allocation_of_slurm_too(self):
        words = self.words_for("Open MPI")
        self.environment.update(SLURM_NODELIST="here", SLURM_JOB_NODELIST="here")  # as much of one as Open MPI looks at
        result = self.muster("run", "--starter", "local", "-np", "2", *words, "ring")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.check_world(result.stdout, [range(2)])

    def test_nothing_goes_to_tmp_where_the_jobs_folder_is_elsewhere(self):
        """In a mount namespace, where /tmp is this test's alone."""
        as_root = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
        own_tmp = [*as_root, "sh", "-c", 'mount -t tmpfs tmpfs /tmp && "$@"', "sh"]
        if subprocess.run([*own_tmp, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("no mount namespaces here")
        folder = tempfile.mkdtemp(prefix="e2e-", dir="/var/tmp")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.environment.update(TMPDIR=folder, XDG_STATE_HOME=folder)
        for name, words in self.programs().items():
            with self.subTest(library=name):
                result = subprocess.run([*own_tmp, "sh", "-c", '"$@"; ls -A /tmp', "sh", MUSTER, "run", "-np", "2", *words, "ring"],
                                        capture_output=True, text=True, env=self.environment, timeout=DEADLINE, check=False)
                self.check_world(result.stdout, [range(2)])
                self.assertEqual([line for line in result.stdout.splitlines() if not LINE.match(line)], [], result.stderr)

    def test_behind_a_wrapper_that_keeps_no_descriptors(self):
        wrapper = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], close_fds=True).returncode)"
        for name, words in self.programs().items():
            with self.subTest(library=name):
                result = self.muster("run", "-np", "2", "python3", "-c", wrapper, *words, "ring")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.check_world(result.stdout, [range(2)])

    def test_of_mpi4py(self):
        if not has_mpi4py():
            self.skipTest(f"no mpi4py for {PYTHON} (package python3-mpi4py)")
        for options, nodes in (((), [range(4)]), (("--nodes", "2"), [range(2), range(2, 4)])):
            with self.subTest(options=options):
                result = self.muster("run", "-np", "4", *options, PYTHON, "-c", MPI4PY)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.check_world(result.stdout, nodes)
                self.nothing_left()

    def test_of_plain_pmix_clients_that_ask_each_other(self):
        if not os.path.exists(PMIX_CLIENT):
            self.skipTest("libpmix was not there when the tests were built (package libpmix-dev)")
        for options in ((), ("--nodes", "2")):
            with self.subTest(options=options):
                result = self.muster("run", "-np", "4", *options, PMIX_CLIENT)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(sorted(result.stdout.splitlines()), [f"pmix rank={rank} size=4" for rank in range(4)])

    def test_binding_is_musters(self):
        words = self.words_for("Open MPI")
        if os.cpu_count() < 2:
            self.skipTest("needs two processors")
        program = ["sh", "-c", 'grep Cpus_allowed_list /proc/self/status; exec "$@"', "sh", *words, "ring"]
        result = self.muster("run", "-np", "2", "--bind-to", "core", "--map-by", "core", *program)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.check_world(result.stdout, [range(2)])
        self.assertEqual(len(set(re.findall(r"Cpus_allowed_list:\s*(\S+)", result.stdout))), 2, result.stdout)

    def test_programs_without_mpi_start_no_server(self):
        process = self.start("run", "-np", "2", "sh", "-c", "echo up; exec sleep 60")
        for _ in range(2):
            process.stdout.readline()
        self.assertNotIn("muster-pmix", [command_of(pid) for pid in tree_of(process.pid)])
        send(process.pid, signal.SIGTERM)
        process.communicate(timeout=DEADLINE)


class Ends(MpiCase):
    def test_abort_names_its_rank_and_code(self):
        for name, words in self.programs().items():
            for options in ((), ("--nodes", "2")):
                for code, status in ((7, 7), (0, 70)):
                    with self.subTest(library=name, options=options, code=code):
                        result = self.muster("run", "-np", "3", *options, *words, "abort", str(code))
                        self.assertEqual(result.returncode, status, result.stderr)
                        self.assertRegex(self.words_of(result.stderr)[-1],
                                         rf"rank 1 on host \S+ called MPI_Abort with code {code}; 2 other ranks ended because of it")
                        self.nothing_left()

    def test_an_exception_that_mpi4py_makes_an_abort_is_named(self):
        if not has_mpi4py():
            self.skipTest(f"no mpi4py for {PYTHON} (package python3-mpi4py)")
        program = os.path.join(self.folder, "program.py")
        with open(program, "w", encoding="utf-8") as file:
            file.write("from mpi4py import MPI\nif MPI.COMM_WORLD.rank == 1:\n    raise ValueError('no such tape')\n"
                       "MPI.COMM_WORLD.barrier()\n")
        result = self.muster("run", "-np", "2", PYTHON, "-m", "mpi4py", program)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertRegex(self.words_of(result.stderr)[-1],
                         r"rank 1 on host \S+ called MPI_Abort with code 1: ValueError: no such tape \(program.py, line 3\); "
                         r"1 other rank ended because of it")

    def test_a_rank_that_leaves_without_finalize_is_named(self):
        for name, words in self.programs().items():
            with self.subTest(library=name):
                result = self.muster("run", "-np", "3", *words, "leave")
                self.assertEqual(result.returncode, 70, result.stderr)
                self.assert_says(result, "ended with status 0 and never called MPI_Finalize")

    def test_a_rank_that_never_comes_is_named(self):
        for name, words in self.programs().items():
            with self.subTest(library=name):
                result = self.muster("run", "-np", "2", *words, "absent")
                self.assertEqual(result.returncode, 70, result.stderr)
                self.assertRegex(self.words_of(result.stderr)[-1],
                                 r"rank 1 on host \S+ ended with status 0 and never called MPI_Init, as rank 0 did")

    def test_a_rank_that_never_comes_is_named_where_only_others_nodes_wait_for_it(self):
        words_of_it = r"rank 2 on host \S+ ended with status 0 and never called MPI_Init, as rank 0 did; 2 other ranks ended because of it"
        for name, words in self.programs().items():
            with self.subTest(library=name):
                result = self.muster("run", "-np", "3", "--nodes", "2", *words, "absent", "2")
                self.assertEqual(result.returncode, 70, result.stderr)
                self.assertRegex(self.words_of(result.stderr)[-1], words_of_it)
                self.nothing_left()
                # And where it ends after the others have come there.
                late = ["sh", "-c", 'if test $RANK = 2; then read line; else exec "$0" ring; fi', *words]
                process = self.start("run", "-np", "3", "--nodes", "2", "--stdin", "2", *late, stdin=subprocess.PIPE)
                self.assertTrue(poll(lambda: self.ranks_with_sockets() == {0, 1}), self.ranks_with_sockets())
                _, err = process.communicate("\n", timeout=DEADLINE)
                self.assertEqual(process.returncode, 70, err)
                self.assertRegex(self.words_of(err)[-1], words_of_it)
                self.forget_job()

    def test_a_rank_whose_values_are_asked_for_and_that_never_comes_is_named(self):
        if not os.path.exists(PMIX_CLIENT):
            self.skipTest("libpmix was not there when the tests were built (package libpmix-dev)")
        program = f'if test $RANK = 2; then exit 0; else exec {PMIX_CLIENT}; fi'
        result = self.muster("run", "-np", "3", "--nodes", "2", "sh", "-c", program)
        self.assertEqual(result.returncode, 70, result.stderr)
        self.assertRegex(self.words_of(result.stderr)[-1],
                         r"rank 2 on host \S+ ended with status 0 and never called MPI_Init, as a rank on host \S+ did")

    def test_a_world_of_two_libraries_is_named(self):
        programs = self.programs()
        if len(programs) < 2:
            self.skipTest("needs Open MPI and MPICH")
        dealt_out = ("--nodes", "2", "--map-by", "node")
        for first, second, speaks_pmi, speaks_pmix, all_options in (
                ("Open MPI", "MPICH", "[23]", "[01]", ((), ("--nodes", "2"), dealt_out)),
                ("MPICH", "Open MPI", "[01]", "[23]", ((), ("--nodes", "2")))):
            for options in all_options:
                with self.subTest(first=first, options=options):
                    result = self.muster("run", *options, "-np", "2", *programs[first], "ring", ":", "-np", "2", *programs[second],
                                         "ring")
                    self.assertEqual(result.returncode, 70, result.stderr)
                    self.assertRegex(self.words_of(result.stderr)[-1],
                                     r"rank \d .*on host \S+ speaks PMI-1, as programs of MPICH do, and rank \d speaks PMIx, as those "
                                     r"of Open MPI do: they cannot be one MPI world, so build all programs of the job with the same "
                                     r"MPI library")
                    if "--map-by" not in options:
                        self.assertRegex(self.words_of(result.stderr)[-1],
                                         rf"rank {speaks_pmi} .* speaks PMI-1.* and rank {speaks_pmix} speaks PMIx.*; 3 other ranks ended")
                    self.nothing_left()
                    self.forget_job()

    def test_without_the_server_open_mpi_programs_are_told(self):
        words = self.words_for("Open MPI")
        copy = os.path.join(self.folder, "bin")
        os.mkdir(copy)
        for name in ("muster", "muster-guard"):
            os.link(os.path.join(os.path.dirname(MUSTER), name), os.path.join(copy, name))
        result = subprocess.run([os.path.join(copy, "muster"), "run", "-np", "2", *words, "ring"], capture_output=True, text=True,
                                env=self.environment, timeout=DEADLINE, check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertNotIn("ring rank=", result.stdout)
        self.assert_says(result, f"it needs muster-pmix, muster's PMIx server for Open MPI programs; it is not at {copy}/muster-pmix")

    def test_spawn_is_refused_in_words(self):
        if not has_mpi4py():
            self.skipTest(f"no mpi4py for {PYTHON} (package python3-mpi4py)")
        program = "from mpi4py import MPI\nMPI.COMM_SELF.Spawn('/bin/true', maxprocs=1)"
        result = self.muster("run", "-np", "1", PYTHON, "-c", program)
        self.assertNotEqual(result.returncode, 0)
        self.assert_says(result, "rank 0 called MPI_Comm_spawn, which muster does not support")

    def running(self, *arguments, ranks):
        """A job whose ranks have all said their line; its process, its id, and the ranks' process ids as seen from here."""
        process = self.start("run", "-np", str(ranks), *arguments)
        for _ in range(ranks):
            self.assertTrue(process.stdout.readline())
        job_id = next(os.path.basename(folder) for folder in self.job_folders())
        return process, job_id

    def ranks_with_sockets(self):
        """Those that have asked for their place in the world."""
        ranks = {}
        for folder in self.job_folders():
            ranks.update(self.processes_by_rank(os.path.basename(folder)))
        def holds(pid):
            try:
                return any(os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:") for name in os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                return False
        return {rank for rank, pid in ranks.items() if holds(pid)}

    def processes_by_rank(self, job_id):
        found = {}
        for pid in processes_of(job_id):
            rank = re.search(rb"\0OMPI_COMM_WORLD_RANK=(\d+)\0", b"\0" + read(f"/proc/{pid}/environ"))
            if rank:
                found[int(rank[1])] = pid
        return found

    def test_a_killed_rank_ends_the_job(self):
        for name, words in self.programs().items():
            for what in ("wait", "window"):
                for options in ((), ("--nodes", "2")):
                    with self.subTest(library=name, what=what, options=options):
                        process, job_id = self.running(*options, *words, what, ranks=3)
                        send(self.processes_by_rank(job_id)[1], signal.SIGKILL)
                        _, err = process.communicate(timeout=DEADLINE)
                        self.assertEqual(process.returncode, 137, err)
                        self.assertRegex(self.words_of(err)[-1],
                                         r"rank 1 on host \S+ was killed by signal 9 \(SIGKILL\); 2 other ranks ended because of it")
                        self.nothing_left(job_id)
                        self.forget_job()

    def forget_job(self):
        subprocess.run(["rm", "-rf", self.state], check=True)

    def test_nothing_is_left_whoever_is_killed(self):
        for name, words in self.programs().items():
            for whom in ("muster", "guard", "keeper", "server", "all of muster's"):
                if (name, whom) == ("MPICH", "server"):
                    continue
                with self.subTest(library=name, killed=whom):
                    process, job_id = self.running(*words, "wait", ranks=2)
                    keeper, guard = keeper_and_guard_of(process.pid)
                    server = [pid for pid in children_of(guard) if command_of(pid) == "muster-pmix"]
                    victims = {"muster": [process.pid], "guard": [guard], "keeper": [keeper], "server": server,
                               "all of muster's": [process.pid, keeper, guard]}[whom]
                    self.assertTrue(victims)
                    for pid in victims:
                        send(pid, signal.SIGKILL)
                    process.communicate(timeout=DEADLINE)
                    self.assertNotEqual(process.returncode, 0)
                    self.assertTrue(poll(lambda: not processes_of(job_id)), "processes are left")
                    if whom == "all of muster's":
                        # Nobody was left to remove anything: the next job does.
                        self.muster("run", "-np", "1", "true")
                    self.nothing_left(job_id)
                    self.forget_job()

    def test_killed_while_it_begins(self):
        """MPICH has files in shared memory for some milliseconds of MPI_Init only."""
        for name, words in self.programs().items():
            for delay in range(0, 200, 10):
                process = self.start("run", "-np", "2", *words, "ring")
                try:
                    process.wait(0.05 + delay / 1000)
                except subprocess.TimeoutExpired:
                    pass
                for folder in self.job_folders():
                    for pid in processes_of(os.path.basename(folder)):
                        send(pid, signal.SIGKILL)
                process.communicate(timeout=DEADLINE)
                with self.subTest(library=name, delay=delay):
                    self.nothing_left()
                self.forget_job()

    def test_restart_is_a_new_world(self):
        for name, words in self.programs().items():
            for options in ((), ("--nodes", "2")) if name != "MPICH" else ((),):
                with self.subTest(library=name, options=options):
                    what = f'if test $TORCHELASTIC_RESTART_COUNT = 0; then exec "$0" wait; else exec "$0" ring; fi'
                    process, job_id = self.running("--max-restarts", "1", *options, "sh", "-c", what, words[0], ranks=3)
                    send(self.processes_by_rank(job_id)[2], signal.SIGKILL)
                    out, err = process.communicate(timeout=DEADLINE)
                    self.assertEqual(process.returncode, 0, err)
                    self.check_world(out, [range(3)] if not options else [range(2), range(2, 3)])
                    self.nothing_left(job_id)
                    self.forget_job()


class Sequence(MpiCase):
    def test_one_program_after_the_other_in_a_script(self):
        """MPICH's may; Open MPI's cannot connect twice as the same rank under any launcher."""
        words = self.words_for("MPICH")
        result = self.muster("run", "-np", "2", "sh", "-c", '"$0" ring && "$0" ring', *words)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len([line for line in result.stdout.splitlines() if LINE.match(line)]), 4, result.stdout)

    def test_programs_of_both_libraries_after_each_other(self):
        mpich, openmpi = self.words_for("MPICH"), self.words_for("Open MPI")
        for first, second, options in ((mpich, openmpi, ()), (openmpi, mpich, ()), (mpich, openmpi, ("--nodes", "2"))):
            with self.subTest(first=first, options=options):
                result = self.muster_nodes("-np", "4", *options, "sh", "-c", '"$0" ring && "$1" ring', *first, *second)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(len([line for line in result.stdout.splitlines() if LINE.match(line)]), 8, result.stdout)


if __name__ == "__main__":
    unittest.main()

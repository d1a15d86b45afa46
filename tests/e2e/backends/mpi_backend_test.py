"""The MPI backend, under `muster run --backend mpi` and under mpirun: the suite every backend passes, training that learns what it does
on the native backend, ranks that are killed, and what is said where it is not installed."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
from muster_e2e import DEADLINE, MUSTER, TEST_BIN, command_of, poll, read, send, tree_of
from train_case import TrainCase

LIBRARY = os.environ.get("MUSTER_MPI_LIBRARY_FILE", "")
MPIRUN = shutil.which("mpirun.openmpi") or ""
TRAIN_WORDS = os.path.join(os.path.dirname(MUSTER), "train_words")
CONFORMANCE = os.path.join(TEST_BIN, "conformance_session")
BREAKS = ["ACallThatDiffersIsNamedByAll", "AbortReachesEveryRankAndStays", "ADeadlineEndsACallThatWaitsForSomebody",
          "WhoLeavesEarlyIsNamed"]
SPLIT_BREAKS = ["AnAbortReachesTheMembersAlone", "ADeadlineEndsItAlone", "WhoDestroysItEarlyIsNamedByTheRankOfTheJob",
                "ACallThatDiffersIsNamedByTheRankOfTheJob"]


class MpiBackendCase(TrainCase):
    def setUp(self):
        super().setUp()
        if not LIBRARY:
            self.skipTest("built without the MPI backend (package libopenmpi-dev)")
        self.environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1",
                                MUSTER_MPI_LIBRARY=LIBRARY, OMP_NUM_THREADS="1")
        self.environment.pop("MUSTER_BACKEND", None)

    def by_muster(self, ranks, *words):
        return self.muster("run", "-np", str(ranks), "--backend", "mpi", *words)

    def by_muster_on_two_nodes(self, ranks, *words):
        return self.muster("run", "-np", str(ranks), "--nodes", "2", "--backend", "mpi", *words)

    def by_mpirun(self, ranks, *words):
        if not MPIRUN:
            self.skipTest("no mpirun of Open MPI here (package openmpi-bin)")
        return subprocess.run([MPIRUN, "--oversubscribe", "-np", str(ranks), *words], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, env=self.environment, timeout=DEADLINE)


class Conformance(MpiBackendCase):
    def passes(self, start, ranks):
        self.check(start(ranks, CONFORMANCE, "--gtest_filter=*Conformance*"), ranks)

    def check(self, done, ranks):
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr)
        for rank in range(ranks):
            self.assertIn(f"conformance over mpi: rank {rank} of {ranks} passed", done.stdout)

    def test_under_muster(self):
        self.passes(self.by_muster, 3)

    def test_under_mpirun(self):
        self.passes(self.by_mpirun, 2)

    def test_alone(self):
        self.passes(self.by_muster, 1)

    # On the native backend what breaks a communicator made by Split leaves the world whole.
    def test_native_by_the_same_program(self):
        for ranks, nodes in ((3, []), (3, ["--nodes", "2"]), (5, ["--nodes", "2"])):
            done = self.muster("run", "-np", str(ranks), *nodes, CONFORMANCE,
                               "--gtest_filter=*Conformance*:*BreaksOfSplit*-*OneThatDoesNotSplitIsNamed*")
            with self.subTest(ranks=ranks, nodes=nodes):
                self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr)
                for rank in range(ranks):
                    self.assertIn(f"conformance over native: rank {rank} of {ranks} passed", done.stdout)

    # What ends a world ends its processes too: every rank has passed, and then the launcher finds that MPI was not ended.
    def test_what_ends_a_world(self):
        for name in BREAKS:
            for start in (self.by_muster, self.by_mpirun) if name == BREAKS[1] else (self.by_muster,):
                done = start(3, CONFORMANCE, f"--gtest_filter=*Breaks.{name}*")
                with self.subTest(name, start=start.__name__):
                    self.assertNotIn("FAILED", done.stdout, done.stdout[-6000:] + done.stderr)
                    passed = done.stdout.count("passed\n")
                    self.assertGreaterEqual(passed, 1, done.stdout[-6000:] + done.stderr)

    # The same of a communicator of some ranks: the others and the world go on, but MPI is not ended.
    def test_what_ends_a_communicator_of_some_ranks(self):
        for name in SPLIT_BREAKS:
            for start in (self.by_muster, self.by_mpirun) if name == SPLIT_BREAKS[0] else (self.by_muster,):
                done = start(3, CONFORMANCE, f"--gtest_filter=*BreaksOfSplit.{name}*")
                with self.subTest(name, start=start.__name__):
                    self.assertNotIn("FAILED", done.stdout, done.stdout[-6000:] + done.stderr)
                    self.assertGreaterEqual(done.stdout.count("passed\n"), 1, done.stdout[-6000:] + done.stderr)


class Training(MpiBackendCase):
    def result_of(self, start, ranks=4):
        path = os.path.join(self.folder, "result.json")
        done = start(ranks, TRAIN_WORDS, "--data", self.data, "--steps", "30", "--result", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def test_learns_what_the_native_backend_does(self):
        native = self.train(4)
        for start in (self.by_muster, self.by_muster_on_two_nodes, self.by_mpirun):
            with self.subTest(start=start.__name__):
                mpi = self.result_of(start)
                self.assertEqual(mpi["world_size"], 4)
                self.assertEqual(mpi["samples_sha256"], native["samples_sha256"])
                self.assertAlmostEqual(mpi["heldout_loss"], native["heldout_loss"], delta=1e-4)

    @staticmethod
    def workers_of(job):
        """{rank: process}"""
        found = {}
        for pid in tree_of(job.pid):
            rank = re.search(rb"\0RANK=(\d+)\0", b"\0" + read(f"/proc/{pid}/environ"))
            if rank and command_of(pid) == "train_words":
                found[int(rank[1])] = pid
        return found

    def test_a_killed_rank_restarts_the_job_from_its_checkpoint(self):
        native = self.train(3, "--steps", "200")
        path = os.path.join(self.folder, "result.json")
        checkpoints = os.path.join(self.folder, "checkpoints")
        job = self.start("run", "-np", "3", "--backend", "mpi", "--max-restarts", "2", TRAIN_WORDS, "--data", self.data, "--steps",
                         "200", "--checkpoint-dir", checkpoints, "--checkpoint-every", "10", "--result", path)
        self.assertTrue(poll(lambda: os.path.exists(os.path.join(checkpoints, "step-10", "manifest.json")) or job.poll() is not None))
        send(self.workers_of(job)[1], signal.SIGKILL)
        _, said = job.communicate(timeout=DEADLINE)
        self.assertEqual(job.returncode, 0, said)
        self.assertIn("rank 1 on host", said)
        self.assertIn("was killed by signal 9 (SIGKILL)", said)
        self.assertIn("restarting all 3 workers from the checkpoint of step", said)
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        self.assertEqual(result["restarts"], 1)
        self.assertEqual(result["samples_sha256"], native["samples_sha256"])
        self.assertAlmostEqual(result["heldout_loss"], native["heldout_loss"], delta=1e-3)

    # Whoever of the others ends first, and with what: they end because of it.
    def test_a_killed_rank_ends_the_job(self):
        for rank, nodes in ((0, []), (1, ["--nodes", "2"]), (2, [])):
            with self.subTest(rank=rank, nodes=nodes):
                job = self.start("run", "-np", "3", *nodes, "--backend", "mpi", TRAIN_WORDS, "--data", self.data, "--steps", "100000")
                for line in job.stdout:
                    if line.split()[:1] == ["1"]:  # the first step is done
                        break
                send(self.workers_of(job)[rank], signal.SIGKILL)
                _, said = job.communicate(timeout=DEADLINE)
                self.assertEqual(job.returncode, 128 + signal.SIGKILL, said)
                self.assertRegex(self.words_of(said)[-1], rf"^muster: rank {rank} on host \S+ was killed by signal 9 \(SIGKILL\)( at step \d+)?; "
                                                          "2 other ranks ended because of it$")

    def test_a_killed_rank_ends_mpiruns_job(self):
        if not MPIRUN:
            self.skipTest("no mpirun of Open MPI here (package openmpi-bin)")
        job = subprocess.Popen([MPIRUN, "--oversubscribe", "-np", "3", TRAIN_WORDS, "--data", self.data, "--steps", "100000"], text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment)
        self.addCleanup(job.kill)
        victims = poll(lambda: [pid for pid in tree_of(job.pid) if command_of(pid) == "train_words"])
        self.assertNotEqual(job.stdout.readline(), "")  # training has begun
        send(victims[-1], signal.SIGKILL)
        said, _ = job.communicate(timeout=DEADLINE)
        self.assertNotEqual(job.returncode, 0, said)


class NotInstalled(MpiBackendCase):
    def fails(self, start, *parts):
        done = start(2, TRAIN_WORDS, "--data", self.data, "--steps", "3")
        self.assertEqual(done.returncode, 69, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("train_words: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        for part in parts:
            self.assertIn(part, lines[0])

    def test_without_our_library(self):
        self.environment["MUSTER_MPI_LIBRARY"] = os.path.join(self.folder, "nowhere.so")
        for start in (self.by_muster, self.by_mpirun):
            self.fails(start, "nowhere.so", "name a libmuster_mpi.so there or unset it", "leave --backend mpi and MUSTER_BACKEND out")

    def test_without_open_mpi(self):
        with open(LIBRARY, "rb") as file:
            library = file.read()
        self.assertIn(b"libmpi.so.40", library)
        path = os.path.join(self.folder, "libmuster_mpi.so")
        with open(path, "wb") as file:
            file.write(library.replace(b"libmpi.so.40", b"libmpi.so.99"))
        self.environment["MUSTER_MPI_LIBRARY"] = path
        for start in (self.by_muster, self.by_mpirun):
            self.fails(start, "libmpi.so.99: cannot open shared object file", "install Open MPI (package libopenmpi3)")

    # As of a muster that was installed without muster-mpi: nothing beside libmuster.so, nothing in the loader's path.
    def test_not_beside_libmuster(self):
        del self.environment["MUSTER_MPI_LIBRARY"]
        libraries = os.path.join(self.folder, "lib")
        os.mkdir(libraries)
        own = os.path.join(os.path.dirname(os.path.dirname(MUSTER)), "lib", "libmuster.so.0")
        shutil.copy(own, libraries)
        self.environment["LD_LIBRARY_PATH"] = libraries
        program = os.path.join(self.folder, "train_words")
        shutil.copy(TRAIN_WORDS, program)
        done = self.muster("run", "-np", "1", "--backend", "mpi", "-x", f"LD_PRELOAD={libraries}/libmuster.so.0", program, "--data",
                           self.data)
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn("libmuster_mpi.so is not installed", done.stderr)
        self.assertIn("install the package muster-mpi", done.stderr)

    def test_backends_that_are_none(self):
        done = self.muster("run", "-np", "1", "--backend", "gloo", "true")
        self.assertEqual(done.returncode, 64)
        self.assert_says(done, "--backend gloo is no backend", "write --backend auto, native, nccl or mpi")
        done = self.muster("run", "-np", "1", "-x", "MUSTER_BACKEND=gloo", TRAIN_WORDS, "--data", self.data)
        self.assertEqual(done.returncode, 1)
        self.assert_says(done, "MUSTER_BACKEND=gloo names no backend; set it to auto, native, nccl or mpi")


if __name__ == "__main__":
    unittest.main()

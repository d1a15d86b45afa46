"""muster run inside allocations of a real Slurm of three nodes."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

import slurm_cluster
from muster_e2e import DEADLINE, MUSTER, STUBBORN, TEST_BIN, MusterCase, command_of, poll, read, send, tree_of
from slurm_cluster import Cluster

MISSING = slurm_cluster.what_is_missing()
# Of the cluster itself.
DAEMONS = ("slurmctld", "slurmd", "munged", "python3", "slurmscriptd", "unshare")


def setUpModule():
    if MISSING:
        raise unittest.SkipTest(f"no Slurm here: {MISSING}")


def all_of_us():
    """What runs in the cluster, and what was started into it from here."""
    return tree_of(os.getpid())


def arguments_of(pid):
    return [word.decode() for word in read(f"/proc/{pid}/cmdline").split(b"\0")[:-1]]


class SlurmCase(MusterCase):
    topology = None

    @classmethod
    def setUpClass(cls):
        cls.cluster_folder = tempfile.mkdtemp(prefix="e2e-slurm-")
        cls.addClassCleanup(shutil.rmtree, cls.cluster_folder, ignore_errors=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM") and k not in ("PYTHONPATH", "OMP_NUM_THREADS")}
        cls.cluster = Cluster(cls.cluster_folder, environment, cls.topology)
        cls.addClassCleanup(cls.cluster.end)

    def setUp(self):
        super().setUp()
        self.environment = {k: v for k, v in self.environment.items() if not k.startswith("SLURM")}
        self.environment.update(SLURM_CONF=self.cluster.environment["SLURM_CONF"], PATH=self.cluster.environment["PATH"])

    def run_there(self, *words, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.cluster.words(*words), capture_output=True, text=True, timeout=DEADLINE,
                              env=options.pop("env", self.environment), **options)

    def salloc(self, *words, options=("-N3", "-n6"), **more):
        """`words` inside an allocation of their own, on the login node."""
        result = self.run_there("salloc", "-Q", *options, *words, **more)
        self.nothing_left()
        return result

    def salloc_muster(self, *words, **more):
        return self.salloc(MUSTER, "run", *words, **more)

    def start_there(self, *words):
        """A process with its output in files, `out` and `err`."""
        out, err = (os.path.join(self.folder, name) for name in ("out", "err"))
        with open(out, "w", encoding="utf-8") as stdout, open(err, "w", encoding="utf-8") as stderr:
            process = subprocess.Popen(self.cluster.words(*words), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                                       env=self.environment)
        process.out, process.err = out, err

        def end():
            self.run_there("scancel", "--me")
            try:
                process.wait(DEADLINE)
            finally:
                process.kill()
                process.wait()
        self.addCleanup(end)
        return process

    def await_lines(self, file, start, count):
        pattern = re.compile(rf"^{re.escape(start)}", re.MULTILINE)
        if not poll(lambda: len(pattern.findall(read(file, "r"))) >= count):
            self.fail(f"{file} has no {count} lines with {start!r}: {read(file, 'r')} {read(os.path.join(self.folder, 'err'), 'r')}")

    def strangers(self):
        """What runs in the cluster and is not of the cluster."""
        return [f"{pid} {command_of(pid)} {arguments_of(pid)[:6]}" for pid in all_of_us()
                if command_of(pid) not in DAEMONS and command_of(pid)]

    def nothing_left(self):
        poll(lambda: not self.strangers())
        self.assertEqual(self.strangers(), [])

    def agents(self, *, front=False):
        """The agents' processes by node, or those that hold them."""
        found = {}
        for pid in all_of_us():
            words = arguments_of(pid)
            if words[1:2] == ["agent"] and ("--stdin" in words) == front and "--host" in words:
                found[words[words.index("--host") + 1]] = pid
        return found

    def batch(self, script, *options):
        """Submits `script`; the job's number and the file of its output."""
        output = os.path.join(self.folder, "batch.out")
        file = os.path.join(self.folder, "job.sh")
        with open(file, "w", encoding="utf-8") as text:
            text.write(f"#!/bin/sh\n#SBATCH -N3 -n6 -o {output}\n{script}\n")
        result = self.run_there("sbatch", "--parsable", *options, file)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip(), output

    def wait_for_batch(self, job):
        def state():
            text = self.run_there("scontrol", "show", "job", job).stdout
            return re.search(r"JobState=(\S+)", text)[1] not in ("PENDING", "RUNNING", "COMPLETING") and text
        text = poll(state)
        self.assertTrue(text, "the batch job does not end")
        return re.search(r"JobState=(\S+)", text)[1], re.search(r"ExitCode=(\S+)", text)[1]


class Training(SlurmCase):
    def setUp(self):
        super().setUp()
        self.data = os.path.join(self.folder, "words.txt")
        with open(self.data, "w", encoding="utf-8") as file:
            file.write("".join(f"{a}{b}{c}{b}\n" for a in "bdfgklm" for b in "aeiou" for c in "nprst"))
        self.result = os.path.join(self.folder, "result.json")
        self.words = ("train_words", "--data", self.data, "--steps", "20", "--result", self.result)
        done = self.muster("run", "-np", "1", *self.words)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.one_rank = self.take_result()

    def take_result(self):
        with open(self.result, encoding="utf-8") as file:
            result = json.load(file)
        os.remove(self.result)
        return result

    def test_under_salloc_gives_the_weights_of_one_rank(self):
        done = self.salloc_muster(*self.words)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.take_result()["weights_sha256"], self.one_rank["weights_sha256"])

    def test_in_a_batch_script_gives_the_weights_of_one_rank(self):
        job, output = self.batch(f"exec {MUSTER} run --tag-output {' '.join(self.words)}")
        self.assertEqual(self.wait_for_batch(job), ("COMPLETED", "0:0"), read(output))
        self.assertEqual(self.take_result()["weights_sha256"], self.one_rank["weights_sha256"])
        self.nothing_left()


    def test_the_same_job_file_here_and_there(self):
        file = os.path.join(self.folder, "job.yaml")
        with open(file, "w", encoding="utf-8") as text:
            text.write(f"name: words\ncommand: {json.dumps(self.words)}\nworkers: {{min: 6, max: 6}}\n")
        for run in (lambda: self.muster("run", "-f", file), lambda: self.salloc_muster("-f", file)):
            done = run()
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.take_result()["weights_sha256"], self.one_rank["weights_sha256"])


class Placing(SlurmCase):
    def places(self, *options, allocation=("-N3", "-n6"), program="echo place $RANK $LOCAL_RANK $(hostname)"):
        result = self.salloc_muster(*options, "sh", "-c", program, options=allocation)
        self.assertEqual(result.returncode, 0, result.stderr)
        return sorted(line[6:] for line in result.stdout.splitlines() if line.startswith("place "))

    def test_each_node_has_a_rank_for_each_task(self):
        self.assertEqual(self.places(), ["0 0 node1", "1 1 node1", "2 0 node2", "3 1 node2", "4 0 node3", "5 1 node3"])

    def test_uneven_tasks_and_fewer_ranks_and_nodes(self):
        self.assertEqual(self.places(allocation=("-n5",)), ["0 0 node1", "1 1 node1", "2 0 node2", "3 1 node2", "4 0 node3"])
        self.assertEqual(self.places("-np", "3"), ["0 0 node1", "1 1 node1", "2 0 node2"])
        self.assertEqual(self.places("--nproc-per-node", "1", "--nodes", "2"), ["0 0 node1", "1 0 node2"])
        self.assertEqual(self.places("-H", "node3,node1:1"), ["0 0 node1", "1 0 node3", "2 1 node3"])

    def test_mpi_programs_are_one_world(self):
        for library in ("openmpi", "mpich"):
            program = os.path.join(TEST_BIN, f"mpi_world_{library}")
            if not os.path.exists(program):
                print(f"skipped: {library} was not there when the tests were built", flush=True)
                continue
            with self.subTest(library=library):
                result = self.salloc_muster(program, "ring")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(sorted(" ".join(line.split()[:6]) for line in result.stdout.splitlines()),
                                 [f"ring rank={rank} size=6 ring={rank} sum=21 node={rank % 2}/2" for rank in range(6)])

    def test_a_starter_may_be_chosen(self):
        self.assertEqual(self.places("--starter", "local", "-np", "2"), ["0 0 login", "1 1 login"])
        self.assertEqual(self.places("--starter", "slurm", allocation=("-N1", "-n2", "-wnode2")), ["0 0 node2", "1 1 node2"])

    def test_the_environment_comes_by_x_alone(self):
        self.environment.update(OF_MINE="here", CHOSEN="yes", OMP_NUM_THREADS="1")
        result = self.salloc_muster("-x", "CHOSEN", "-np", "1", "env")
        self.assertEqual(result.returncode, 0, result.stderr)
        there = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
        self.assertNotIn("OF_MINE", there)
        self.assertEqual(there["CHOSEN"], "yes")
        self.assertEqual(there["HOME"], self.environment.get("HOME"))
        self.assertEqual(there["SLURM_JOB_NODELIST"], "node[1-3]")
        # The agents' step is not the workers'.
        self.assertEqual([name for name in there if re.match("SLURM_(STEP|PROCID|LOCALID|NODEID|NTASKS|NPROCS|SRUN|PMI)|PMI_FD", name)], [])
        self.assertEqual((there["PMIX_NAMESPACE"], there["PMIX_RANK"], there["PMI_RANK"]),
                         (f"muster-{there['MUSTER_JOB_ID']}-1", "0", "0"))

    def test_nothing_secret_in_arguments_or_environment(self):
        process = self.start_there("salloc", "-Q", "-N3", "-n3", MUSTER, "run", STUBBORN)
        self.await_lines(process.out, "ready ", 3)
        seen = [(pid, read(f"/proc/{pid}/cmdline") + read(f"/proc/{pid}/environ")) for pid in all_of_us()]
        # A ticket holds the certificate of the job's authority, in whatever way it is written.
        self.assertEqual([pid for pid, text in seen if b"BEGIN CERTIFICATE" in text or b"LS0tLS1CRUdJTiBD" in text or
                          re.search(rb"[A-Za-z0-9+/_-]{300}", text)], [])
        self.assertEqual(sorted(self.agents()), ["node1", "node2", "node3"])
        self.run_there("scancel", "--me")
        process.wait(DEADLINE)
        self.nothing_left()


class Network(SlurmCase):
    topology = "SwitchName=leaf0 Nodes=node[1,3]\nSwitchName=leaf1 Nodes=node2\nSwitchName=top Switches=leaf[0-1]\n"

    def test_ranks_follow_slurms_switches(self):
        result = self.salloc_muster("sh", "-c", "echo place $RANK $(hostname)")
        self.assertEqual(result.returncode, 0, result.stderr)
        places = sorted(line for line in result.stdout.splitlines() if line.startswith("place "))
        self.assertEqual(places, [f"place {rank} {node}" for rank, node in enumerate(["node1"] * 2 + ["node3"] * 2 + ["node2"] * 2)])
        status = self.run_there(MUSTER, "status", "--json")
        self.assertIn("ranks follow the network (Slurm)", json.loads(status.stdout)["plan"])

    def test_the_network_of_an_allocation_is_shown(self):
        result = self.salloc(MUSTER, "topo", "show")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual([line.split() for line in result.stdout.splitlines()],
                         [["scontrol", "show", "topology:", "3", "nodes;", "levels", "spine,", "leaf"], ["spine", "top", "3", "nodes"],
                          ["leaf", "leaf0", "2", "nodes", "node[1,3]"], ["leaf", "leaf1", "1", "node", "node2"]])
        measured = self.salloc(MUSTER, "topo", "show", "--measure", "--json", options=("-N3", "-n3"))
        self.assertEqual(measured.returncode, 0, measured.stderr)
        self.assertEqual(len(json.loads(measured.stdout)["measurements"]), 6)


class Ending(SlurmCase):
    def test_a_rank_that_fails_ends_the_job_with_its_status(self):
        result = self.salloc_muster("sh", "-c", "[ $RANK != 4 ] || exit 7; sleep 600")
        self.assertEqual(result.returncode, 7, result.stderr)
        self.assert_says(result, "rank 4", "node3")
        job, output = self.batch(f"{MUSTER} run sh -c '[ $RANK != 4 ] || exit 7; sleep 600'")
        self.assertEqual(self.wait_for_batch(job), ("FAILED", "7:0"), read(output))
        self.nothing_left()

    def restarts(self, kill):
        """A job whose workers end well when they have been started again; `kill` is called once they run."""
        process = self.start_there("salloc", "-Q", "-N3", "-n6", MUSTER, "run", "--max-restarts", "1", "sh", "-c",
                                   "echo start $TORCHELASTIC_RESTART_COUNT $(hostname); [ $TORCHELASTIC_RESTART_COUNT = 1 ] || sleep 600")
        self.await_lines(process.out, "start 0 ", 6)
        kill()
        status = process.wait(DEADLINE)
        stdout, stderr = read(process.out, "r"), read(process.err, "r")
        self.assertEqual(status, 0, stderr)
        self.assertEqual(sorted(line for line in stdout.splitlines() if " 1 " in line),
                         [f"start 1 node{node}" for node in (1, 1, 2, 2, 3, 3)])
        self.assertIn("restarting", stderr)
        self.nothing_left()
        return stderr

    def test_a_killed_agent_is_started_again(self):
        stderr = self.restarts(lambda: send(self.agents()["node2"], signal.SIGKILL))
        self.assertIn("node2", stderr)

    def test_a_killed_far_end_takes_its_agent_with_it_and_both_are_started_again(self):
        self.restarts(lambda: send(self.agents(front=True)["node3"], signal.SIGKILL))

    def test_a_killed_srun_takes_its_step_with_it(self):
        def kill():
            (srun,) = [pid for pid in all_of_us() if command_of(pid) == "srun" and "--job-name=muster" in arguments_of(pid)
                       and command_of(int(read(f"/proc/{pid}/stat", "r").rpartition(")")[2].split()[1])) == "muster"]
            send(srun, signal.SIGKILL)
        self.restarts(kill)

    def ready_in_batch(self, output, workers=6):
        self.await_lines(output, "ready ", workers)

    def test_scancel_leaves_nothing(self):
        job, output = self.batch(f"exec {MUSTER} run {STUBBORN}")
        self.ready_in_batch(output)
        self.assertEqual(self.run_there("scancel", job).returncode, 0)
        self.assertEqual(self.wait_for_batch(job)[0], "CANCELLED")
        self.nothing_left()

    def test_a_signal_to_the_steps_ends_the_job_in_order(self):
        # As #SBATCH --signal=TERM@60 does it a minute before the time limit: to the steps, not to the script.
        program = os.path.join(self.folder, "kind.sh")
        with open(program, "w", encoding="utf-8") as file:
            file.write("trap 'echo saved $RANK; exit 0' TERM\necho ready $RANK\nwhile :; do sleep 0.1; done\n")
        job, output = self.batch(f"{MUSTER} run sh {program}; echo status $?")
        self.ready_in_batch(output)
        self.assertEqual(self.run_there("scancel", "--signal=TERM", job).returncode, 0)
        self.wait_for_batch(job)
        text = read(output, "r")
        self.assertEqual(sorted(re.findall(r"^saved (\d)", text, re.MULTILINE)), list("012345"), text)
        self.assertIn("status 143", text)
        self.nothing_left()

    def test_a_killed_coordinator_leaves_nothing(self):
        stop = os.path.join(self.folder, "stop")
        process = self.start_there("salloc", "-Q", "-N3", "-n3", "sh", "-c",
                                   f"{MUSTER} run {STUBBORN}; echo status $?; until [ -e {stop} ]; do sleep 0.05; done")
        self.await_lines(process.out, "ready ", 3)
        (coordinator,) = [pid for pid in all_of_us() if arguments_of(pid)[1:2] == ["coordinator"]]
        send(coordinator, signal.SIGKILL)
        self.await_lines(process.out, "status 70", 1)
        # The allocation is still there, and nothing of the job in it.
        def of_the_job():
            return [pid for pid in all_of_us() if command_of(pid).startswith(("muster", "stubborn", "srun", "slurmstepd"))]
        poll(lambda: not of_the_job())
        self.assertEqual([arguments_of(pid) for pid in of_the_job()], [])
        with open(stop, "w", encoding="utf-8"):
            pass
        self.assertEqual(process.wait(DEADLINE), 0)
        self.nothing_left()


class Errors(SlurmCase):
    def test_no_srun(self):
        result = self.salloc("env", "PATH=/nowhere", MUSTER, "run", "/bin/true")
        self.assertNotEqual(result.returncode, 0)
        self.assert_says(result, "no srun in PATH", "slurm-client")

    def test_no_muster_on_a_node(self):
        copy = os.path.join(self.cluster_folder, "only-login", "bin")
        shutil.copytree(os.path.dirname(MUSTER), copy, dirs_exist_ok=True,
                        ignore=lambda folder, names: [name for name in names if not name.startswith("muster")])
        result = self.salloc(os.path.join(copy, "muster"), "run", "/bin/true")
        self.assertEqual(result.returncode, 69, result.stderr)
        self.assert_says(result, "no muster on node3", os.path.join(copy, "muster"), "PATH there", "--remote-muster")

    def test_an_allocation_that_is_over(self):
        result = self.salloc("sh", "-c", f"scancel $SLURM_JOB_ID; while squeue -h -j $SLURM_JOB_ID 2>&1 | grep -q ' R '; do :; done; "
                                         f"trap '' TERM HUP; exec {MUSTER} run /bin/true")
        self.assertNotEqual(result.returncode, 0)
        self.assert_says(result, "the allocation of Slurm has ended", "salloc or sbatch")

    def test_started_once_a_task(self):
        result = self.salloc("srun", "-n2", "--overlap", MUSTER, "run", "/bin/true")
        self.assertEqual(result.returncode, 64, result.stderr)
        self.assert_says(result, "start it once, without srun")

    def test_outside_of_an_allocation(self):
        result = self.run_there(MUSTER, "run", "--starter", "slurm", "/bin/true")
        self.assertEqual(result.returncode, 64, result.stderr)
        self.assert_says(result, "salloc or sbatch")


if __name__ == "__main__":
    unittest.main()

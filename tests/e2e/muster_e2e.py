"""What the end-to-end scripts share: starting the real `muster` with folders of the test's own, and looking for what it left."""
import faulthandler
import os
import shutil
import subprocess
import tempfile
import time
import unittest

MUSTER = os.environ.get("MUSTER_BIN", "muster")
TEST_BIN = os.environ.get("MUSTER_TEST_BIN", ".")
STUBBORN = os.path.join(TEST_BIN, "stubborn_worker")
# Far above what anything here takes: only a hang meets it.
DEADLINE = 60.0


class MusterCase(unittest.TestCase):
    def setUp(self):
        if int(os.environ.get("MUSTER_KILLS", "0")) <= 200:  # a soak takes its time
            # A test that hangs in spite of it says where, before ctest's own patience ends.
            faulthandler.dump_traceback_later(DEADLINE + 40, repeat=True)
            self.addCleanup(faulthandler.cancel_dump_traceback_later)
        self.folder = tempfile.mkdtemp(prefix="e2e-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.state = os.path.join(self.folder, "state")
        self.temporary = os.path.join(self.folder, "tmp")
        os.mkdir(self.temporary)
        self.environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "PYTHONPATH")}
        # train_words computes on the processor, wherever the tests run: its bits are those that they expect.
        self.environment.update(XDG_STATE_HOME=self.state, TMPDIR=self.temporary, CUDA_VISIBLE_DEVICES="")

    def muster(self, *arguments, **options):
        """Runs muster to its end; returns a CompletedProcess with text."""
        options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
        if options["stdin"] is None:
            del options["stdin"]
        return subprocess.run([MUSTER, *arguments], capture_output=True, text=True, env=options.pop("env", self.environment),
                              timeout=DEADLINE, **options)

    def start(self, *arguments, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen([MUSTER, *arguments], text=True, env=self.environment, **options)

        def end():
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        self.addCleanup(end)
        return process

    def kept_jobs(self):
        """Ids of the jobs that are kept, sorted."""
        return sorted(name for name in os.listdir(os.path.join(self.state, "muster")) if not name.startswith("."))

    def words_of(self, stderr):
        """muster's own words, without the one about OMP_NUM_THREADS, and without the progress that a slow machine shows."""
        return [line for line in stderr.splitlines() if line.startswith("muster: ") and "OMP_NUM_THREADS" not in line
                and not line.startswith("muster: starting: ")]

    def assert_says(self, result, *parts):
        for part in parts:
            self.assertIn(part, result.stderr)


def poll(condition, seconds=DEADLINE):
    """Waits for `condition` to be true; returns its last value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.005)


def read(path, mode="rb"):
    try:
        # A process may call itself by any bytes.
        with open(path, mode, errors=None if "b" in mode else "surrogateescape") as file:
            return file.read()
    except OSError:
        return b"" if "b" in mode else ""


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def processes_of(job_id):
    """Living processes (no zombies) that have the job in their environment."""
    mark = b"MUSTER_JOB_ID=" + job_id.encode()
    return [pid for pid in all_pids() if mark in read(f"/proc/{pid}/environ")]


def parent_of(pid):
    text = read(f"/proc/{pid}/stat", "r")
    return int(text[text.rindex(")") + 2:].split()[1]) if ")" in text else 0


def command_of(pid):
    return read(f"/proc/{pid}/comm", "r").strip()


def children_of(pid):
    return [child for child in all_pids() if parent_of(child) == pid]


def net_of(pid):
    """The network namespace it is in; None where it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


def tree_of(pid):
    """A process and all its living descendants."""
    found, open_pids = [], [pid]
    while open_pids:
        one = open_pids.pop()
        found.append(one)
        open_pids.extend(children_of(one))
    return found


def keeper_and_guard_of(muster_pid):
    """Process ids of muster's child, which keeps the guard, and of the guard, the parent of the workers; 0 where there is none."""
    keeper = next((pid for pid in children_of(muster_pid) if command_of(pid) == "muster-guard"), 0)
    guard = next((pid for pid in children_of(keeper) if command_of(pid) == "muster-guard"), 0) if keeper else 0
    return keeper, guard


def sockets_named(part):
    return [line for line in read("/proc/net/unix", "r").splitlines() if part in line]


def memory_named(part):
    """Processes that hold or map a memfd whose name has this part."""
    found = []
    for pid in all_pids():
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            links = []
        if any(part in link for link in links) or part in read(f"/proc/{pid}/maps", "r"):
            found.append(pid)
    return found


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass

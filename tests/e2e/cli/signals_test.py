"""Ctrl-C and its kin, typed on a terminal of the test's own."""
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import fcntl
import unittest

from muster_e2e import MUSTER, DEADLINE, STUBBORN, MusterCase, poll, processes_of, read, send


class Terminal:
    """muster on a pty, in the foreground, as a shell would start it."""

    def __init__(self, case, *arguments, columns=100):
        self.text = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            for number in (signal.SIGINT, signal.SIGHUP):  # also where this script is started in the background, or under nohup
                signal.signal(number, signal.SIG_DFL)
            os.execve(MUSTER, [MUSTER, *arguments], case.environment)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.status = None
        case.addCleanup(self.end)

    def end(self):
        if self.status is None:
            send(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)

    def pump(self, seconds=0.01):
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.text += os.read(self.master, 65536)
            except OSError:  # the last one on the other side has closed it
                time.sleep(0.001)

    def expect(self, part):
        end = time.monotonic() + DEADLINE
        while part.encode() not in self.text:
            if time.monotonic() > end:
                raise AssertionError(f"no {part!r} in {self.text!r}")
            self.pump()

    def type(self, text):
        os.write(self.master, text.encode())

    def wait(self):
        """The exit status, and the seconds it took to come: a slow machine's may be many."""
        begin = time.monotonic()
        while time.monotonic() < begin + DEADLINE:
            self.pump()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                for _ in range(20):
                    self.pump(0)
                return self.status, time.monotonic() - begin
        raise AssertionError(f"muster does not end: {self.text!r}")


def states_of(job_id):
    """What the job's processes do: "S", "T", ..."""
    return {state for pid in processes_of(job_id) for state in read(f"/proc/{pid}/stat", "r").rsplit(")", 1)[-1].split()[:1]}


KIND = "trap 'echo caught $RANK; exit 0' TERM; echo ready $MUSTER_JOB_ID; while :; do sleep 0.05; done"
DEAF = "trap '' TERM INT HUP; echo ready $MUSTER_JOB_ID; while :; do sleep 0.05; done"

NEVER = str(10 * DEADLINE)  # as a grace: whoever ends does not because it is over


class Signals(MusterCase):
    RUN = ("run",)
    TIMEOUT = "2"  # workers have begun by then

    def ready(self, terminal, workers):
        end = time.monotonic() + DEADLINE
        while terminal.text.count(b"ready ") < workers or not terminal.text.endswith(b"\n"):
            self.assertLess(time.monotonic(), end, terminal.text)
            terminal.pump()
        return terminal.text.split(b"ready ")[1].split()[0].decode()

    def nothing_left(self, job_id):
        self.assertTrue(poll(lambda: not processes_of(job_id)), processes_of(job_id))

    def test_ctrl_c_once_ends_the_workers_kindly(self):
        terminal = Terminal(self, *self.RUN, "--kill-grace", NEVER, "-np", "3", "sh", "-c", KIND)
        job_id = self.ready(terminal, 3)
        terminal.type("\x03")
        status, _ = terminal.wait()
        self.assertEqual(status, 130, terminal.text)
        self.assertEqual(terminal.text.count(b"caught"), 3, terminal.text)
        self.nothing_left(job_id)

    def test_ctrl_c_once_kills_deaf_workers_when_their_time_is_over(self):
        terminal = Terminal(self, *self.RUN, "--kill-grace", "1", "-np", "2", "sh", "-c", DEAF)
        job_id = self.ready(terminal, 2)
        terminal.type("\x03")
        status, seconds = terminal.wait()
        self.assertEqual(status, 130, terminal.text)
        self.assertGreater(seconds, 0.9)  # they had it
        self.assertIn(b"Ctrl-C once more", terminal.text)
        self.nothing_left(job_id)

    def test_ctrl_c_twice_ends_them_now(self):
        terminal = Terminal(self, *self.RUN, "--kill-grace", NEVER, "-np", "2", "sh", "-c", DEAF)
        job_id = self.ready(terminal, 2)
        terminal.type("\x03")
        terminal.expect("Ctrl-C once more")
        terminal.type("\x03")
        status, _ = terminal.wait()
        self.assertEqual(status, 130, terminal.text)
        self.nothing_left(job_id)

    def test_ctrl_c_reaches_those_that_left_by_setsid(self):
        terminal = Terminal(self, *self.RUN, "--kill-grace", NEVER, "-np", "2", STUBBORN)
        job_id = self.ready(terminal, 2)
        self.assertGreaterEqual(len(processes_of(job_id)), 6)
        terminal.type("\x03")
        terminal.expect("Ctrl-C once more")
        terminal.type("\x03")
        status, _ = terminal.wait()
        self.assertEqual(status, 130, terminal.text)
        self.nothing_left(job_id)

    def test_sigterm_and_sighup(self):
        for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)):
            process = self.start(*self.RUN, "-np", "2", "sh", "-c", KIND)
            job_id = process.stdout.readline().split()[1]
            process.stdout.readline()
            process.send_signal(number)
            out, err = process.communicate(timeout=DEADLINE)
            self.assertEqual(process.returncode, code, err)
            self.assertEqual(out.count("caught"), 2, out)
            self.assertLessEqual(len(self.words_of(err)), 1, err)
            self.nothing_left(job_id)

    def test_sigusr1_and_sigusr2_are_the_programs_own(self):
        program = "trap 'echo one' USR1; trap 'echo two; exit 0' USR2; echo ready; while :; do sleep 0.05; done"
        process = self.start(*self.RUN, "-np", "2", "sh", "-c", program)
        self.assertEqual([process.stdout.readline() for _ in range(2)], ["ready\n"] * 2)
        process.send_signal(signal.SIGUSR1)
        self.assertEqual([process.stdout.readline() for _ in range(2)], ["one\n"] * 2)
        process.send_signal(signal.SIGUSR2)
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual((process.returncode, out), (0, "two\n" * 2), err)

    def test_a_terminal_that_closes_ends_the_job(self):
        terminal = Terminal(self, *self.RUN, "--kill-grace", "0.5", "-np", "2", STUBBORN)
        job_id = self.ready(terminal, 2)
        os.close(terminal.master)
        terminal.master = os.open("/dev/null", os.O_RDONLY)
        self.assertTrue(poll(lambda: not processes_of(job_id)), processes_of(job_id))

    def test_ignored_signals_stay_ignored(self):
        process = subprocess.Popen(["sh", "-c", 'trap "" HUP; exec "$0" "$@"', MUSTER, "run", "-np", "1", "sh", "-c",
                                    "echo ready; read line; echo got $line"], env=self.environment, text=True, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate("on\n", timeout=DEADLINE)
        self.assertEqual((process.returncode, out), (0, "got on\n"), err)

    def test_ctrl_z_stops_the_workers_and_fg_goes_on(self):
        terminal = Terminal(self, *self.RUN, "-np", "2", "sh", "-c", "echo ready $MUSTER_JOB_ID; exec sleep 60")
        job_id = self.ready(terminal, 2)
        states = lambda: states_of(job_id)
        self.assertTrue(poll(lambda: states() == {"S"}), states())
        os.kill(terminal.pid, signal.SIGTSTP)
        self.assertTrue(poll(lambda: states() == {"T"}), states())
        stopped = poll(lambda: os.WIFSTOPPED(os.waitpid(terminal.pid, os.WUNTRACED | os.WNOHANG)[1]))
        self.assertTrue(stopped, "muster itself does not stop")
        os.kill(terminal.pid, signal.SIGCONT)
        self.assertTrue(poll(lambda: states() == {"S"}), states())
        terminal.type("\x03")
        self.assertEqual(terminal.wait()[0], 130)

    def test_ctrl_z_just_when_workers_start(self):
        for _ in range(10):
            # A worker may be heard before muster has been told that it runs.
            terminal = Terminal(self, *self.RUN, "-np", "3", "sh", "-c", "echo ready $MUSTER_JOB_ID; while :; do sleep 0.05; done")
            job_id = self.ready(terminal, 1)
            os.kill(terminal.pid, signal.SIGTSTP)
            stopped = poll(lambda: os.WIFSTOPPED(os.waitpid(terminal.pid, os.WUNTRACED | os.WNOHANG)[1]))
            self.assertTrue(stopped, "muster itself does not stop")
            states = lambda: states_of(job_id)
            self.assertTrue(poll(lambda: states() <= {"T", "D"}), states())  # D: a shell whose child is stopped before its exec
            os.kill(terminal.pid, signal.SIGCONT)
            terminal.type("\x03")
            self.assertEqual(terminal.wait()[0], 130)

    def test_workers_have_a_terminal_with_its_size(self):
        terminal = Terminal(self, *self.RUN, "-np", "2", "sh", "-c", "[ -t 1 ] && stty size <&1")
        self.assertEqual(terminal.wait()[0], 0, terminal.text)
        self.assertEqual(terminal.text.count(b"40 100"), 2, terminal.text)

    def test_timeout_kills_the_deaf(self):
        process = self.start(*self.RUN, "-np", "2", "--timeout", self.TIMEOUT, "--kill-grace", "0.5", STUBBORN)
        job_id = process.stdout.readline().split()[1]
        _, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 124, err)
        self.nothing_left(job_id)


class SignalsOverNodes(Signals):
    """The same with agents and coordinator in processes of their own."""
    RUN = ("run", "--nodes", "2")
    TIMEOUT = "5"  # agents are started first
    test_ignored_signals_stay_ignored = None  # of one worker


if __name__ == "__main__":
    unittest.main()

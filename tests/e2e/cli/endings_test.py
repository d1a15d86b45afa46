"""How jobs end when somebody asks them to: who asked, how much time workers have, what --timeout tells of each rank."""
import json
import os
import pwd
import signal
import socket
import subprocess
import unittest

from muster_e2e import DEADLINE, TEST_BIN, MusterCase, all_pids, parent_of, poll, processes_of, read, send

JOINED = os.path.join(TEST_BIN, "session_worker")  # linked with libmuster
USER = pwd.getpwuid(os.getuid()).pw_name
# Says each SIGTERM it gets, and ends at the second or when it has had half a second for it.
COUNTS = ("trap 'echo term; n=$((n+1))' TERM; echo ready $MUSTER_JOB_ID; "
          "while [ -z \"$n\" ]; do sleep 0.02; done; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.05; done; echo ended $n")
DEAF = "trap '' TERM INT HUP USR1; echo ready $MUSTER_JOB_ID; while :; do sleep 0.05; done"


def words(pid):
    return [word.decode() for word in read(f"/proc/{pid}/cmdline").split(b"\0")]


class Endings(MusterCase):
    RUN = ("run",)
    TIMEOUT = "2"

    def started(self, workers, *arguments, **options):
        process = self.start(*self.RUN, "-np", str(workers), *arguments, **options)
        for _ in range(workers):
            line = process.stdout.readline().split()
            self.assertEqual(line[:1], ["ready"], line)
        return process, line[1]

    def end(self, process, code):
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, code, err)
        return out, self.words_of(err)

    def verdict(self, process, code):
        return self.end(process, code)[1][-1]

    def report(self, name="report.json"):
        with open(os.path.join(self.folder, name), encoding="utf-8") as file:
            return json.load(file)

    # --- Who asked ---

    def test_the_sender_of_a_signal_is_named(self):
        process, _ = self.started(2, "sh", "-c", "echo ready $MUSTER_JOB_ID; exec sleep 60")
        process.send_signal(signal.SIGTERM)
        self.assertRegex(self.verdict(process, 143), rf"^muster: terminated \(SIGTERM\) by process {os.getpid()} \(.*\) of user {USER}$")

    def test_muster_cancel_is_named(self):
        process, job_id = self.started(2, "sh", "-c", "echo ready $MUSTER_JOB_ID; exec sleep 60")
        cancelled = self.muster("cancel", job_id)
        self.assertEqual(cancelled.returncode, 0, cancelled.stderr)
        sentence = f"terminated (SIGTERM) by muster cancel of {USER}@{socket.gethostname()}"
        self.assertIn(sentence, cancelled.stderr)
        self.assertEqual(self.verdict(process, 143), f"muster: {sentence}")

    # --- How much time ---

    def test_kill_grace_is_the_time_of_the_deaf(self):
        process, job_id = self.started(2, "--kill-grace", "0.3", "sh", "-c", DEAF)
        process.send_signal(signal.SIGTERM)
        self.verdict(process, 143)
        self.assertTrue(poll(lambda: not processes_of(job_id)))
        # Far less would have killed this one.
        process, _ = self.started(2, "--kill-grace", "30", "sh", "-c", "trap 'sleep 1; echo saved; exit 0' TERM; echo ready $MUSTER_JOB_ID; "
                                  "while :; do sleep 0.02; done")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process, 143)[0], "saved\n" * 2)

    def test_failure_grace_is_the_time_of_the_others(self):
        out = self.muster(*self.RUN, "-np", "2", "--failure-grace", "30", "sh", "-c",
                          "trap 'sleep 1; echo saved; exit 0' TERM; [ $RANK = 0 ] && while :; do sleep 0.02; done; sleep 0.3; exit 3")
        self.assertEqual((out.returncode, out.stdout), (3, "saved\n"), out.stderr)

    def test_stop_signal_is_what_workers_get_first(self):
        process, _ = self.started(2, "--stop-signal", "SIGUSR1", "sh", "-c",
                                  "trap 'echo one; exit 0' USR1; trap 'echo term' TERM; echo ready $MUSTER_JOB_ID; while :; do sleep 0.02; done")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process, 143)[0], "one\n" * 2)
        for wrong in ("NONE", "KILL", "77"):
            self.assertEqual(self.muster("run", "--stop-signal", wrong, "true").returncode, 64)

    # --- The time limit ---

    def test_timeout_names_the_rank_that_has_not_called(self):
        report = os.path.join(self.folder, "report.json")
        process, _ = self.started(4, "--timeout", self.TIMEOUT, "--report", report, JOINED, "hold", "2")
        sentence = self.verdict(process, 124)
        self.assertRegex(sentence, r"stopped by --timeout .*: rank 2 on host \S+ has not called all_reduce of 50000 f32 \(op (\d+)\); "
                         r"its last call, op \d+, ended .* before; its process \d+ sleeps.*; ranks 0, 1, 3 are in all_reduce of 50000 f32 "
                         r"\(op \1\) since ")
        told = self.report()
        self.assertEqual((told["rank"], told["where"][0]["ranks"], told["where"][1]["ranks"]), (2, [2], [0, 1, 3]))
        at = [rank["at_timeout"] for rank in told["ranks"]]
        self.assertEqual([state["operation_finished"] for state in at], [False, False, True, False])
        self.assertEqual({at[0]["operation_number"] - 1, at[1]["operation_number"] - 1}, {at[2]["operation_number"]})

    def test_timeout_names_a_stopped_process_and_one_that_runs(self):
        program = "[ $RANK = 1 ] && kill -STOP $$; [ $RANK = 2 ] && while :; do :; done; exec sleep 60"
        err = self.muster(*self.RUN, "-np", "3", "--timeout", self.TIMEOUT, "--kill-grace", "0.5", "sh", "-c", program).stderr
        self.assertRegex(err, r"rank 1 on host \S+ runs without a session of libmuster; its process \d+ is stopped")
        self.assertRegex(err, r"rank 2 on host \S+ runs without a session of libmuster; its process \d+ runs \(")

    def test_what_cannot_be_written_twice_at_one_step_is_not_tried_a_third_time(self):
        result = self.muster(*self.RUN, "-np", "2", "--max-restarts", "9", "sh", "-c", "exit 73")
        self.assertEqual(result.returncode, 73, result.stderr)
        self.assert_says(result, "could not write at the same step the last time either")
        self.assertEqual(result.stderr.count("restarting all 2 workers"), 1, result.stderr)

    # --- Signals that come to more than one process ---

    def test_usr1_is_ignored_by_all_but_the_program(self):
        process, _ = self.started(2, "sh", "-c", "trap 'echo one; exit 0' USR1; echo ready $MUSTER_JOB_ID; while :; do sleep 0.02; done")
        for pid in self.ours(process):
            send(pid, signal.SIGUSR1)
        self.assertEqual(set(self.end(process, 0)[0].split()), {"one"})

    def ours(self, process):
        """muster and all of its own processes, as a batch system would find them; no worker."""
        found, open_pids = [], [process.pid]
        while open_pids:
            one = open_pids.pop()
            if os.path.basename(words(one)[0]) in ("muster", "muster-guard", os.path.basename(os.environ.get("MUSTER_BIN", ""))):
                found.append(one)
                open_pids.extend(pid for pid in all_pids() if parent_of(pid) == one)
        return found

    def test_a_sigterm_to_every_process_reaches_workers_once(self):
        process, job_id = self.started(2, "sh", "-c", COUNTS)
        for pid in self.ours(process):
            send(pid, signal.SIGTERM)
        out, _ = self.end(process, 143)
        self.assertEqual(sorted(out.split("\n")[:-1]), ["ended 1"] * 2 + ["term"] * 2)
        self.assertTrue(poll(lambda: not processes_of(job_id)))


class EndingsOverNodes(Endings):
    RUN = ("run", "--nodes", "2")
    TIMEOUT = "5"  # agents are started first

    def agents(self, process):
        return [pid for pid in self.ours(process) if words(pid)[1:2] == ["agent"]]

    def test_an_agent_that_is_asked_to_end_ends_the_job_as_kindly(self):
        process, _ = self.started(2, "sh", "-c", COUNTS)
        os.kill(self.agents(process)[0], signal.SIGTERM)
        out, told = self.end(process, 143)
        self.assertEqual(sorted(out.split("\n")[:-1]), ["ended 1"] * 2 + ["term"] * 2)
        self.assertRegex(told[-1], rf"terminated \(SIGTERM\) by the agent on host node[01], which was asked by process {os.getpid()} ")

    def test_an_agent_that_is_asked_to_end_is_replaced_where_that_is_allowed(self):
        process, _ = self.started(2, "--max-restarts", "1", "sh", "-c", "echo ready $MUSTER_JOB_ID; "
                                  "[ $TORCHELASTIC_RESTART_COUNT = 1 ] && exit 0; exec sleep 60")
        os.kill(self.agents(process)[1], signal.SIGTERM)
        told = self.end(process, 0)[1]
        self.assertTrue(any("was asked to end with SIGTERM" in line and "restarting all 2 workers" in line for line in told), told)


if __name__ == "__main__":
    unittest.main()

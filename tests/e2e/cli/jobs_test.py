"""Jobs that are restarted, detached, looked at and ended from outside."""
import json
import os
import re
import signal
import subprocess
import unittest

from muster_e2e import DEADLINE, MUSTER, MusterCase, children_of, command_of, poll, processes_of, read, send

# The first `failures` generations end with rank 1's exit code 7.
FAILS_FIRST = ('[ "$RANK" = 1 ] && [ "$TORCHELASTIC_RESTART_COUNT" -lt {failures} ] && exit 7; '
               'echo "rank $RANK of try $TORCHELASTIC_RESTART_COUNT of $TORCHELASTIC_MAX_RESTARTS"')
WAITS = 'echo "out $RANK"; echo "err $RANK" >&2; while :; do sleep 0.05; done'


class Job(MusterCase):
    def folders(self):
        parent = os.path.join(self.state, "muster")
        return [os.path.join(parent, name) for name in os.listdir(parent) if re.fullmatch("[0-9a-f]{32}", name)]

    def folder_of(self):
        [folder] = self.folders()
        return folder

    def said(self, result):
        """muster's own words, without those that a slow machine adds."""
        return [line for line in self.words_of(result.stderr) if "starting: " not in line]

    def status(self, *arguments):
        result = self.muster("status", "--json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def events(self, *arguments):
        result = self.muster("events", "--json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def running(self, *arguments):
        """Starts a job that waits, attached; its id once all workers have written."""
        process = self.start("run", *arguments, "sh", "-c", WAITS)
        for _ in range(int(arguments[arguments.index("-np") + 1]) if "-np" in arguments else 1):
            line = process.stdout.readline()
            self.assertIn("out ", line)
        job = next(job for job in json.loads(self.muster("ps", "--json").stdout))
        self.addCleanup(lambda: [send(pid, signal.SIGKILL) for pid in processes_of(job["job_id"])])
        return process, job["job_id"]

    def detached(self, *arguments):
        result = self.muster("run", "--detach", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        job_id = result.stdout.strip()
        self.assertRegex(job_id, "^[0-9a-f]{32}$")
        self.addCleanup(self.muster, "cancel", "--now", job_id)
        return job_id, result


class Restarts(Job):
    def fails_first(self, failures, restarts, *arguments):
        report = os.path.join(self.folder, "report.json")
        result = self.muster("run", "-np", "3", "--max-restarts", str(restarts), "--report", report, *arguments, "sh", "-c",
                             FAILS_FIRST.format(failures=failures))
        with open(report, encoding="utf-8") as file:
            return result, json.load(file)

    def check_recovers(self, *arguments):
        result, report = self.fails_first(2, 3, *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        notes = self.said(result)
        self.assertEqual(len(notes), 2, result.stderr)
        for number, note in enumerate(notes, 1):
            self.assertRegex(note, rf"rank 1 on host \S+ exited with code 7.*; restarting all 3 workers, restart {number} of 3$")
        self.assertEqual(sum("of try 2 of 3" in line for line in result.stdout.splitlines()), 3, result.stdout)
        self.assertEqual((report["exit_code"], report["restarts"], report["checkpoint_step"]), (0, 2, None))
        self.assertEqual([(one["rank"], one["class"]) for one in report["generations"]], [(1, "exit code")] * 2)
        self.assertEqual([one["generation"] for one in report["generations"]], [1, 2])
        status = self.status()
        self.assertEqual((status["state"], status["restarts"], status["generation"]), ("done", 2, 3))
        self.assertEqual([one["generation"] for one in status["history"]], [1, 2])
        kinds = [event["kind"] for event in self.events()]
        self.assertEqual(kinds.count("restarting"), 2, kinds)
        self.assertEqual(kinds[-1], "verdict")

    def test_a_program_that_fails_twice_and_then_succeeds(self):
        self.check_recovers()

    def test_the_same_over_two_nodes(self):
        self.check_recovers("--nodes", "2")

    def check_exhausted(self, *arguments):
        result, report = self.fails_first(100, 2, *arguments)
        self.assertEqual(result.returncode, 7, result.stderr)
        words = self.said(result)
        self.assertEqual(len(words), 3, result.stderr)
        self.assertRegex(words[-1], r"rank 1 on host \S+ exited with code 7.*--max-restarts 2")
        self.assertEqual((report["restarts"], len(report["generations"]), report["origin"]), (2, 2, "worker"))
        self.assertEqual(self.status()["state"], "failed")

    def test_no_restart_is_left(self):
        self.check_exhausted()

    def test_no_restart_is_left_over_two_nodes(self):
        self.check_exhausted("--nodes", "2")

    def test_what_another_try_cannot_cure_is_not_tried_again(self):
        result = self.muster("run", "-np", "2", "--max-restarts", "5", "no-such-program")
        self.assertEqual(result.returncode, 127)
        self.assertEqual(len(self.said(result)), 1, result.stderr)
        process = self.start("run", "-np", "2", "--max-restarts", "5", "sh", "-c", WAITS)
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(DEADLINE), 130)
        self.assertNotIn("restart", process.stderr.read())


class Looking(Job):
    def test_without_a_job(self):
        self.assertEqual(self.muster("ps").stdout.splitlines()[0].split()[0], "JOB")
        self.assertEqual(json.loads(self.muster("ps", "--json").stdout), [])
        for command in ("status", "events", "logs", "cancel"):
            result = self.muster(command)
            self.assertEqual(result.returncode, 64)
            self.assert_says(result, "no job is kept", self.state)

    def test_a_job_that_is_over(self):
        self.muster("run", "-np", "2", "sh", "-c", 'echo "out $RANK"; echo "err $RANK" >&2; exit $RANK')
        self.assertEqual(len(self.muster("ps").stdout.splitlines()), 1)
        [_, line] = self.muster("ps", "--all").stdout.splitlines()
        self.assertIn(" failed ", line)
        screen = self.muster("status").stdout
        self.assertRegex(screen, r"verdict +exit status 1: rank 1 on host")
        self.assertIn(self.folder_of(), screen)
        self.assertEqual(self.status()["verdict"]["exit_code"], 1)
        self.assertEqual(self.muster("logs").stdout, "[0] out 0\n[1] out 1\n")
        self.assertEqual(self.muster("logs", "--stderr", "--follow").stdout, "[0] err 0\n[1] err 1\n")
        self.assertEqual(self.muster("logs", "--rank", "1").stdout, "out 1\n")
        result = self.muster("logs", "--rank", "2")
        self.assertEqual(result.returncode, 64)
        self.assert_says(result, "--rank 2", "ranks 0 to 1")
        self.assertEqual(self.muster("events", "--follow").stdout, self.muster("events").stdout)
        result = self.muster("cancel")
        self.assertEqual(result.returncode, 0)
        self.assert_says(result, "is over already", "rank 1")
        result = self.muster("status", "xyz")
        self.assertEqual(result.returncode, 64)
        self.assert_says(result, "no job xyz", os.path.basename(self.folder_of())[:8])

    def test_logs_of_some_ranks_and_their_last_lines(self):
        for nodes in ([], ["--nodes", "2", "--node-network", "host"]):
            self.muster("run", "-np", "4", *nodes, "sh", "-c", 'for i in 1 2 3; do echo "out $i"; echo "err $i" >&2; done')
            self.assertEqual(self.muster("logs", "--rank", "0,2-3", "--tail", "1").stdout, "".join(f"[{rank}] out 3\n" for rank in (0, 2, 3)))
            self.assertEqual(self.muster("logs", "--rank", "1", "--stderr", "-n", "2").stdout, "err 2\nerr 3\n")
            self.assertEqual(self.muster("logs", "--rank", "1", "--stdout", "--stderr", "--tail=1").stdout, "[1] out 3\n[1 err] err 3\n")
            self.assertEqual(self.muster("logs", "--tail", "0").stdout, "")
        for wrong, word in (("2-1", '"2-1" is no rank'), ("0,4", "ranks 0 to 3"), ("x", "such as 3 or 0,2-5")):
            result = self.muster("logs", "--rank", wrong)
            self.assertEqual(result.returncode, 64)
            self.assert_says(result, f"--rank {wrong}", word)

    def test_following_the_last_lines_to_the_end(self):
        go = os.path.join(self.folder, "go")
        process = self.start("run", "-np", "2", "sh", "-c", f'echo old; echo new; while [ ! -e {go} ]; do sleep 0.02; done; echo last')
        for _ in range(4):
            process.stdout.readline()
        follower = self.start("logs", "--follow", "--rank", "1", "--tail", "1")
        self.assertEqual(follower.stdout.readline(), "new\n")
        with open(go, "w", encoding="utf-8"):
            pass
        self.assertEqual(follower.stdout.read(), "last\n")
        self.assertEqual(follower.wait(DEADLINE), 0)

    def test_a_job_that_runs(self):
        process, job_id = self.running("-np", "2")
        status = poll(lambda: (lambda one: one if one["state"] == "running" else None)(self.status(job_id[:6])))
        self.assertEqual([rank["state"] for rank in status["ranks"]], ["running"] * 2)
        self.assertEqual((status["workers"], status["workers_now"], status["running"], status["verdict"]), (2, 2, True, None))
        [_, line] = self.muster("ps").stdout.splitlines()
        self.assertIn("running", line)
        self.assertIn(job_id[:8], line)
        follower = self.start("logs", "--follow", "--rank", "1")
        self.assertEqual(follower.stdout.readline(), "out 1\n")
        watcher = self.start("events", "--follow", job_id)
        self.assertIn("started", watcher.stdout.readline())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(DEADLINE), 143)
        self.assertEqual(follower.wait(DEADLINE), 0)
        self.assertEqual(watcher.wait(DEADLINE), 0)
        self.assertIn("verdict", watcher.stdout.read())

    def test_a_job_whose_muster_was_killed_is_lost(self):
        process, job_id = self.running("-np", "2")
        process.kill()
        process.wait()
        self.assertTrue(poll(lambda: not processes_of(job_id)))
        self.assertIn("lost: its coordinator died", self.muster("status").stdout)
        [job] = json.loads(self.muster("ps", "--all", "--json").stdout)
        self.assertEqual((job["state"], job["running"]), ("lost", False))
        result = self.muster("cancel", job_id)
        self.assertEqual(result.returncode, 0)
        self.assert_says(result, "is over already", "died")
        self.assertEqual(self.muster("logs", "--follow").stdout, "[0] out 0\n[1] out 1\n")

    def test_a_job_that_could_not_start_says_why(self):
        blocked = os.path.join(self.folder, "file")
        with open(blocked, "w", encoding="utf-8"):
            pass
        self.assertEqual(self.muster("run", "true", env={**self.environment, "TMPDIR": blocked}).returncode, 73)
        self.assertRegex(self.muster("status").stdout, f"verdict +exit status 73: .*{blocked}")

    def test_a_reader_that_goes_ends_a_follower(self):
        self.running("-np", "1")
        result = subprocess.run(["sh", "-c", '"$0" logs --follow | head -n 1', MUSTER], capture_output=True, text=True,
                                env=self.environment, timeout=DEADLINE, check=False)
        self.assertEqual(result.stdout, "out 0\n")

    def test_the_newest_twenty_jobs_are_kept(self):
        for _ in range(23):
            self.muster("run", "-np", "1", "true")
        self.assertEqual(len(self.folders()), 20)
        self.assertEqual(len(json.loads(self.muster("ps", "--all", "--json").stdout)), 20)


class Cancelling(Job):
    def test_kindly(self):
        process, job_id = self.running("-np", "2")
        result = self.muster("cancel", job_id)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_says(result, "has ended", "exit status 143")
        self.assertEqual(process.wait(DEADLINE), 143)
        self.assertEqual(processes_of(job_id), [])

    def test_at_once(self):
        for arguments in ([], ["--nodes", "2"]):
            process = self.start("run", "-np", "2", *arguments, "sh", "-c",
                                 "trap '' TERM INT HUP; echo ready; while :; do sleep 0.05; done")
            for _ in range(2):
                self.assertEqual(process.stdout.readline(), "ready\n")
            result = self.muster("cancel", "--now")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(process.wait(DEADLINE), 143)
            verdict = self.status()["verdict"]
            self.assertEqual([rank["signal"] for rank in verdict["ranks"]], [9, 9], verdict)

    def test_a_number_in_the_lock_file_is_not_believed(self):
        bystander = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        process, job_id = self.running("-np", "1")
        lock = os.path.join(self.folder_of(), "lock")
        text = read(lock)
        with open(lock, "r+b") as file:
            file.truncate()
            file.write(f"{bystander.pid}\n".encode())
        result = self.muster("cancel", job_id)
        self.assertEqual(result.returncode, 70)
        self.assert_says(result, str(bystander.pid))
        self.assertIsNone(bystander.poll())
        with open(lock, "r+b") as file:
            file.truncate()
            file.write(text)
        self.assertEqual(self.muster("cancel", job_id).returncode, 0)
        process.wait(DEADLINE)


class Detached(Job):
    def test_it_runs_on_and_is_looked_at(self):
        for arguments in ([], ["--nodes", "2"]):
            job_id, result = self.detached("-np", "2", *arguments, "sh", "-c", WAITS)
            self.assert_says(result, f"muster status {job_id[:8]}", "muster logs", "muster cancel")
            self.assertEqual(self.status(job_id)["state"], "running")
            self.assertTrue(self.status(job_id)["detached"])
            self.assertTrue(poll(lambda: self.muster("logs", job_id).stdout == "[0] out 0\n[1] out 1\n"))
            self.assertEqual(self.muster("cancel", job_id).returncode, 0)
            self.assertEqual(self.status(job_id)["verdict"]["exit_code"], 143)
            self.assertEqual(processes_of(job_id), [])

    def test_it_ends_by_itself(self):
        go = os.path.join(self.folder, "go")
        job_id, _ = self.detached("-np", "2", "sh", "-c", f'while [ ! -e {go} ]; do sleep 0.02; done; echo "rank $RANK"; exit $RANK')
        follower = self.start("events", "--follow", job_id)
        with open(go, "w", encoding="utf-8"):
            pass
        self.assertEqual(follower.wait(DEADLINE), 0)
        self.assertEqual(self.status()["verdict"]["exit_code"], 1)
        self.assertEqual(self.muster("logs", "--rank", "1").stdout, "rank 1\n")

    def test_what_cannot_start_is_said(self):
        script = os.path.join(self.folder, "broken")
        with open(script, "w", encoding="utf-8") as file:
            file.write("#!/no/such/interpreter\n")
        os.chmod(script, 0o755)
        result = self.muster("run", "-np", "2", "--detach", script)
        self.assertEqual(result.returncode, 126, result.stderr)
        self.assert_says(result, "broken")
        self.assertEqual(result.stdout, "")


class Nodes(Job):
    def test_standard_input_reaches_rank_0_whole(self):
        text = "".join(f"line {i}\n" for i in range(50000))
        result = self.muster("run", "-np", "2", "--nodes", "2", "sh", "-c", 'cat; echo "end $RANK" >&2', input=text)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, text)

    def test_a_worker_that_does_not_read_does_not_hinder(self):
        result = self.muster("run", "-np", "2", "--nodes", "2", "true", input="x" * 1000000)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_signals_reach_the_workers(self):
        process = self.start("run", "-np", "2", "--nodes", "2", "sh", "-c",
                             'trap \'echo "usr1 $RANK"; exit 0\' USR1; echo ready; while :; do sleep 0.05; done')
        for _ in range(2):
            self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(signal.SIGUSR1)
        self.assertEqual(process.wait(DEADLINE), 0)
        self.assertEqual(sorted(process.stdout.read().split("\n")), ["", "usr1 0", "usr1 1"])

    def test_timeout_and_the_workers_own_code(self):
        result = self.muster("run", "-np", "2", "--nodes", "2", "--timeout", "0.5", "sleep", "60")
        self.assertEqual(result.returncode, 124, result.stderr)
        result = self.muster("run", "-np", "2", "--nodes", "2", "sh", "-c", '[ "$RANK" = 1 ] && kill -KILL $$; exec sleep 60')
        self.assertEqual(result.returncode, 137, result.stderr)
        self.assertEqual(len(self.said(result)), 1, result.stderr)

    def test_nothing_outlives_a_killed_muster(self):
        process, job_id = self.running("-np", "2", "--nodes", "2")
        process.kill()
        process.wait()
        self.assertTrue(poll(lambda: not processes_of(job_id)), processes_of(job_id))

    def coordinator_of(self, process):
        [coordinator] = [pid for pid in children_of(process.pid) if command_of(pid) == "muster"]
        return coordinator

    def lose_node_1(self, *arguments):
        """The job's second try prints its size and ends."""
        process = self.start("run", "-np", "4", "--nodes", "2", "--max-restarts", "1", *arguments, "sh", "-c",
                             '[ "$TORCHELASTIC_RESTART_COUNT" = 1 ] && echo "size $WORLD_SIZE" && exit 0; echo ready; '
                             'while :; do sleep 0.05; done')
        for _ in range(4):
            self.assertEqual(process.stdout.readline(), "ready\n")
        if "--spares" in arguments:
            self.assertTrue(poll(lambda: "host node2 joined" in self.muster("events").stdout), self.muster("events").stdout)
        [agent] = [pid for pid in children_of(self.coordinator_of(process)) if b"\0node1\0" in read(f"/proc/{pid}/cmdline")]
        send(agent, signal.SIGKILL)
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 0, err)
        self.assertRegex(err, r"host node1 was lost.*; restarting (all|2 to) 4 workers, restart 1 of 1")
        return out

    def test_a_lost_node_comes_back(self):
        self.assertEqual(self.lose_node_1(), "size 4\n" * 4)

    def test_a_lost_node_is_not_waited_for_longer_than_the_last_call(self):
        # No agent can be started, make itself known and join in a millisecond.
        self.assertEqual(self.lose_node_1("--min-np", "2", "--last-call", "0.001"), "size 2\n" * 2)
        status = self.status()
        self.assertEqual((status["workers"], status["workers_min"], status["workers_now"]), (4, 2, 2))

    def test_a_spare_takes_the_place_of_a_lost_node(self):
        # The same without it ends the job: test_a_lost_node_is_not_waited_for... needs --min-np.
        self.assertEqual(self.lose_node_1("--spares", "1", "--last-call", "0.001"), "size 4\n" * 4)
        nodes = {node["host"]: node["state"] for node in self.status()["nodes"]}
        self.assertEqual(nodes.get("node1", "away"), "away", nodes)
        self.assertIn("node2", nodes)

    def test_a_lost_node_that_comes_back_in_time_is_preferred_to_a_spare(self):
        self.assertEqual(self.lose_node_1("--spares", "1"), "size 4\n" * 4)

    def test_a_coordinator_that_dies_is_named(self):
        process, job_id = self.running("-np", "2", "--nodes", "2")
        coordinator = self.coordinator_of(process)
        send(coordinator, signal.SIGKILL)
        self.assertEqual(process.wait(DEADLINE), 70)
        self.assertRegex(process.stderr.read(), rf"coordinator \(process {coordinator}\) was killed by SIGKILL.*its workers were ended")
        self.assertEqual(self.status()["verdict"]["class"], "coordinator lost")
        self.assertTrue(poll(lambda: not processes_of(job_id)), processes_of(job_id))


class FullDisk(Job):
    def test_training_goes_on_when_logs_find_no_room(self):
        small = os.path.join(self.folder, "small")
        os.mkdir(small)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", small], capture_output=True, check=False).returncode:
            self.skipTest("no small file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", small], check=False)
        result = self.muster("run", "-np", "2", "sh", "-c", "seq 1 200000; echo done >&2",
                             env={**self.environment, "XDG_STATE_HOME": small})
        self.assertEqual(len(result.stdout.splitlines()), 400000)
        self.assertEqual(result.stderr.count("done"), 2)
        self.assert_says(result, "muster logs")
        self.assertIn(result.returncode, (0, 73))  # 73: the record had no room either


if __name__ == "__main__":
    unittest.main()

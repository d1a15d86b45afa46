"""Jobs over several nodes from the outside: nodes simulated on this machine, and agents started by hand."""
import collections
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import unittest

from muster_e2e import (DEADLINE, MUSTER, STUBBORN, MusterCase, all_pids, children_of, command_of, poll, processes_of, read, send)


def arguments_of(pid):
    return [word.decode() for word in read(f"/proc/{pid}/cmdline").split(b"\0")[:-1]]


def muster_children(pid, subcommand):
    return [child for child in children_of(pid) if arguments_of(child)[1:2] == [subcommand]]


def node_of(agent):
    words = arguments_of(agent)
    return words[words.index("--host") + 1]


class Job:
    """A running job of stubborn workers on several nodes."""

    def __init__(self, case, workers, nodes, *options):
        self.process = case.start("run", "-np", str(workers), "--nodes", str(nodes), *options, STUBBORN)
        self.job_id = ""
        for _ in range(workers):
            words = self.process.stdout.readline().split()
            case.assertEqual(words[:1], ["ready"], words)
            self.job_id = words[1]
        (self.coordinator,) = muster_children(self.process.pid, "coordinator")
        self.agents = {node_of(pid): pid for pid in muster_children(self.coordinator, "agent")}
        case.assertEqual(sorted(self.agents), [f"node{node}" for node in range(nodes)])

    def leftovers(self, temporary):
        left = [f"process {pid} {command_of(pid)}" for pid in processes_of(self.job_id)]
        left += [f"file {name}" for name in os.listdir(temporary) if self.job_id in name]
        left += [f"muster {pid} {arguments_of(pid)}" for pid in (self.process.pid, self.coordinator, *self.agents.values())
                 if command_of(pid) == "muster" and os.path.exists(f"/proc/{pid}/exe")]
        return left


class NodesCase(MusterCase):
    def run_nodes(self, nodes, workers, *arguments, **options):
        return self.muster("run", "--nodes", str(nodes), "-np", str(workers), *arguments, **options)

    def nothing_left(self, job, seconds):
        poll(lambda: not job.leftovers(self.temporary), seconds)
        self.assertEqual(job.leftovers(self.temporary), [])

    def job_folder(self):
        (job,) = self.kept_jobs()
        return os.path.join(self.state, "muster", job)

    def events(self):
        with open(os.path.join(self.job_folder(), "events.jsonl"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]


class Output(NodesCase):
    def test_arrives_whole_in_order_and_tagged(self):
        lines = 3000
        result = self.run_nodes(2, 4, "--tag-output", "sh", "-c", f'seq -f "$RANK %g" {lines}; seq -f "$RANK %g" 100 >&2')
        self.assertEqual(result.returncode, 0, result.stderr)
        for stream, text, count in (("stdout", result.stdout, lines), ("stderr", result.stderr, 100)):
            seen = collections.defaultdict(list)
            for line in text.splitlines():
                if line.startswith("muster: "):
                    continue
                match = re.fullmatch(rf"\[1,(\d)\]<{stream}>:(\d) (\d+)", line)
                self.assertTrue(match and match[1] == match[2], line)
                seen[match[1]].append(int(match[3]))
            self.assertEqual(dict(seen), {str(rank): list(range(1, count + 1)) for rank in range(4)})

    def test_the_last_lines_of_a_killed_worker_arrive(self):
        result = self.run_nodes(2, 2, "sh", "-c", '[ "$RANK" = 1 ] || exec sleep 60; seq 1 5000; kill -KILL $$')
        self.assertEqual(result.returncode, 137, result.stderr)
        self.assertEqual(result.stdout.splitlines(), [str(i) for i in range(1, 5001)])

    def test_a_slow_reader_gets_all_of_it(self):
        # 30 MB from each rank: far more than streams and pipes hold.
        process = self.start("run", "--nodes", "2", "-np", "2", "sh", "-c", 'seq -f "$RANK %025.0f" 1 1000000')
        counts, late = collections.Counter(), []
        for number, line in enumerate(process.stdout):
            rank, text = line.split()
            counts[rank] += 1
            if int(text) != counts[rank]:
                late.append(line)
            if number == 100:
                threading.Event().wait(0.5)  # stops reading for a while
        self.assertEqual(process.wait(DEADLINE), 0)
        self.assertEqual(counts, {"0": 1000000, "1": 1000000})
        self.assertEqual(late, [])

    def test_ends_when_nobody_reads(self):
        process = self.start("run", "--nodes", "2", "-np", "2", "sh", "-c", "while :; do echo line; done")
        process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.wait(DEADLINE), 141)

    def test_that_finds_no_room_does_not_end_the_job(self):
        ran = os.path.join(self.folder, "ran")
        with open("/dev/full", "w", encoding="utf-8") as full:
            process = self.start("run", "--nodes", "2", "-np", "2", "sh", "-c", 'echo line; sleep 0.3; echo line; : > "$0$RANK"', ran,
                                 stdout=full)
            _, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 73, err)
        self.assertIn("No space left on device", err)
        self.assertTrue(os.path.exists(ran + "0") and os.path.exists(ran + "1"), "the workers went on to their end")

    def test_is_kept_in_the_jobs_folder(self):
        result = self.run_nodes(2, 3, "sh", "-c", "echo out $RANK; echo err $RANK >&2")
        self.assertEqual(result.returncode, 0, result.stderr)
        for rank in range(3):
            log = os.path.join(self.job_folder(), "logs", f"rank-{rank}")
            self.assertEqual((read(log + ".out", "r"), read(log + ".err", "r")), (f"out {rank}\n", f"err {rank}\n"))
        with open(os.path.join(self.job_folder(), "status.json"), encoding="utf-8") as file:
            status = json.load(file)
        self.assertEqual((status["state"], status["workers"], len(status["nodes"])), ("over", 3, 2))
        self.assertIn("preparing", [event["kind"] for event in self.events()])


class Input(NodesCase):
    def test_goes_to_rank_0_to_its_end(self):
        text = "".join(f"line {i}\n" for i in range(100_000))
        result = self.run_nodes(2, 2, "sh", "-c", "sha256sum", input=text)
        self.assertEqual(result.returncode, 0, result.stderr)
        sums = [line.split()[0] for line in result.stdout.splitlines()]
        self.assertEqual(sorted(sums), sorted(hashlib.sha256(data).hexdigest() for data in (text.encode(), b"")))

    def test_that_nobody_reads_holds_nothing_up(self):
        result = self.run_nodes(2, 2, "true", input="x" * 1_000_000)
        self.assertEqual(result.returncode, 0, result.stderr)


class Ends(NodesCase):
    def test_exit_codes_name_the_node(self):
        result = self.run_nodes(2, 4, "sh", "-c", '[ "$RANK" = 3 ] && exit 9; exec sleep 60')
        self.assertEqual(result.returncode, 9, result.stderr)
        self.assert_says(result, "rank 3 on host node1 exited with code 9")
        self.assertEqual(len(self.words_of(result.stderr)), 1, result.stderr)

    def test_signals_reach_all_nodes(self):
        process = self.start("run", "--nodes", "2", "-np", "2", "sh", "-c",
                             'trap "echo $RANK got it; exit 0" USR1; echo ready; while :; do sleep 0.02; done')
        for _ in range(2):
            process.stdout.readline()
        process.send_signal(signal.SIGUSR1)
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(sorted(out.splitlines()), ["0 got it", "1 got it"], err)
        self.assertEqual(process.returncode, 0, err)

    def test_asked_to_end(self):
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            process = self.start("run", "--nodes", "2", "-np", "2", "sh", "-c",
                                 'trap "echo $RANK goes; exit 0" TERM; echo ready; while :; do sleep 0.02; done')
            for _ in range(2):
                process.stdout.readline()
            process.send_signal(number)
            out, err = process.communicate(timeout=DEADLINE)
            self.assertEqual(process.returncode, code, err)
            self.assertEqual(sorted(out.splitlines()), ["0 goes", "1 goes"], "they were asked kindly")

    def test_words_and_folders_that_are_no_utf8(self):
        folder = os.path.join(self.folder, "caf\udce9")  # one byte 0xe9, as Python writes it
        os.mkdir(folder)
        with open(os.path.join(folder, "broken\udce9"), "w", encoding="utf-8") as file:
            file.write("#!/no/such/interpreter\n")
        os.chmod(file.name, 0o755)
        result = self.run_nodes(2, 2, "-x", "WORD=\udce9", "sh", "-c", 'printf "%s" "$1 $WORD $PWD" | od -An -v -tx1 | tr -d " \n"; echo',
                                "sh", "n\udce9e", cwd=folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        words = os.fsencode(f"n\udce9e \udce9 {os.path.realpath(folder)}").hex()
        self.assertEqual(result.stdout.splitlines(), [words, words])
        result = self.run_nodes(2, 2, "./broken\udce9", cwd=folder, errors="surrogateescape")
        self.assertEqual(result.returncode, 126, result.stderr)
        self.assert_says(result, "broken\udce9")

    def test_timeout(self):
        result = self.run_nodes(2, 2, "--timeout", "0.5", "sleep", "60")
        self.assertEqual(result.returncode, 124, result.stderr)
        self.assert_says(result, "--timeout 0.5")

    def test_a_temporary_folder_that_is_not_there_is_said_once(self):
        environment = dict(self.environment, TMPDIR=os.path.join(self.folder, "no-such-folder"))
        result = self.run_nodes(2, 2, "true", env=environment)
        self.assertEqual(result.returncode, 73, result.stderr)
        self.assertEqual(len([line for line in self.words_of(result.stderr) if "no-such-folder" in line and "TMPDIR" in line]), 1,
                         result.stderr)


class Networks(NodesCase):
    PROGRAM = ("sh", "-c", "echo $RANK $(hostname) $MASTER_ADDR $LOCAL_RANK $GROUP_RANK")

    def test_of_the_machine(self):
        result = self.run_nodes(2, 4, "--node-network", "host", *self.PROGRAM)
        self.assertEqual(result.returncode, 0, result.stderr)
        here = socket.gethostname()
        self.assertEqual(sorted(result.stdout.splitlines()),
                         [f"{rank} {here} 127.0.0.1 {rank % 2} {rank // 2}" for rank in range(4)])

    def test_of_the_machine_for_a_user_who_may_make_none(self):
        nobody = 65534
        if os.geteuid() == 0:
            for folder in (self.folder, self.temporary):
                os.chown(folder, nobody, nobody)
            try:
                subprocess.run([MUSTER, "--version"], user=nobody, group=nobody, extra_groups=[], capture_output=True, check=True)
            except (OSError, subprocess.CalledProcessError):
                self.skipTest("another user cannot start this muster")
            user = {"user": nobody, "group": nobody, "extra_groups": []}
        else:
            user = {}
        result = self.run_nodes(2, 4, *self.PROGRAM, cwd=self.folder, **user)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), 4)

    def test_of_their_own(self):
        result = self.run_nodes(4, 5, "--node-network", "namespaces", *self.PROGRAM)
        self.assertEqual(result.returncode, 0, result.stderr)
        if "nodes share this machine's network" in result.stderr:
            self.skipTest(self.words_of(result.stderr)[0])
        nodes = [0, 0, 1, 2, 3]
        self.assertEqual(sorted(result.stdout.splitlines()),
                         [f"{rank} node{node} 10.77.1.1 {int(rank == 1)} {node}" for rank, node in enumerate(nodes)])
        self.assertNotIn("muster0", os.listdir("/sys/class/net"))


class Kills(NodesCase):
    def end(self, job):
        _, err = job.process.communicate(timeout=DEADLINE)
        return job.process.returncode, err

    def test_of_a_worker_names_rank_and_node(self):
        job = Job(self, 4, 2)
        victim = next(pid for pid in processes_of(job.job_id)
                      if command_of(pid) == "stubborn_worker" and b"RANK=2" in read(f"/proc/{pid}/environ").split(b"\0"))
        os.kill(victim, signal.SIGKILL)
        code, err = self.end(job)
        self.assertEqual(code, 137, err)
        words = self.words_of(err)
        self.assertEqual(len(words), 1, err)
        self.assertIn("rank 2 on host node1 was killed by signal 9 (SIGKILL)", words[0])
        self.nothing_left(job, 2)

    def test_of_an_agent_names_the_node(self):
        job = Job(self, 4, 2)
        os.kill(job.agents["node1"], signal.SIGKILL)
        code, err = self.end(job)
        self.assertEqual(code, 70, err)
        words = self.words_of(err)
        self.assertEqual(len(words), 1, err)
        self.assertIn("the agent on host node1 was lost (its process was killed by SIGKILL)", words[0])
        self.nothing_left(job, 2)

    def test_of_an_agent_restarts_the_job_where_it_may(self):
        program = 'echo $TORCHELASTIC_RESTART_COUNT; [ "$TORCHELASTIC_RESTART_COUNT" = 1 ] || exec sleep 60'
        process = self.start("run", "--nodes", "2", "-np", "4", "--max-restarts", "1", "sh", "-c", program)
        for _ in range(4):
            self.assertEqual(process.stdout.readline(), "0\n")
        (coordinator,) = muster_children(process.pid, "coordinator")
        agents = {node_of(pid): pid for pid in muster_children(coordinator, "agent")}
        os.kill(agents["node0"], signal.SIGKILL)
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(out, "1\n" * 4)
        words = self.words_of(err)
        self.assertEqual(len(words), 1, err)
        self.assertIn("node0 was lost", words[0])
        self.assertIn("restart 1 of 1", words[0])

    def test_a_frozen_node_is_replaced(self):
        program = 'echo $TORCHELASTIC_RESTART_COUNT; [ "$TORCHELASTIC_RESTART_COUNT" = 1 ] || exec sleep 600'
        process = self.start("run", "--nodes", "2", "-np", "2", "--max-restarts", "1", "sh", "-c", program)
        for _ in range(2):
            self.assertEqual(process.stdout.readline(), "0\n")
        (coordinator,) = muster_children(process.pid, "coordinator")
        agents = {node_of(pid): pid for pid in muster_children(coordinator, "agent")}
        frozen = [agents["node1"]]
        for pid in frozen:
            frozen.extend(children_of(pid))
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(out, "1\n" * 2)
        self.assertIn("nothing was heard", err)
        self.assertIn("restart 1 of 1", err)
        poll(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in frozen))
        self.assertEqual([pid for pid in frozen if os.path.exists(f"/proc/{pid}/exe")], [])

    def test_of_the_command_ends_an_attached_job(self):
        job = Job(self, 4, 2)
        os.kill(job.process.pid, signal.SIGKILL)
        job.process.wait()
        self.nothing_left(job, 5)

    def test_of_the_coordinator_leaves_nothing(self):
        job = Job(self, 4, 2)
        os.kill(job.coordinator, signal.SIGKILL)
        code, err = self.end(job)
        self.assertEqual(job.leftovers(self.temporary), [], "all is gone when the command is")
        self.assertEqual(code, 70, err)
        self.assertIn("was killed by SIGKILL before the job was over; its workers were ended", err)

    def test_of_the_coordinator_leaves_nothing_when_agents_find_none(self):
        # A command that has children already could not tell them from those that it inherits.
        process = subprocess.Popen(["sh", "-c", f'sleep {DEADLINE} & exec "$0" "$@"', MUSTER, "run", "-np", "4", "--nodes", "2",
                                    "--orphan-after", "1", STUBBORN],
                                   text=True, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        job_id = [process.stdout.readline().split()[1] for _ in range(4)][0]
        (sleeper,) = [pid for pid in children_of(process.pid) if command_of(pid) == "sleep"]
        self.addCleanup(send, sleeper, signal.SIGKILL)
        (coordinator,) = muster_children(process.pid, "coordinator")
        os.kill(coordinator, signal.SIGKILL)
        self.assertEqual(process.wait(DEADLINE), 70)
        self.assertTrue(poll(lambda: not processes_of(job_id)), processes_of(job_id))
        self.assertEqual(command_of(sleeper), "sleep", "not ours to end")

    def test_of_a_coordinator_that_is_stuck_by_a_third_ctrl_c(self):
        job = Job(self, 4, 2)
        os.kill(job.coordinator, signal.SIGSTOP)

        def ask():
            job.process.send_signal(signal.SIGINT)
            return job.process.poll() is not None
        poll(ask)  # a person does it less often; what comes too early is not taken for a third
        code, err = self.end(job)
        self.assertEqual(job.leftovers(self.temporary), [])
        self.assertEqual(code, 70, err)

    def test_of_all_that_is_ours_at_once(self):
        job = Job(self, 4, 2)
        for pid in (job.process.pid, job.coordinator, *job.agents.values()):
            os.kill(pid, signal.SIGKILL)
        job.process.wait()
        self.nothing_left(job, 5)


class ByHand(NodesCase):
    def coordinator(self, *arguments):
        """A coordinator and what it says to run on each node."""
        process = self.start("coordinator", "--listen", "127.0.0.1", *arguments)
        nodes = sum(int(arguments[arguments.index(flag) + 1]) for flag in ("--nodes", "--spares") if flag in arguments)
        return process, dict(self.ticket(process) for _ in range(nodes))

    def ticket(self, process):
        line = process.stderr.readline()
        match = re.fullmatch(r"muster: on node (\d+) run: muster (agent --coordinator \S+ --ticket-file (\S+))\n", line)
        self.assertTrue(match, line)
        self.assertEqual(os.stat(match[3]).st_mode & 0o777, 0o600)
        return int(match[1]), match[2].split()

    def agent(self, words, *more):
        return self.start(*words, *more)

    def test_a_job_on_two_nodes(self):
        process, nodes = self.coordinator("--nodes", "2", "-np", "3", "--tag-output", "sh", "-c", "echo $RANK $WORLD_SIZE")
        agents = [self.agent(nodes[node], "--host", f"hand{node}") for node in (1, 0)]
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(sorted(out.splitlines()), [f"[1,{rank}]<stdout>:{rank} 3" for rank in range(3)])
        for agent in agents:
            self.assertEqual(agent.wait(DEADLINE), 0)

    def test_placement_and_spares_are_those_of_muster_run(self):
        process, nodes = self.coordinator("--nodes", "2", "-np", "4", "--map-by", "node", "--bind-to", "none", "--report-bindings",
                                          "--spares", "1", "--max-restarts", "1", "--last-call", "0.001", "sh", "-c",
                                          'echo $RANK $GROUP_RANK $TORCHELASTIC_RESTART_COUNT; '
                                          '[ $TORCHELASTIC_RESTART_COUNT = 1 ] || exec sleep 60')
        self.assertEqual(len(nodes), 3)
        agents = [self.agent(nodes[node], "--host", f"hand{node}") for node in (2, 1, 0)]
        self.assertEqual(sorted(process.stdout.readline() for _ in range(4)), ["0 0 0\n", "1 1 0\n", "2 0 0\n", "3 1 0\n"])
        events = os.path.join(os.path.dirname(nodes[0][-1]), "events.jsonl")
        self.assertTrue(poll(lambda: "host hand2 joined" in read(events, "r")))
        agents[2].terminate()  # that of node 0
        out, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(sorted(out.splitlines()), ["0 0 1", "1 1 1", "2 0 1", "3 1 1"])
        self.assertIn("[hand2] rank 0 is not bound", err)

    def test_a_failure_names_the_host(self):
        process, nodes = self.coordinator("--nodes", "2", "-np", "2", "sh", "-c", '[ "$RANK" = 1 ] && exit 5; exec sleep 60')
        agents = [self.agent(nodes[node], "--host", f"hand{node}") for node in (0, 1)]
        _, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 5, err)
        self.assertIn("rank 1 on host hand1 exited with code 5", err)
        for agent in agents:
            self.assertEqual(agent.wait(DEADLINE), 0)

    def test_a_program_that_a_node_does_not_have(self):
        process, nodes = self.coordinator("--nodes", "1", "-np", "1", "no-such-program")
        agent = self.agent(nodes[0], "--host", "hand0")
        _, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 127, err)
        self.assertIn("was not found on host hand0 (no-such-program)", err)
        self.assertEqual(agent.wait(DEADLINE), 0)

    def test_tickets_are_good_once_and_for_their_own_job_only(self):
        process, nodes = self.coordinator("--nodes", "2", "-np", "2", "sleep", "60")
        other, other_nodes = self.coordinator("--nodes", "1", "-np", "1", "sleep", "60")
        first = self.agent(nodes[0])
        poll(lambda: "joined" in read(os.path.join(os.path.dirname(nodes[0][-1]), "events.jsonl"), "r"))
        again = self.muster(*nodes[0], "--orphan-after", "5")
        self.assertEqual(again.returncode, 77, again.stderr)
        self.assert_says(again, "does not take this agent", "used before")
        # A ticket of another job, whose authority this coordinator is not.
        stranger = self.muster("agent", "--coordinator", nodes[0][2], "--ticket-file", other_nodes[0][-1], "--orphan-after", "2")
        self.assertIn(stranger.returncode, (69, 77), stranger.stderr)
        # Told of together, at most every two seconds.
        folder = os.path.dirname(nodes[0][-1])
        self.assertTrue(poll(lambda: '"refused"' in read(os.path.join(folder, "events.jsonl"), "r")))
        self.assertIsNone(first.poll(), "undisturbed")
        for one in (process, other):
            one.send_signal(signal.SIGTERM)
            one.communicate(timeout=DEADLINE)
            self.assertEqual(one.returncode, 143)
        self.assertEqual(first.wait(DEADLINE), 0)

    def test_plain_text_is_refused_and_counted(self):
        process, nodes = self.coordinator("--nodes", "1", "-np", "1", "sh", "-c", "echo ready; read line; sleep 60")
        host, port = nodes[0][2].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=DEADLINE) as stranger:
            stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
            stranger.settimeout(DEADLINE)
            try:
                while stranger.recv(4096):
                    pass
            except ConnectionError:
                pass
        folder = os.path.dirname(nodes[0][-1])
        self.assertTrue(poll(lambda: '"refused"' in read(os.path.join(folder, "events.jsonl"), "r")))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)

    def test_what_an_agent_needs(self):
        garbage = os.path.join(self.folder, "garbage")
        with open(garbage, "w", encoding="utf-8") as file:
            file.write("no ticket\n")
        for arguments, code, part in ((("--coordinator", "127.0.0.1:1"), 64, "--ticket-file"),
                                      (("--ticket-file", garbage), 64, "--coordinator HOST:PORT"),
                                      (("--coordinator", "127.0.0.1:1", "--ticket-file", garbage), 64, "ticket"),
                                      (("--coordinator", "127.0.0.1:1", "--ticket-file", "/no/such/file"), 64, "/no/such/file"),
                                      (("--coordinator", "127.0.0.1:1", "--ticket-file", garbage, "program"), 64, "no program")):
            with self.subTest(arguments=arguments):
                result = self.muster("agent", *arguments)
                self.assertEqual(result.returncode, code, result.stderr)
                self.assert_says(result, part)

    def test_no_coordinator(self):
        process, nodes = self.coordinator("--nodes", "1", "-np", "1", "true")
        process.kill()
        process.wait()
        result = self.muster(*nodes[0], "--orphan-after", "1")
        self.assertEqual(result.returncode, 69, result.stderr)
        self.assert_says(result, "no coordinator answers at 127.0.0.1:")

    def test_an_agent_that_is_asked_to_end_takes_its_workers_along(self):
        process, nodes = self.coordinator("--nodes", "2", "-np", "2", "sh", "-c", "echo $MUSTER_JOB_ID; exec sleep 60")
        agents = [self.agent(nodes[node], "--host", f"hand{node}") for node in (0, 1)]
        job_id = process.stdout.readline().strip()
        process.stdout.readline()
        agents[1].send_signal(signal.SIGTERM)
        self.assertEqual(agents[1].wait(DEADLINE), 143)
        _, err = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 143, err)
        self.assertIn("terminated (SIGTERM) by the agent on host hand1, which was asked by process", err)
        self.assertEqual(agents[0].wait(DEADLINE), 0)
        self.assertTrue(poll(lambda: not processes_of(job_id)))

    def test_an_address_that_is_taken_or_not_ours(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            for address, why in ((f"127.0.0.1:{taken.getsockname()[1]}", "the port is taken"), ("192.0.2.1", "no such address"),
                                 ("no-address", "no-address")):
                result = self.muster("coordinator", "--listen", address, "--nodes", "1", "true")
                self.assertEqual(result.returncode, 64, result.stderr)
                self.assert_says(result, why)

    def test_usage(self):
        for arguments, part in ((("--nodes", "2", "-np", "1", "true"), "--nodes 2 is more than -np 1"),
                                (("--listen", "1.2.3.4:many", "true"), "--listen 1.2.3.4:many"),
                                (("--nodes", "2"), "no program given"),
                                (("-np", "2", "--min-np", "3", "true"), "--min-np 3"),
                                (("--map-by", "cores", "true"), "--map-by cores"),
                                (("--map-by", "ppr:1:core", "true"), "say it with -np N"),
                                (("--spares", "1", "true"), "--max-restarts R"),
                                (("-x", "NAME", "true"), "-x NAME=VALUE")):
            with self.subTest(arguments=arguments):
                result = self.muster("coordinator", *arguments)
                self.assertEqual(result.returncode, 64, result.stderr)
                self.assert_says(result, part)


if __name__ == "__main__":
    unittest.main()

"""kill -9 of whatever a job with a coordinator process has: it ends, or goes on, as docs/design.md section 2 says, nothing of it is
left 2 s later, and no line is lost that a worker had written whose agent, coordinator and command lived.

MUSTER_KILLS says how many (20), MUSTER_KILL_SEED replays what is drawn (printed)."""
import glob
import json
import os
import random
import signal
import threading
import time
import unittest

from muster_e2e import (DEADLINE, STUBBORN, MusterCase, all_pids, children_of, command_of, memory_named, poll, processes_of, read, send,
                        sockets_named, tree_of)

KILLS = int(os.environ.get("MUSTER_KILLS", "20"))
SEED = int(os.environ.get("MUSTER_KILL_SEED", str(random.SystemRandom().randrange(1 << 32))))
ORPHAN_AFTER = 2  # seconds: agents without their coordinator
CODES = {"worker": 137, "guard": 70, "keeper": 70, "agent": 70, "node": 70}


def subcommand(pid):
    return read(f"/proc/{pid}/cmdline").split(b"\0")[1:2]


def guards_of(pid):
    return [child for child in children_of(pid) if command_of(child) == "muster-guard"]


class Job:
    """A job with a coordinator process, whose workers print numbered lines and count them in a folder."""

    def __init__(self, case, number, nodes, detached, restarts, network):
        self.case, self.detached, self.workers = case, detached, 2 * nodes
        self.counts = os.path.join(case.folder, f"counts{number}")
        os.mkdir(self.counts)
        self.text, self.said, self.job_id = b"", "", ""
        arguments = ["--nodes", str(nodes), "-np", str(self.workers), "--orphan-after", str(ORPHAN_AFTER),
                     "--max-restarts", str(restarts)]
        arguments += ["--node-network", network] if nodes > 1 else []
        arguments += ["--detach"] if detached else []
        self.process = case.start("run", *arguments, STUBBORN, self.counts)
        self.readers = [threading.Thread(target=self.read_out, daemon=True), threading.Thread(target=self.read_err, daemon=True)]
        for reader in self.readers:
            reader.start()
        if detached:
            self.wait(0)
            self.job_id = self.text.decode().strip()
        case.assertTrue(poll(lambda: self.ready() >= self.workers), (self.said, self.output()[-300:]))
        if not detached:
            self.job_id = self.text.split(b"ready ", 1)[1].split()[0].decode()
        self.coordinator = int(read(os.path.join(self.folder(), "lock"), "r").split()[0])
        case.assertEqual(subcommand(self.coordinator), [b"coordinator"])
        self.agents = [pid for pid in children_of(self.coordinator) if subcommand(pid) == [b"agent"]]
        case.assertEqual(len(self.agents), nodes)
        self.keepers = [guards_of(agent)[0] for agent in self.agents]
        self.guards = [guards_of(keeper)[0] for keeper in self.keepers]
        self.by_agent = [[pid for pid in tree_of(agent) if command_of(pid) == "stubborn_worker"] for agent in self.agents]
        case.assertEqual(sum(map(len, self.by_agent)), self.workers)
        self.ranks_of = [[self.rank_of(pid) for pid in workers] for workers in self.by_agent]
        self.own = [self.process.pid, self.coordinator, *self.agents, *self.keepers, *self.guards]

    def read_out(self):
        while chunk := os.read(self.process.stdout.fileno(), 1 << 16):
            self.text += chunk

    def read_err(self):
        for line in self.process.stderr:
            self.said += line

    def wait(self, code):
        self.case.assertEqual(self.process.wait(DEADLINE), code, self.said)
        for reader in self.readers:
            reader.join(DEADLINE)

    def folder(self):
        return os.path.join(self.case.state, "muster", self.job_id)

    def output(self):
        if not self.detached:
            return self.text
        return b"".join(read(path) for path in glob.glob(os.path.join(self.folder(), "logs", "rank-*.out*")))

    def ready(self):
        return self.output().count(b"ready ")

    def verdict(self):
        """Of a detached job: its exit code once it is over."""
        path = os.path.join(self.folder(), "verdict.json")
        self.case.assertTrue(poll(lambda: os.path.exists(path)), self.folder())
        return json.loads(read(path))["exit_code"]

    def victims(self, kind, draw):
        node = draw.randrange(len(self.agents))
        return {"worker": [draw.choice(self.by_agent[node])], "guard": [self.guards[node]], "keeper": [self.keepers[node]],
                "agent": [self.agents[node]], "node": [self.agents[node], self.keepers[node], self.guards[node]],
                "coordinator": [self.coordinator], "command": [self.process.pid]}[kind]

    def leftovers(self):
        left = [f"process {pid} {command_of(pid)}" for pid in processes_of(self.job_id)]
        left += [f"muster {pid}" for pid in self.own
                 if os.path.exists(f"/proc/{pid}/exe") and command_of(pid) in ("muster", "muster-guard")]
        left += [f"socket {line}" for line in sockets_named(self.job_id)]
        left += [f"memory of {pid} {command_of(pid)}" for pid in memory_named(self.job_id)]
        left += [f"file {name}" for folder in (self.case.temporary, "/dev/shm") for name in os.listdir(folder) if self.job_id in name]
        return left

    def lost_lines(self, victims):
        """Lines that workers had written and nobody has, of those whose agent still lived."""
        dead = {(rank, b"0") for agent, ranks in zip(self.agents, self.ranks_of) if agent in victims for rank in ranks}
        got = {}
        for line in self.output().split(b"\n"):
            words = line.split()
            if len(words) == 4 and words[0] == b"line":
                got.setdefault((words[1], words[2]), set()).add(int(words[3]))
        lost, seen = [], 0
        for name in os.listdir(self.counts):
            rank, restarts = name.encode().split(b".")
            written = int(read(os.path.join(self.counts, name)) or b"0")
            if (rank, restarts) in dead:
                continue
            seen += written
            missing = set(range(1, written + 1)) - got.get((rank, restarts), set())
            if missing:
                lost.append(f"rank {rank.decode()} after {restarts.decode()} restarts: {len(missing)} of {written} lines, {min(missing)} the first")
        return lost, seen

    @staticmethod
    def rank_of(pid):
        return next((one[5:] for one in read(f"/proc/{pid}/environ").split(b"\0") if one.startswith(b"RANK=")), b"")

    def note_own(self):
        """What was started again."""
        self.own += [pid for pid in tree_of(self.coordinator) if command_of(pid) in ("muster", "muster-guard")]


class Kills(MusterCase):
    def nothing_left(self, job, seconds, what):
        begin = time.monotonic()
        poll(lambda: not job.leftovers(), seconds)
        left = job.leftovers()
        self.assertEqual(left, [], f"{what} after {time.monotonic() - begin:.2f} s: {job.said}")
        return time.monotonic() - begin

    def one(self, number, draw, counts):
        detached = draw.random() < 0.4
        nodes = draw.choice((1, 2)) if detached else 2
        kinds = ("worker", "guard", "keeper", "agent", "coordinator") + (("node",) if self.covered else ())
        kind = draw.choice(kinds + (() if detached else ("command",)))
        restarts = 1 if kind in CODES and draw.random() < 0.3 else 0
        network = draw.choice(("auto", "host"))
        what = f"kill {number} of {kind}, {nodes} nodes ({network}), detached {detached}, restarts {restarts}, seed {SEED}"
        job = Job(self, number, nodes, detached, restarts, network)
        victims = job.victims(kind, draw)
        draw.shuffle(victims)
        for victim in victims:
            send(victim, signal.SIGKILL)
        if restarts:
            self.assertTrue(poll(lambda: job.ready() >= 2 * job.workers), f"{what}: {job.said}")
            job.note_own()
            cancelled = self.muster("cancel", "--now", job.job_id)
            self.assertEqual(cancelled.returncode, 0, f"{what}: {cancelled.stderr}")
        code = 143 if restarts else CODES.get(kind, 70)
        if kind == "command":
            self.assertEqual(job.process.wait(DEADLINE), -9)
            for reader in job.readers:
                reader.join(DEADLINE)
        elif not detached:
            job.wait(code)
        elif kind != "coordinator":
            self.assertEqual(job.verdict(), code, what)
        # An agent whose coordinator died waits before it ends its workers.
        orphan = ORPHAN_AFTER if kind == "coordinator" and detached else 0
        if kind == "node" or orphan:
            # Where agent, keeper and guard die at once, or nobody is left to tell it to, the next job removes the folder.
            poll(lambda: not processes_of(job.job_id), orphan + 2)
            self.assertEqual(self.muster("run", "-np", "1", "true").returncode, 0)
        slow = self.nothing_left(job, 2 + orphan, what)
        if kind in CODES:
            lost, seen = job.lost_lines(victims)
            self.assertEqual(lost, [], f"{what}: {job.said}")
            counts["lines"] = counts.get("lines", 0) + seen
        counts[kind] = counts.get(kind, 0) + 1
        return slow

    def of_this_test(self):
        """Everything that was started with this test's own state folder: commands, coordinators, agents, guards, workers."""
        mark = b"XDG_STATE_HOME=" + self.state.encode()
        return [f"{command_of(pid)} {pid}" for pid in all_pids() if mark in read(f"/proc/{pid}/environ").split(b"\0")]

    def one_early(self, number, draw, counts):
        """At any instant of the start: the coordinator is made, agents come up, workers are spawned."""
        kind = draw.choice(("command", "coordinator"))
        what = f"kill {number} of a starting {kind}, seed {SEED}"
        process = self.start("run", "--nodes", "2", "-np", "4", "--orphan-after", str(ORPHAN_AFTER), STUBBORN)
        poll(lambda: process.poll() is not None, draw.uniform(0, 0.5))
        victims = [process.pid] if kind == "command" else [pid for pid in children_of(process.pid) if subcommand(pid) == [b"coordinator"]]
        for victim in victims or [process.pid]:
            send(victim, signal.SIGKILL)
        process.communicate(timeout=DEADLINE)
        self.assertIn(process.returncode, (-9, 70), what)
        poll(lambda: not self.of_this_test())
        self.assertEqual(self.of_this_test(), [], what)
        # Agents that were killed before their guards ran leave their folder to the next job.
        self.assertEqual(self.muster("run", "-np", "1", "true").returncode, 0)
        self.assertEqual([name for name in os.listdir(self.temporary) if name.startswith("muster-") and not name.endswith(".new")], [],
                         what)
        counts["starting " + kind] = counts.get("starting " + kind, 0) + 1
        return 0.0

    def test_random_kills(self):
        draw = random.Random(SEED)
        checks = json.loads(self.muster("doctor", "--json").stdout)["checks"]
        # Agent, keeper and guard at once: only a PID namespace ends what has left by setsid then.
        self.covered = next(check for check in checks if check["name"] == "kill cover")["level"] == "ok"
        print(f"\n  {KILLS} kills, replay: MUSTER_KILL_SEED={SEED} MUSTER_KILLS={KILLS} {__file__}", flush=True)
        counts, slowest, begin = {}, 0.0, time.monotonic()
        for number in range(KILLS):
            one = self.one_early if draw.random() < 0.15 else self.one
            slowest = max(slowest, one(number, draw, counts))
        print(f"  {counts}, {(time.monotonic() - begin) / KILLS:.2f} s each, slowest clean-up {slowest * 1000:.0f} ms", flush=True)


if __name__ == "__main__":
    unittest.main()

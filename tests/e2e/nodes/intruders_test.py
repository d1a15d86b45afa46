"""Strangers at every door of a running job: each is refused, counted and named, and the job's bits are those of an undisturbed run.

The workers first wait for their word list in a pipe each, connected and at rest; then they train on, with strangers at their doors."""
import collections
import ctypes
import hashlib
import hmac
import json
import os
import re
import resource
import socket
import ssl
import struct
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
from muster_e2e import DEADLINE, MUSTER, children_of, command_of, net_of, poll, read, tree_of
from train_case import TrainCase, some_words

STEPS = 200
CROWD = 1500
SPAWN = 1  # of each slot's first process
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET, SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 0x40000000, 434, 438


# --- Looking ---

def role_of(pid):
    name = command_of(pid)
    words = read(f"/proc/{pid}/cmdline").split(b"\0")
    return words[1].decode() if name == "muster" and len(words) > 1 else name


def inodes_of(pid):
    """{inode: descriptor} of the sockets of a process."""
    found = {}
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
            if match:
                found[match[1]] = int(fd)
    except OSError:
        pass
    return found


def in_network_of(pid, make):
    """What `make()` returns in the network of that process: a socket stays there. A thread of its own enters it."""
    out = []

    def enter():
        try:
            with open(f"/proc/{pid}/ns/net", "rb") as net:
                if net_of(pid) != net_of("thread-self") and LIBC.setns(net.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            out.append(make())
        except OSError as error:
            out.append(error)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(out[0], OSError):
        raise out[0]
    return out[0]


class Door:
    """A listening socket of one of the job's processes."""

    def __init__(self, pid, family, address):
        self.pid, self.family, self.address, self.role = pid, family, address, role_of(pid)

    def __repr__(self):
        return f"{self.role} {self.pid} at {self.address}"

    def knock(self, timeout=DEADLINE):
        """A connection, or None where nobody listens any more."""
        connection = in_network_of(self.pid, lambda: socket.socket(self.family, socket.SOCK_STREAM))
        connection.settimeout(timeout)
        try:
            connection.connect(self.address)
        except OSError:
            connection.close()
            return None
        return connection


def numeric(text, family):
    address, port = text.split(":")
    raw = bytes.fromhex(address)
    raw = b"".join(raw[i:i + 4][::-1] for i in range(0, len(raw), 4))
    return socket.inet_ntop(family, raw), int(port, 16)


def doors_of(pid):
    """All on which a process listens, or lets connect: TCP, UDP, Unix."""
    inodes, found = inodes_of(pid), {}
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in read(f"/proc/{pid}/net/{name}", "r").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                found[words[9]] = Door(pid, family, numeric(words[1], family))
    for name in ("udp", "udp6", "raw", "raw6"):
        for line in read(f"/proc/{pid}/net/{name}", "r").splitlines()[1:]:
            if line.split()[9] in inodes:
                found[line.split()[9]] = Door(pid, None, f"{name} {line.split()[1]}")
    for line in read(f"/proc/{pid}/net/unix", "r").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and int(words[3], 16) & 0x10000 and words[6] in inodes:
            found[words[6]] = Door(pid, socket.AF_UNIX, words[7].replace("@", "\0", 1))
    return found


# --- What strangers say ---

def closed_after(connection, limit=1 << 16):
    """What the other side says before it closes; fails when it does not."""
    said = b""
    try:
        while len(said) < limit:
            part = connection.recv(4096)
            if not part:
                break
            said += part
    except ConnectionError:
        pass
    finally:
        connection.close()
    return said


def says(text):
    def visit(door):
        connection = door.knock()
        if connection is None:
            return None
        try:
            connection.sendall(text)
        except OSError:
            pass
        return closed_after(connection)
    return visit


def leaves(door):
    connection = door.knock()
    if connection is None:
        return None
    connection.close()
    return b""


def tls(door, alpn=("h2",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    plain = door.knock()
    return None if plain is None else context.wrap_socket(plain, server_hostname="coordinator.muster.internal")


def tls_and_no_more(door):
    try:
        connection = tls(door)
    except (OSError, ssl.SSLError):
        return b""
    if connection is not None:
        connection.close()
    return b""


def field(number, value):
    """A protobuf field of bytes, or a small number."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    length = bytes([len(value)]) if len(value) < 128 else bytes([len(value) & 0x7f | 0x80, len(value) >> 7])
    return bytes([number << 3 | 2]) + length + value


# SubjectPublicKeyInfo of the point that generates P-256 (FIPS 186-4, D.1.2.3).
PUBLIC_KEY = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"
                           "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
                           "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")


def frame(kind, flags, stream, payload):
    """HTTP/2's (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Grpc:
    """A gRPC client, as small as one can be: HPACK literals (RFC 7541, 6.2.2), one message a call."""

    def __init__(self, door):
        self.connection = tls(door)
        self.stream = -1
        self.connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))

    def call(self, method, message, end=True):
        self.stream += 2
        headers = b""
        for name, value in ((":method", "POST"), (":scheme", "https"), (":path", f"/muster.v1.AgentService/{method}"),
                            (":authority", "coordinator"), ("content-type", "application/grpc"), ("te", "trailers")):
            headers += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        self.connection.sendall(frame(1, 4, self.stream, headers) +
                                frame(0, int(end), self.stream, b"\0" + struct.pack(">I", len(message)) + message))

    def answer(self):
        """(messages of the open call, ended in order)."""
        messages = b""
        while True:
            head = self.take(9)
            if len(head) < 9:
                return messages, False
            payload = self.take(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
            if kind == 4 and not flags & 1:
                self.connection.sendall(frame(4, 1, 0, b""))
            elif kind == 6 and not flags & 1:
                self.connection.sendall(frame(6, 1, 0, payload))
            elif kind == 0 and stream == self.stream:
                messages += payload
            if stream == self.stream and (kind == 3 or flags & 1 and kind in (0, 1)):
                return messages, True

    def take(self, count):
        got = b""
        try:
            while len(got) < count:
                part = self.connection.recv(count - len(got))
                if not part:
                    break
                got += part
        except (ConnectionError, ssl.SSLError):
            pass
        return got

    def close(self):
        self.connection.close()


def enrols(token, version=1):
    def visit(door):
        client = Grpc(door)
        client.call("Enroll", field(1, token) + field(2, PUBLIC_KEY) + field(3, version))
        messages, _ = client.answer()
        client.close()
        return messages
    return visit


def connects(hello):
    def visit(door):
        client = Grpc(door)
        client.call("Connect", hello, end=False)
        messages, _ = client.answer()
        client.close()
        return messages
    return visit


def hello(job_id, generation=1, rank=2, spawn=SPAWN, stream=0, streams=5, to_rank=0, to_spawn=SPAWN, version=2, communicator=0):
    """runtime/transport/handshake.h"""
    return (b"mustrmsh" + struct.pack("<II", version, 1) + job_id +
            struct.pack("<QIIIIIIQ", generation, rank, spawn, stream, streams, to_rank, to_spawn, communicator) + os.urandom(32))


def proves(greeting, key):
    """HELLO, WELCOME, and a PROOF by `key`; a captured PROOF where that is no key."""
    def visit(door):
        connection = door.knock()
        if connection is None:
            return None
        try:
            connection.sendall(greeting)
            welcome = connection.recv(80, socket.MSG_WAITALL)
            prefix = b"mustrmsh" + struct.pack("<II", 2, 3)
            code = hmac.new(key, b"muster mesh a" + greeting + welcome + prefix, hashlib.sha256).digest()
            connection.sendall(key if len(key) == 48 else prefix + code)
        except OSError:
            pass
        return closed_after(connection)
    return visit


# --- The job ---

class Job:
    """`muster run` of train_words with a gate: each rank reads its words from a pipe of its own."""

    def __init__(self, case, nodes, workers, *arguments):
        self.case, self.workers = case, workers
        self.folder = os.path.join(case.folder, f"job-{len(os.listdir(case.folder))}")
        os.mkdir(self.folder)
        self.result = os.path.join(self.folder, "result.json")
        self.report = os.path.join(self.folder, "report.json")
        for rank in range(workers):
            os.mkfifo(os.path.join(self.folder, f"words.{rank}"))
        program = os.path.join(os.path.dirname(MUSTER), "train_words")
        self.go = os.path.join(self.folder, "go")
        script = f'until [ -e {self.go} ]; do sleep 0.01; done; exec {program} --data {self.folder}/words.$RANK --steps {STEPS} --result {self.result}'
        self.process = case.start("run", "-np", str(workers), "--nodes", str(nodes), "--report", self.report, *arguments, "sh", "-c",
                                  script)
        self.gates = {}

    def until_connected(self):
        """Opens each pipe, which a rank does once it is a member and connected."""
        for rank in range(self.workers):
            path = os.path.join(self.folder, f"words.{rank}")
            opened = []
            thread = threading.Thread(target=lambda: opened.append(open(path, "wb")), daemon=True)
            thread.start()
            poll(lambda: opened or self.process.poll() is not None)
            self.case.assertTrue(opened, f"rank {rank} never came so far")
            self.gates[rank] = opened[0]
        self.tree = tree_of(self.process.pid)
        self.coordinator = next(pid for pid in self.tree if role_of(pid) == "coordinator")
        self.ranks = {}
        for pid in self.tree:
            if command_of(pid) != "train_words":
                continue
            environment = dict(word.split(b"=", 1) for word in read(f"/proc/{pid}/environ").split(b"\0") if b"=" in word)
            self.ranks[int(environment[b"RANK"])] = pid
            self.job_id = bytes.fromhex(environment[b"MUSTER_JOB_ID"].decode())
        self.case.assertEqual(sorted(self.ranks), list(range(self.workers)))
        self.state = os.path.join(self.case.state, "muster", self.job_id.hex())

    def door(self, pid):
        (door,) = [door for door in doors_of(pid).values() if door.family != socket.AF_UNIX]
        return door

    def train(self):
        def feed(gate, words):
            with gate:
                gate.write(words)
        words = read(self.case.data)
        for gate in self.gates.values():
            threading.Thread(target=feed, args=(gate, words), daemon=True).start()

    def status(self):
        with open(os.path.join(self.state, "status.json"), encoding="utf-8") as file:
            return json.load(file)

    def events(self):
        with open(os.path.join(self.state, "events.jsonl"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def end(self):
        _, err = self.process.communicate(timeout=2 * DEADLINE)
        self.case.assertEqual(self.process.returncode, 0, err)
        with open(self.result, encoding="utf-8") as file:
            result = json.load(file)
        with open(self.report, encoding="utf-8") as file:
            return result, json.load(file), err


class Watch:
    """Every door that opens in the life of a job is found, and knocked at by one who says nothing useful."""

    def __init__(self, job):
        self.job, self.doors, self.visits, self.over = job, {}, [], threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self):
        while not self.over.is_set():
            for pid in tree_of(self.job.process.pid):
                for inode, door in doors_of(pid).items():
                    if door.role == "":  # over while it was looked at
                        continue
                    if (inode, pid) in self.doors:
                        continue
                    self.doors[inode, pid] = door
                    if door.family is not None and inode not in [key[0] for key in list(self.doors)[:-1]]:
                        visit = threading.Thread(target=self.visit, args=(door,), daemon=True)
                        visit.start()
                        self.visits.append([visit, door, None])
            self.over.wait(0.005)

    def visit(self, door):
        said = None
        try:
            said = says(b"let me in, please: I am nobody at all\n")(door)
        except OSError as error:
            said = error
        for visit in self.visits:
            if visit[1] is door:
                visit[2] = said

    def end(self):
        self.over.set()
        self.thread.join()
        for visit, _, _ in self.visits:
            visit.join(DEADLINE)


class Capture:
    """What goes over the network of a process from now on; needs CAP_NET_RAW."""

    def __init__(self, pid):
        self.socket = in_network_of(pid, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        # Handshakes are short, and on a network that is shared others' data would drown them: IP packets up to 2,000 bytes.
        code = [(0x28, 0, 0, 16), (0x25, 0, 1, 2000), (0x06, 0, 0, 0), (0x06, 0, 0, 1 << 16)]
        self.filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
        program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(self.filter))
        self.socket.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER, socket(7)
        self.socket.settimeout(0.1)
        self.flows = collections.defaultdict(dict)  # (source, destination): {sequence: bytes}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.take, daemon=True)
        self.thread.start()

    def take(self):
        while True:
            try:
                packet = self.socket.recv(1 << 16)
            except TimeoutError:
                if self.over.is_set():  # and nothing waits
                    return
                continue
            if len(packet) < 54 or packet[12:14] != b"\x08\x00" or packet[23] != 6:
                continue
            ip = packet[14:]
            segment = ip[(ip[0] & 15) * 4:int.from_bytes(ip[2:4], "big")]
            source, destination, sequence = struct.unpack(">HHI", segment[:8])
            data = segment[(segment[12] >> 4) * 4:]
            if data:
                self.flows[(ip[12:16], source), (ip[16:20], destination)].setdefault(sequence, data)

    def end(self):
        self.over.set()
        self.thread.join()
        self.socket.close()

    def said_to(self, port):
        """What each client said to that port, in order."""
        return [b"".join(flow[at] for at in sorted(flow)) for (_, to), flow in self.flows.items() if to[1] == port]


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", read(f"/proc/{pid}/status", "r"))[1])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Intruders(TrainCase):
    def setUp(self):
        super().setUp()
        self.write_words(some_words(500))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def start(self, *arguments, **options):
        """With the usual limit of open files, so that a job which runs out of them is seen to."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        options.setdefault("preexec_fn", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard)))
        return super().start(*arguments, **options)

    def undisturbed(self):
        result = self.train(1, "--steps", str(STEPS))
        return {key: result[key] for key in ("weights_sha256", "samples_sha256", "heldout_loss")}

    def visit_all(self, door, kinds, made):
        """Each of the strangers in turn; the doors give no more than a greeting. False: somebody found the door gone."""
        for name, visit in kinds:
            said = visit(door)
            if said is None:
                return False
            made[name] += 1
            self.assertLessEqual(len(said), 100, (name, said))
        return True

    def coordinator_strangers(self, job, captured):
        kinds = [("HTTP without TLS", says(b"GET / HTTP/1.0\r\n\r\n")),
                 ("HTTP without TLS", says(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
                 ("plain text", says(b"mustrmsh\0\0")),
                 ("a connection closed without a word", leaves),
                 ("a TLS greeting cut short", self.cut_short),
                 ("TLS that was broken off", tls_and_no_more),
                 ("unknown", enrols(os.urandom(32))),
                 ("protocol version 7", enrols(os.urandom(32), version=7)),
                 ("a stream that does not begin with a hello", connects(field(1, 5))),
                 ("an agent of another job", connects(field(3, field(1, os.urandom(16)) + field(6, 1)))),
                 ("certificate", connects(field(3, field(1, job.job_id) + field(2, b"-----BEGIN") + field(6, 1))))]
        for stream in [said for said in captured if said.startswith(b"\x16\x03")][:1]:  # an agent, word for word
            kinds.append(("TLS that was broken off", says(stream)))
        return kinds

    @staticmethod
    def cut_short(door):
        connection = door.knock()
        connection.sendall(b"\x16\x03\x01")
        connection.close()
        return b""

    def worker_strangers(self, job, captured):
        job_id = job.job_id
        kinds = [("a stranger's connection: HTTP", says(b"GET / HTTP/1.0\r\n\r\n")),
                 ("a stranger's connection: TLS", says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")),
                 ("a stranger's connection: SSH", says(b"SSH-2.0-OpenSSH_9.6\r\n")),
                 ("a stranger's connection: plain text", says(b"hello\n")),
                 ("a stranger's connection: bytes that are no HELLO", says(b"\0" * 104)),
                 ("a stranger's connection: closed before its HELLO", leaves),
                 ("rank 2 of another job", says(hello(os.urandom(16)))),
                 ("rank 2 of generation 0, this is generation 1", says(hello(job_id, generation=0))),
                 ("rank 2 of generation 9, this is generation 1", says(hello(job_id, generation=9))),
                 ("rank 2 looks for rank 1, spawn 1; this is rank 0, spawn 1", says(hello(job_id, to_rank=1))),
                 ("rank 77, which is no peer", says(hello(job_id, rank=77))),
                 ("rank 2 with spawn 9; spawn 1 is the peer", says(hello(job_id, spawn=9))),
                 ("version 1 of the handshake, this is version 2", says(hello(job_id, version=1))),
                 ("wrong key: the PROOF of rank 2 is not of this connection", proves(hello(job_id), os.urandom(32)))]
        for stream in captured[:1]:
            kinds.append((f"wrong key: the PROOF of rank {stream[40]} is not of this connection",
                          proves(stream[:104], stream[104:152])))
        return kinds

    def crowd(self, job, door, process):
        """A great many at once, silent; then as many that speak and go. What that costs the process at the door."""
        before = resident_kib(process), descriptors(process)
        silent = [door.knock() for _ in range(CROWD)]
        most = descriptors(process)
        for _ in range(20):
            time.sleep(0.02)
            most = max(most, descriptors(process))
        for connection in silent:
            connection.close()
        for visit in range(CROWD):
            connection = door.knock()
            connection.sendall(b"me too\n")
            connection.close()
            most = max(most, descriptors(process)) if visit % 50 == 0 else most
        grown = resident_kib(process) - before[0]
        print(f"\n{door}: {2 * CROWD} strangers: {before[1]} to {most} descriptors, {grown} KiB more", file=sys.stderr)
        self.assertLess(most, before[1] + 600)
        self.assertLess(grown, 64 << 10)
        return 2 * CROWD

    def old_frames(self, job):
        """Frames of an old generation on the connections of rank 2, as if they were its own; returns how many were put there."""
        pid = job.ranks[2]
        port = {job.door(job.ranks[0]).address[1]: 0, job.door(job.ranks[1]).address[1]: 1}
        pidfd = LIBC.syscall(SYS_PIDFD_OPEN, pid, 0)
        sent = collections.Counter()
        for fd in inodes_of(pid).values():
            copy = LIBC.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)
            if copy < 0:
                continue  # not ours to touch: ptrace(2) says who may
            with socket.socket(fileno=copy) as connection:
                try:
                    to = port.get(connection.getpeername()[1]) if connection.family == socket.AF_INET else None
                except OSError:
                    to = None
                if to is not None:  # runtime/transport/frame.h: data of generation 0
                    connection.send(struct.pack("<HHIQQQ", 0x6d66, 2, 0, 0, 1, 64) + b"from another time".ljust(64))
                    sent[to] += 1
        os.close(pidfd)
        return sent

    def count(self, refused, part, by):
        return sum(one["count"] for one in refused if part in one["what"] and re.search(by, one["by"]))

    def disturb(self, *arguments):
        right = self.undisturbed()
        job = Job(self, 2, 4, *arguments)
        watch = Watch(job)
        coordinator = poll(lambda: next((pid for pid in children_of(job.process.pid) if role_of(pid) == "coordinator"), 0))
        capture = None
        if os.geteuid() == 0:
            # It may move to a network of its own before its port is open; workers wait for us.
            poll(lambda: doors_of(coordinator))
            capture = Capture(coordinator)
        open(job.go, "wb").close()
        job.until_connected()
        control, data = job.door(job.coordinator), job.door(job.ranks[0])
        greetings = []
        if capture:
            capture.end()
            greetings = [said for said in capture.said_to(data.address[1]) if said.startswith(b"mustrmsh") and len(said) >= 152]
            if net_of(job.coordinator) != net_of(os.getpid()):  # else packets of the whole machine may have crowded them out
                self.assertTrue(greetings, "no HELLO was captured")
        to_control = self.coordinator_strangers(job, capture.said_to(control.address[1]) if capture else [])
        to_data = self.worker_strangers(job, greetings)
        made = {control: collections.Counter(), data: collections.Counter()}

        # At rest: each kind, those that say nothing, frames of another time, and a crowd.
        silent, ends = [door.knock() for door in (control, data)], []
        caller = threading.Thread(target=self.caller, args=(control, ends), daemon=True)
        caller.start()
        greeted = data.knock()
        greeted.sendall(hello(job.job_id))
        self.visit_all(control, to_control, made[control])
        self.visit_all(data, to_data, made[data])
        frames = self.old_frames(job)
        for connection in (*silent, greeted):
            self.assertLessEqual(len(closed_after(connection)), 80)  # a WELCOME at most
        crowds = {door: self.crowd(job, door, door.pid) for door in made}
        caller.join(DEADLINE)
        self.assertEqual(ends, [True], "may call for ever")

        # In training, until it is over.
        job.train()
        rounds = 0
        last = {door: collections.Counter() for door in made}
        while job.process.poll() is None and rounds < 10:
            this = {door: collections.Counter() for door in made}
            try:
                if not (self.visit_all(control, to_control, this[control]) and self.visit_all(data, to_data, this[data])):
                    break
            except (OSError, AttributeError):
                break  # nobody is there any more
            # The job may end while the last ones are still being judged; those of the round before have been.
            for door in made:
                made[door] += last[door]
            last = this
            rounds += 1
        result, report, err = job.end()
        watch.end()
        self.assertEqual({key: result[key] for key in right}, right, err)
        self.assertEqual((result["restarts"], report["restarts"]), (0, 0), err)
        self.check_doors(watch, job)
        self.check_told(job, report, made, crowds, frames, control, data)
        print(f"{len(watch.doors)} doors, {rounds} rounds in training, {report['refusals']} refused, "
              f"{len(report['refused'])} kinds", file=sys.stderr)

    def caller(self, door, ends):
        """A stranger whose TLS is good and who calls on and on, each time with a token of its own making: not for long."""
        client, end, ended = Grpc(door), time.monotonic() + DEADLINE, True
        try:
            while ended and time.monotonic() < end:
                client.call("Enroll", field(1, os.urandom(32)) + field(2, PUBLIC_KEY) + field(3, 1))
                messages, ended = client.answer()
                self.assertEqual(messages, b"")
                time.sleep(0.05)
        except OSError:
            ended = False
        client.close()
        ends.append(not ended)

    def check_doors(self, watch, job):
        """Only who checks whoever comes has ever listened."""
        roles = collections.Counter(door.role for door in watch.doors.values())
        # The strangers' visits to the agents' ports for MPI programs have started a muster-pmix on each node.
        self.assertEqual(set(roles), {"coordinator", "agent", "train_words", "muster-pmix"}, watch.doors)
        of_workers = {inode for (inode, _), door in watch.doors.items() if door.role == "train_words"}
        for (inode, _), door in watch.doors.items():
            self.assertIn(door.family, (socket.AF_INET, socket.AF_UNIX), door)
            if door.family == socket.AF_INET and inode in of_workers:
                continue  # for a moment the agent still holds what it has just handed over
            if door.role in ("agent", "muster-pmix") and door.family == socket.AF_INET:
                self.assertEqual(door.address[0], "127.0.0.1", door)  # for MPI programs, which are on the same node
            else:
                self.assertEqual(door.family == socket.AF_UNIX, door.role == "agent", door)
        for thread, door, said in watch.visits:
            self.assertFalse(thread.is_alive(), f"{door} keeps strangers waiting")
            self.assertIn(said, (b"", None), door)

    def check_told(self, job, report, made, crowds, frames, control, data):
        refused = report["refused"]
        self.assertEqual(report["refusals"], sum(one["count"] for one in refused))
        at = {control: "^the coordinator$", data: "^host "}
        for door, kinds in made.items():
            for kind, times in kinds.items():
                self.assertGreaterEqual(self.count(refused, kind, at[door]), times, (kind, refused))
        self.assertGreaterEqual(self.count(refused, "plain text", at[control]), CROWD)
        self.assertGreaterEqual(self.count(refused, "silence", at[control]), 1)
        self.assertGreaterEqual(self.count(refused, "silent for 2s before its HELLO", at[data]), 1)
        self.assertGreaterEqual(self.count(refused, "rank 2 silent for 2s before its PROOF", at[data]), 1)
        for rank, number in frames.items():
            self.assertGreaterEqual(self.count(refused, "a frame of a generation before 1, on a connection of rank 2", at[data]),
                                    number, rank)
        if os.geteuid() == 0:
            self.assertTrue(frames)
        for door in made:
            of_door = sum(one["count"] for one in refused if re.search(at[door], one["by"]))
            self.assertGreaterEqual(of_door, crowds[door] + sum(made[door].values()))
        # Told of, too, and not by one line a stranger.
        told = [event for event in job.events() if event["kind"] == "refused"]
        self.assertGreater(len(told), len(refused))
        self.assertLess(len(told), 4 * len(refused))
        status = job.status()
        self.assertEqual((status["refusals"], len(status["refused"])), (report["refusals"], len(refused)))
        shown = self.muster("status", job.job_id.hex())
        self.assertIn("wrong key", shown.stdout)

    def test_on_nodes_of_their_own(self):
        self.disturb()

    def test_on_nodes_that_share_a_network(self):
        self.disturb("--node-network", "host")


if __name__ == "__main__":
    unittest.main()

"""All-reduce between two network namespaces whose link is shaped to a rate: are the sums right?

How much of the wire it uses is printed and not judged here: scripts/bench measures that, with what this file has for it.
"""

import os
import re
import shutil
import subprocess
import sys
import unittest

GBIT_PER_S = 1
# Ranks a node, and where their vectors lie.
CASES = ((1, "private"), (2, "window"), (2, "private"))


def why_not():
    """Why namespaces with a shaped link cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "needs root"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "needs ip and tc (apt-get install iproute2)"
    probe = subprocess.run(["ip", "netns", "add", f"mwire{os.getpid()}p"], capture_output=True, text=True)
    if probe.returncode != 0:
        return f"no network namespace can be made: {probe.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"mwire{os.getpid()}p"], check=False)
    return None


class Link:
    """Two namespaces and a veth pair between them, each direction shaped by a token bucket; gone at the end of the block."""

    addresses = ("10.77.0.1", "10.77.0.2")

    def __init__(self, gbit_per_s):
        self.rate = gbit_per_s
        self.names = [f"mwire{os.getpid()}{side}" for side in "ab"]

    def ip(self, *words):
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def __enter__(self):
        try:
            for name in self.names:
                self.ip("netns", "add", name)
            self.ip("link", "add", "wire", "netns", self.names[0], "type", "veth", "peer", "name", "wire", "netns", self.names[1])
            for name, address in zip(self.names, self.addresses):
                self.ip("-n", name, "link", "set", "lo", "up")
                self.ip("-n", name, "address", "add", f"{address}/24", "dev", "wire")
                self.ip("-n", name, "link", "set", "wire", "up")
                shape = ["tc", "-n", name, "qdisc", "add", "dev", "wire", "root", "tbf", "rate", f"{self.rate}gbit",
                         "burst", "128kb", "latency", "20ms"]
                subprocess.run(shape, check=True, capture_output=True, text=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def measure(program, size, rounds, ranks, place, before=()):
    """Sums checked, the median round's {"seconds", "ratio"}: the all-reduce's needs to what the link carries in its time.

    `before` are words before each command, such as taskset's.
    """
    with Link(GBIT_PER_S) as link:
        nodes = [subprocess.Popen(["ip", "netns", "exec", name, *before, program, str(number), str(ranks), str(size), str(rounds),
                                   place, str(GBIT_PER_S), *link.addresses], stdout=subprocess.PIPE, text=True)
                 for number, name in enumerate(link.names)]
        try:
            said = [node.communicate(timeout=90)[0] for node in nodes]
        finally:
            for node in nodes:
                node.kill()
        if any(node.returncode != 0 for node in nodes):
            raise RuntimeError(f"exit codes {[node.returncode for node in nodes]}")
    found = re.match(r"median (\S+) s (\S+)", said[0])
    return {"seconds": float(found[1]), "ratio": float(found[2])}


class Wire(unittest.TestCase):
    def test_sums_are_right_over_a_shaped_link(self):
        reason = why_not()
        if reason:
            self.skipTest(reason)
        program = os.path.join(os.environ["MUSTER_TEST_BIN"], "wire_allreduce")
        for ranks, place in CASES:
            with self.subTest(ranks=ranks, place=place):
                ratio = measure(program, 16 << 20, 3, ranks, place)["ratio"]
                print(f"{ranks} ranks a node, {place}: {ratio:.3f} of {GBIT_PER_S} Gbit/s", file=sys.stderr)


if __name__ == "__main__":
    unittest.main()

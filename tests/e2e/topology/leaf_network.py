"""Hosts as network namespaces below leaf switches with shaped uplinks, on one machine.

    network = LeafNetwork(leaves=4, hosts_of_leaf=4, mbit=100)   # raises Unavailable with the reason
    network.hosts[3].command("hostname")       # the words that run a program on host h3
    network.outside.command(...)               # one more host, on the core switch, not shaped
    network.counters()                         # bytes that each leaf has sent up and got down so far
    network.close()

Host i hangs on leaf i % leaves: in the order of their numbers each neighbour is on another leaf. A leaf is a bridge, joined to the core
bridge by one link; the link, and each host's own, carry `mbit` Mbit/s each way (token buckets), so a leaf of four is oversubscribed 4:1.
Needs root, iproute2 (ip, tc) and util-linux. All of it goes with the process that made it.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import time


class Unavailable(Exception):
    """Why there can be no such network here."""


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _net(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


class Host:
    def __init__(self, name, address, pid):
        self.name = name
        self.address = address
        self.pid = pid

    def command(self, *words):
        return ["nsenter", "-t", str(self.pid), "--net", "--uts", "--", *words]


class LeafNetwork:
    def __init__(self, leaves=4, hosts_of_leaf=4, mbit=100):
        self.leaves = leaves
        self.mbit = mbit
        self.hosts = []
        self.outside = None
        self._holders = []
        if os.geteuid() != 0:
            raise Unavailable("hosts as namespaces take root")
        for program, package in (("ip", "iproute2"), ("tc", "iproute2"), ("nsenter", "util-linux"), ("unshare", "util-linux")):
            if shutil.which(program) is None:
                raise Unavailable(f"there is no {program} (package {package})")
        try:
            self._build(leaves * hosts_of_leaf)
        except BaseException:
            self.close()
            raise

    def leaf_of(self, host):
        return host % self.leaves

    def topology_conf(self):
        """The network as Slurm would write it."""
        lines = [f"SwitchName=leaf{leaf} Nodes={','.join(host.name for i, host in enumerate(self.hosts) if self.leaf_of(i) == leaf)}"
                 for leaf in range(self.leaves)]
        return "\n".join([*lines, f"SwitchName=core Switches=leaf[0-{self.leaves - 1}]", ""])

    def counters(self):
        """[(bytes sent up, bytes got from above)] by leaf, as the kernel counts them behind the token buckets, headers included."""
        read = lambda name, count: int(_run(*self._in_fabric("cat", f"/sys/class/net/{name}/statistics/{count}")))
        return [(read(f"up{leaf}", "tx_bytes"), read(f"down{leaf}", "tx_bytes")) for leaf in range(self.leaves)]

    def close(self):
        for holder in self._holders:
            holder.kill()
            holder.wait()
        self._holders = []

    def _hold(self):
        holder = subprocess.Popen(["unshare", "--net", "--uts", "--mount", "sleep", "infinity"], preexec_fn=_die_with_parent)
        self._holders.append(holder)
        own = _net(os.getpid())
        end = time.monotonic() + 20
        while _net(holder.pid) in (own, None):
            if holder.poll() is not None or time.monotonic() > end:
                raise Unavailable("no network namespace can be made")
            time.sleep(0.005)
        return holder.pid

    def _in(self, pid, *words):
        return ["nsenter", "-t", str(pid), "--net", "--uts", "--mount", "--", *words]

    def _in_fabric(self, *words):
        return self._in(self._fabric, *words)

    def _shape(self, inside, device):
        _run(*inside("tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{self.mbit}mbit", "burst", "64kb", "latency", "50ms"))

    def _build(self, count):
        self._fabric = self._hold()
        # A namespace of its own shows its own /sys.
        _run(*self._in_fabric("mount", "-t", "sysfs", "sysfs", "/sys"))
        _run(*self._in_fabric("ip", "link", "add", "core", "type", "bridge"))
        _run(*self._in_fabric("ip", "link", "set", "core", "up"))
        for leaf in range(self.leaves):
            _run(*self._in_fabric("ip", "link", "add", f"leaf{leaf}", "type", "bridge"))
            _run(*self._in_fabric("ip", "link", "set", f"leaf{leaf}", "up"))
            _run(*self._in_fabric("ip", "link", "add", f"up{leaf}", "type", "veth", "peer", "name", f"down{leaf}"))
            for device, bridge in ((f"up{leaf}", f"leaf{leaf}"), (f"down{leaf}", "core")):
                _run(*self._in_fabric("ip", "link", "set", device, "master", bridge))
                _run(*self._in_fabric("ip", "link", "set", device, "up"))
                self._shape(self._in_fabric, device)
        for i in range(count):
            self.hosts.append(self._host(f"h{i}", f"10.88.0.{i + 1}", f"leaf{self.leaf_of(i)}", True))
        self.outside = self._host("outside", "10.88.0.250", "core", False)

    def _host(self, name, address, bridge, shaped):
        pid = self._hold()
        inside = lambda *words: self._in(pid, *words)
        _run(*self._in_fabric("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(pid)))
        _run(*self._in_fabric("ip", "link", "set", f"to-{name}", "master", bridge))
        _run(*self._in_fabric("ip", "link", "set", f"to-{name}", "up"))
        _run(*inside("ip", "link", "set", "lo", "up"))
        _run(*inside("ip", "address", "add", f"{address}/24", "dev", "eth0"))
        _run(*inside("ip", "link", "set", "eth0", "up"))
        _run(*inside("hostname", name))
        if shaped:
            self._shape(inside, "eth0")
        return Host(name, address, pid)

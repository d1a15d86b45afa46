"""Hosts on one machine, as real as they get without virtual machines: each has its own network, host name, mounts and process numbers,
and its own sshd; all hang on one bridge. Nothing of it is seen from outside, and all of it goes with the process that made it.

    network = HostNetwork(folder, ["node-a", "node-b"], ipv6=False)   # raises Unavailable with the reason
    network.login                   # one more host, without sshd, from which jobs are started: command(), popen
    network.ssh                     # "ssh -F FILE": logs in to the hosts by name with the network's own key
    network.host("node-a").pids()   # processes there, as numbered here
    network.close()

Needs root, iproute2, util-linux and openssh-server. ~/.ssh is neither read nor written.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import time

SSHD = "/usr/sbin/sshd"
SHELL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Unavailable(Exception):
    """Why there can be no such hosts here."""


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _wait_for(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Unavailable(f"{what} within {seconds} s")
        time.sleep(0.01)


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _command(pid):
    return _read(f"/proc/{pid}/comm").decode(errors="replace").strip()


def _net(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


def _is_alive(pid):
    state = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:1]
    return state not in ([], [b"Z"], [b"X"])


class Host:
    """One of the network's hosts. `pid` is its first process."""

    def __init__(self, name, address, holder, pid, has_processes_of_its_own):
        self.name = name
        self.address = address
        self.pid = pid
        self._holder = holder
        self._net = _net(pid)
        self._enter = ["nsenter", "-t", str(pid), "--net", "--uts", "--mount"]
        if has_processes_of_its_own:
            self._enter.append("--pid")

    def command(self, *words):
        """The words that run `words` there. On the login host the process is the one that is started, under its own number."""
        return [*self._enter, "--", *words]

    def run(self, *words, **options):
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=60, **options)

    def pids(self, command=None):
        """Living processes there but for the first, as numbered here; those of this name (comm)."""
        return [int(one) for one in os.listdir("/proc")
                if one.isdigit() and int(one) != self.pid and _net(one) == self._net and _is_alive(one)
                and command in (None, _command(one))]

    def left(self):
        """Processes there that belong to no sshd: ours and our workers'."""
        return [pid for pid in self.pids() if _command(pid) not in ("sshd", "nsenter", "unshare")]

    def close(self):
        self._holder.kill()
        self._holder.wait()


class HostNetwork:
    def __init__(self, folder, names, ipv6=False, hidden=None):
        """`folder`: keys and settings go there. `hidden`: {name: [folders that are empty on this host]}."""
        self.folder = os.path.join(folder, "hosts")
        self.ipv6 = ipv6
        self.hosts = []
        self._bridge = None
        self._check()
        os.makedirs(self.folder)
        try:
            self._build(names, hidden or {})
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _check():
        if os.geteuid() != 0:
            raise Unavailable("hosts as namespaces take root")
        for program, package in ((SSHD, "openssh-server"), ("ip", "iproute2"), ("nsenter", "util-linux"), ("unshare", "util-linux"),
                                 ("ssh", "openssh-client"), ("ssh-keygen", "openssh-client")):
            if shutil.which(program) is None:
                raise Unavailable(f"there is no {program} (package {package})")

    def _build(self, names, hidden):
        self._key("client")
        shutil.copy(self._path("client.pub"), self._path("authorized_keys"))
        with open(self._path("empty"), "w", encoding="utf-8"):
            pass
        with open(self._path("etc_hosts"), "w", encoding="utf-8") as file:
            file.write("127.0.0.1 localhost\n::1 localhost\n")
        self._bridge = self._hold(["unshare", "--net", "sleep", "infinity"])
        own = _net(os.getpid())
        _wait_for(lambda: _net(self._bridge.pid) not in (own, None), "no network namespace")
        self._in_bridge("ip", "link", "add", "br0", "type", "bridge")
        self._in_bridge("ip", "link", "set", "br0", "up")
        config, known = [], []
        for number, name in enumerate(names):
            host = self._start(name, number, hidden.get(name, []))
            self.hosts.append(host)
            key = " ".join(_read(self._path(f"{name}.pub")).decode().split()[:2])
            known.append(f"{name},{host.address} {key}\n")
            config.append(f"Host {name}\n  HostName {host.address}\n")
        config.append("Host *\n  User root\n  IdentitiesOnly yes\n  GlobalKnownHostsFile /dev/null\n  ControlPath none\n"
                      f"  IdentityFile {self._path('client')}\n  UserKnownHostsFile {self._path('known_hosts')}\n")
        self._write("known_hosts", "".join(known))
        self._write("ssh_config", "".join(config))
        self.ssh = f"ssh -F {self._path('ssh_config')}"
        self.login = self._start_login(len(names))
        for host in self.hosts:
            _wait_for(lambda: self._listens(host), f"no sshd on {host.name}")

    # --- What tests use ---

    def host(self, name):
        return next(host for host in self.hosts if host.name == name)

    def known_hosts(self):
        return self._path("known_hosts")

    def left(self):
        """{host: processes that belong to no sshd} of hosts that have any; without the login host."""
        found = {host.name: [(pid, _command(pid)) for pid in host.left()] for host in self.hosts}
        return {name: pids for name, pids in found.items() if pids}

    def cut(self, name):
        """Takes the host off the bridge."""
        self._in_bridge("ip", "link", "set", f"to-{self._number(name)}", "down")

    def close(self):
        for host in [*self.hosts, getattr(self, "login", None)]:
            if host is not None:
                host.close()
        if self._bridge is not None:
            self._bridge.kill()
            self._bridge.wait()

    # --- How they are made ---

    def _number(self, name):
        return next(number for number, host in enumerate(self.hosts) if host.name == name)

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _write(self, name, text):
        with open(self._path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def _key(self, name):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self._path(name))

    def _hold(self, words):
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                preexec_fn=_die_with_parent, start_new_session=True)

    def _in_bridge(self, *words):
        _run("nsenter", "-t", str(self._bridge.pid), "--net", *words)

    def _address(self, number):
        return f"fd00:77::{number + 11:x}" if self.ipv6 else f"10.78.0.{number + 11}"

    def _connect(self, pid, number):
        """A network of its own for the process, with one address and no other."""
        self._in_bridge("ip", "link", "add", f"to-{number}", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._in_bridge("ip", "link", "set", f"to-{number}", "master", "br0", "up")
        inside = ("nsenter", "-t", str(pid), "--net", "ip")
        _run(*inside, "link", "set", "lo", "up")
        if self.ipv6:
            _run(*inside, "-6", "addr", "add", f"{self._address(number)}/64", "dev", "eth0", "nodad")
        else:
            _run(*inside, "addr", "add", f"{self._address(number)}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")

    def _settings(self, name):
        self._key(name)
        self._write(f"{name}.sshd", f"""Port 22
AddressFamily {"inet6" if self.ipv6 else "inet"}
HostKey {self._path(name)}
AuthorizedKeysFile {self._path("authorized_keys")}
StrictModes no
UsePAM no
UseDNS no
PidFile none
MaxStartups 200:30:400
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel ERROR
""")

    def _start(self, name, number, hidden):
        self._settings(name)
        # No resolver, no names but its own, and an empty folder where something is not installed.
        script = [f"hostname {name}", "mount -t tmpfs none /run", "mkdir /run/sshd",
                  f"mount --bind {self._path('empty')} /etc/resolv.conf", f"mount --bind {self._path('etc_hosts')} /etc/hosts"]
        script += [f"mount -t tmpfs none '{folder}'" for folder in hidden]
        script.append(f"exec {SSHD} -D -f {self._path(name)}.sshd -E {self._path(name)}.log")
        holder = self._hold(["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec",
                             " && ".join(script)])
        _wait_for(lambda: self._first_child(holder) or holder.poll() is not None, f"no first process of {name}")
        pid = self._first_child(holder)
        if pid is None:
            raise Unavailable("namespaces of network, mounts and processes may not be made here")
        own = _net(os.getpid())
        _wait_for(lambda: _net(pid) not in (own, None), f"no network of {name}")
        self._connect(pid, number)
        return Host(name, self._address(number), holder, pid, True)

    def _start_login(self, number):
        # Not with `exec`: what is entered must be there before anything is waited for.
        script = f"hostname login && mount --bind {self._path('empty')} /etc/resolv.conf && mount --bind {self._path('etc_hosts')} /etc/hosts && exec sleep infinity"
        holder = self._hold(["unshare", "--net", "--uts", "--mount", "sh", "-ec", script])
        own = _net(os.getpid())
        _wait_for(lambda: _command(holder.pid) == "sleep" and _net(holder.pid) != own, "no login host")
        self._connect(holder.pid, number)
        return Host("login", self._address(number), holder, holder.pid, False)

    @staticmethod
    def _first_child(holder):
        children = _read(f"/proc/{holder.pid}/task/{holder.pid}/children").split()
        return int(children[0]) if children else None

    def _listens(self, host):
        # A line of /proc/net/tcp in state LISTEN (0A) at port 22 (0016).
        table = _read(f"/proc/{host.pid}/net/{'tcp6' if self.ipv6 else 'tcp'}").decode()
        return any(len(fields) > 3 and fields[1].endswith(":0016") and fields[3] == "0A"
                   for fields in (line.split() for line in table.splitlines()))

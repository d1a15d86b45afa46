"""A Slurm of three nodes inside this machine: slurmctld, munged and one slurmd a node, all as root, with a configuration of its own.

Each node is a network and host name of its own on one bridge; the controller's side of it is the login node. All of it lives in one
PID namespace whose first process is this file, so that it ends as a whole when that is killed, and with whoever started it.
Slurm needs nothing of the machine: no cgroups, no units, no accounting.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

NODES = ("node1", "node2", "node3")
PROGRAMS = ("slurmctld", "slurmd", "munged", "srun", "salloc", "sbatch", "unshare", "nsenter", "ip")

CONFIGURATION = """
ClusterName=muster
SlurmctldHost=login(10.88.0.100)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
KillWait=3
NodeName=node[1-3] CPUs=2 RealMemory=500 NodeAddr=10.88.0.[1-3] State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def what_is_missing():
    """Why there can be no such cluster here; empty: there can."""
    if os.geteuid() != 0:
        return "it takes root"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if missing:
        return f"there is no {', '.join(missing)} (packages slurm-wlm, munge, util-linux, iproute2)"
    tried = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "--net", "--uts", "true"], capture_output=True, text=True)
    return f"namespaces are refused: {tried.stderr.strip()}" if tried.returncode != 0 else ""


def end_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Cluster:
    def __init__(self, folder, environment, topology=None):
        """`topology`: a topology.conf; without it Slurm knows no network."""
        self.folder = folder
        if topology:
            with open(os.path.join(folder, "topology.conf"), "w", encoding="utf-8") as file:
                file.write(topology)
        self.environment = dict(environment, SLURM_CONF=os.path.join(folder, "slurm.conf"),
                                PATH=environment.get("PATH", "") + ":/usr/sbin:/sbin")
        self.process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--uts", sys.executable, "-B", __file__, folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=self.environment, preexec_fn=end_with_parent)
        said = self.process.stdout.readline().strip()
        if said != "up":
            self.end()
            raise RuntimeError(f"no cluster of Slurm came up: {said}; {self.logs()}")
        (self.init,) = [int(pid) for pid in self.read(f"/proc/{self.process.pid}/task/{self.process.pid}/children").split()]

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def read(self, path):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def logs(self):
        return "\n".join(f"{name}: ...{self.read(os.path.join(self.folder, name))[-1500:]}"
                         for name in sorted(os.listdir(self.folder)) if name.endswith((".log", ".err")))

    def words(self, *arguments):
        """The command that runs `arguments` on the login node."""
        return ["nsenter", "-t", str(self.init), "--pid", "--mount", "--net", "--uts", "--", *arguments]


def run(*words, lines=""):
    subprocess.run(words, input=lines, text=True, check=True)


def serve(folder):
    """The first process of the cluster."""
    for name in ("munge", "state", "only-login"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    key = os.path.join(folder, "munge.key")
    with open(key, "wb") as file:
        file.write(os.urandom(128))
    os.chmod(key, 0o600)
    with open(os.path.join(folder, "slurm.conf"), "w", encoding="utf-8") as file:
        file.write(CONFIGURATION.format(folder=folder))
        if os.path.exists(os.path.join(folder, "topology.conf")):
            file.write("TopologyPlugin=topology/tree\n")
    with open(os.path.join(folder, "cgroup.conf"), "w", encoding="utf-8") as file:
        file.write("CgroupPlugin=cgroup/v1\n")
    run("hostname", "login")
    run("ip", "-batch", "-", lines="link set lo up\nlink add muster0 type bridge\naddress add 10.88.0.100/24 dev muster0\n"
                                   "link set muster0 up\n")
    munge = os.path.join(folder, "munge")
    run("munged", "--force", "--origin=127.0.0.1", "--key-file", key, "--socket", f"{munge}/socket", "--pid-file", f"{munge}/pid",
        "--log-file", f"{folder}/munged.log", "--seed-file", f"{munge}/seed")

    def start(name, *words, **options):
        with open(os.path.join(folder, f"{name}.err"), "w", encoding="utf-8") as errors:
            return subprocess.Popen(words, stderr=errors, **options)
    start("slurmctld", "slurmctld", "-D", "-i", stdin=subprocess.DEVNULL)
    for number, node in enumerate(NODES, 1):
        # node3 does not see what lies in only-login.
        hide = f"mount -t tmpfs none {folder}/only-login;" if node == "node3" else ""
        process = start(node, "unshare", "--net", "--uts", "--mount", "--", "sh", "-c",
                        f"hostname {node}; {hide} echo; read go; exec slurmd -D -N {node}",
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        run("ip", "-batch", "-", lines=f"link add veth{number} type veth peer name eth0 netns {process.pid}\n"
                                       f"link set veth{number} master muster0 up\n")
        # nsenter, for `ip netns exec` would mount another /sys.
        run("nsenter", f"--net=/proc/{process.pid}/ns/net", "ip", "-batch", "-",
            lines=f"link set lo up\naddress add 10.88.0.{number}/24 dev eth0\nlink set eth0 up\n")
        process.stdin.write("go\n")
        process.stdin.close()
    end = time.monotonic() + 60
    while True:
        seen = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], capture_output=True, text=True)
        if seen.stdout.split() == ["idle"] * len(NODES):
            break
        if time.monotonic() > end:
            print("nodes:", seen.stdout.split(), seen.stderr.strip(), flush=True)
            return
        time.sleep(0.05)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans come to us
    print("up", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    serve(sys.argv[1])

"""What workers are told of the network for NCCL, on nodes whose sysfs has GPUs and RDMA NICs: made-up ones, in a mount namespace."""
import glob
import json
import mmap
import os
import subprocess
import unittest
import xml.etree.ElementTree

from muster_e2e import DEADLINE, MUSTER, MusterCase

CAN_MOUNT = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
CAN_MAKE_NETWORKS = os.geteuid() == 0 and subprocess.run(["ip", "-V"], capture_output=True, check=False).returncode == 0

# Puts the folder $1 over sysfs and /dev where devices are looked for, and leaves the rest as it is; then runs what follows.
BEHIND = """set -e
fake=$1; shift
mount --rbind /sys $fake/real/sys
mount --rbind /dev $fake/real/dev
for one in $fake/real/sys/class/*; do [ -e $fake/class/${one##*/} ] || ln -s $one $fake/class/; done
for one in $fake/real/dev/*; do [ -e $fake/dev/${one##*/} ] || ln -s $one $fake/dev/; done
mount --bind $fake/class /sys/class
mount --bind $fake/bus /sys/bus/pci/devices
mount --bind $fake/dev /dev
exec "$@"
"""
# An ssh to hosts that are this machine, each with the sysfs of the folder that has its name.
SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
exec unshare -m sh -c "$MADE_BEHIND" sh "$MADE_HOSTS/$2" sh -c "$3"
"""
REMEDY = "give workers these devices to read and write: in a container with docker run --device /dev/infiniband"
# Each worker leaves its environment, as the kernel has it, and what NCCL_TOPO_FILE names.
WORKER = ["sh", "-c", 'cat /proc/self/environ > "$0/$RANK"; [ -z "$NCCL_TOPO_FILE" ] || cp "$NCCL_TOPO_FILE" "$0/topology-$RANK"']


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")


@unittest.skipUnless(CAN_MOUNT, "a sysfs of its own needs unshare -m")
class NcclEnvironment(MusterCase):
    def setUp(self):
        super().setUp()
        self.begin_machine("all")
        for name in [name for name in self.environment if name.startswith("NCCL_")]:
            del self.environment[name]
        self.environment["CUDA_VISIBLE_DEVICES"] = "3,1"
        self.environment["NCCL_CONF_FILE"] = os.path.join(self.folder, "none.conf")

    def begin_machine(self, name):
        """What is added from now on is this one's: "all" for nodes of this machine, else a host."""
        self.fake = os.path.join(self.folder, "machines", name)
        for name in ("real/sys", "real/dev", "class/infiniband", "class/infiniband_verbs", "bus", "dev/infiniband"):
            os.makedirs(os.path.join(self.fake, name))
        return self.fake

    def add_device(self, bus, bridges, kind, vendor):
        folder = os.path.join(self.fake, "devices", *bridges, bus)
        for name, text in (("class", kind), ("vendor", vendor), ("numa_node", "0"), ("max_link_speed", "32.0 GT/s PCIe"),
                           ("max_link_width", "16")):
            write(os.path.join(folder, name), text)
        os.symlink(folder, os.path.join(self.fake, "bus", bus))
        return folder

    def add_nic(self, name, bus, bridges, state="4: ACTIVE"):
        folder = self.add_device(bus, bridges, "0x020700", "0x15b3")
        card = os.path.join(self.fake, "class/infiniband", name)
        for file, text in (("state", state), ("link_layer", "InfiniBand"), ("rate", "400 Gb/sec (4X NDR)")):
            write(os.path.join(card, "ports/1", file), text)
        os.symlink(folder, os.path.join(card, "device"))
        verbs = os.path.join(self.fake, "class/infiniband_verbs")
        number = f"uverbs{len(os.listdir(verbs))}"
        write(os.path.join(verbs, number, "ibdev"), name)
        write(self.device_of(number), "")

    def device_of(self, number):
        return os.path.join(self.fake, "dev/infiniband", number)

    def make_machine(self, hidden=False):
        """Two GPUs, each with a NIC on its switch, or, as in a virtual machine, each device on a bridge of its own; and storage."""
        for pair in range(2):
            up = [f"pci0000:{pair}0", f"0000:{pair}0:01.0", f"0000:{pair}1:00.0"]
            gpu, nic = f"0000:{pair}3:00.0", f"0000:{pair}4:00.0"
            self.add_device(gpu, [f"pcia00{pair}:00"] if hidden else [*up, f"0000:{pair}2:00.0"], "0x030200", "0x10de")
            self.add_nic(f"mlx5_{pair}", nic, [f"pcib00{pair}:00"] if hidden else [*up, f"0000:{pair}2:01.0"])
        self.add_nic("mlx5_9", "0000:99:00.0", ["pci0000:90", "0000:90:01.0"])

    def write_cluster(self, text):
        path = os.path.join(self.folder, "cluster.yaml")
        write(path, text)
        return path

    def run_job(self, *arguments, network="host", ranks=2, nodes=("--nodes", "2"), worker=WORKER):
        """Runs it to its end, all nodes with the same devices; returns the result and the workers' environments."""
        network = ["--node-network", network] if nodes else []
        return self.run_words(["unshare", "-m", "sh", "-c", BEHIND, "sh", self.fake], [*nodes, *network, *arguments], ranks, worker)

    def run_on_hosts(self, hosts, *arguments):
        """The same, a rank on each host, with devices of its own."""
        ssh = os.path.join(self.folder, "ssh")
        write(ssh, SSH)
        os.chmod(ssh, 0o755)
        self.environment.update(MADE_BEHIND=BEHIND, MADE_HOSTS=os.path.join(self.folder, "machines"))
        where = ["-H", ",".join(f"{host}:1" for host in hosts), "--ssh", ssh, "--listen", "127.0.0.1"]
        return self.run_words([], [*where, *arguments], len(hosts), WORKER)

    def run_words(self, before, arguments, ranks, worker):
        out = os.path.join(self.folder, "out")
        subprocess.run(["rm", "-rf", out], check=True)
        os.mkdir(out)
        result = subprocess.run([*before, MUSTER, "run", "-np", str(ranks), *arguments, *worker, out], capture_output=True, text=True,
                                env=self.environment, timeout=DEADLINE, stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        for folder in glob.glob(os.path.join(self.folder, "machines/*/class")) + glob.glob(os.path.join(self.folder, "machines/*/dev")):
            for entry in os.scandir(folder):
                if entry.is_symlink():
                    os.unlink(entry.path)
        told = []
        for rank in range(ranks):
            with open(os.path.join(out, str(rank)), encoding="utf-8") as file:
                told.append(dict(setting.split("=", 1) for setting in file.read().split("\0") if setting))
        return result, told

    def nccl(self, told):
        return {name: value for name, value in told.items() if name.startswith("NCCL_") and name != "NCCL_CONF_FILE"}

    def test_storage_is_left_out_and_the_reason_is_said(self):
        self.make_machine()
        report = os.path.join(self.folder, "report.json")
        result, told = self.run_job("--report", report, "--display-map")
        for one in told:
            self.assertEqual(self.nccl(one), {"NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1"})
            self.assertEqual(one["CUDA_VISIBLE_DEVICES"], "3,1")
        why = "NCCL on node0, node1 is told NCCL_IB_HCA==mlx5_0:1,mlx5_1:1: without mlx5_9:1 (behind no switch with a GPU)"
        self.assert_says(result, why)
        with open(report, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["nccl"], [why])
        self.assertIn(f"nccl\n  {why}\n", self.muster("status").stdout)
        status = json.loads(self.muster("status", "--json").stdout)
        self.assertEqual((status["nccl"], status["nccl_notes"]), ([why], []))
        self.assertIn(why, self.muster("events").stdout)

    def test_a_job_that_runs_shows_it(self):
        self.make_machine()
        waits = 'until "$0" status | grep -q "^  NCCL on node0, node1 is told NCCL_IB_HCA"; do :; done; '
        _, told = self.run_job(worker=["sh", "-c", waits + WORKER[2].replace("$0", "$1"), MUSTER])
        self.assertEqual([self.nccl(one) for one in told], [{"NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1"}] * 2)

    def test_ports_that_no_worker_can_open(self):
        self.make_machine()
        os.unlink(self.device_of("uverbs1"))
        result, told = self.run_job()
        self.assertEqual([self.nccl(one) for one in told], [{}, {}])  # storage may be the only NIC of the second GPU
        note = f"RDMA ports on node0, node1 are up, and NCCL cannot use them: mlx5_1:1 (/dev/infiniband/uverbs1 is not there); {REMEDY}"
        self.assert_says(result, note)
        for number in ("uverbs0", "uverbs2"):
            os.unlink(self.device_of(number))
        os.symlink("uverbs2", self.device_of("uverbs2"))
        result, told = self.run_job()
        self.assertEqual([self.nccl(one) for one in told], [{}, {}])
        note = ("RDMA ports on node0, node1 are up, and NCCL cannot use them: mlx5_0:1 (/dev/infiniband/uverbs0 is not there), mlx5_1:1 "
                "(/dev/infiniband/uverbs1 is not there), mlx5_9:1 (/dev/infiniband/uverbs2 cannot be opened: Too many levels of symbolic "
                f"links); {REMEDY}")
        self.assert_says(result, note)
        self.assertIn(f"nccl\n  warning: {note}", self.muster("status").stdout)

    def test_a_job_of_one_node_is_told_nothing(self):
        self.make_machine()
        _, told = self.run_job(nodes=())
        self.assertEqual([self.nccl(one) for one in told], [{}, {}])

    def test_nodes_without_rdma_are_told_nothing_of_nics(self):
        _, told = self.run_job()
        self.assertEqual([self.nccl(one) for one in told], [{}, {}])

    @unittest.skipUnless(CAN_MAKE_NETWORKS, "a network for each node needs root and ip")
    def test_the_interface_between_nodes(self):
        _, told = self.run_job(network="namespaces")
        for one in told:
            self.assertEqual(self.nccl(one), {"NCCL_SOCKET_IFNAME": "=" + one["GLOO_SOCKET_IFNAME"]})
        _, told = self.run_job("-x", "NCCL_SOCKET_IFNAME=lo", network="namespaces")
        self.assertEqual({one["NCCL_SOCKET_IFNAME"] for one in told}, {"lo"})
        _, told = self.run_job("--nccl-environment", "off", network="namespaces")
        self.assertEqual([self.nccl(one) for one in told], [{}, {}])

    def test_rails_of_the_cluster_file(self):
        self.make_machine()
        cluster = self.write_cluster("""
nodes:
  - {name: node0, gpus: 2, nics: [{name: mlx5_0, rail: 0}, {name: mlx5_1, rail: 1}, {name: mlx5_9, rail: 2}]}
  - {name: node1, gpus: 2, nics: [{name: mlx5_0, rail: 0}, {name: mlx5_1, rail: 1}, {name: mlx5_7, rail: 2}]}
""")
        result, told = self.run_job("--topology-file", cluster)
        for one in told:
            self.assertEqual(self.nccl(one), {"NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1", "NCCL_CROSS_NIC": "0"})
        self.assert_says(result, f"node node1 has no RDMA NIC mlx5_7, which {cluster} lists",
                         "rails are missing, and left out on all nodes: rail 2 on node node1")

    def three_rails(self):
        return self.write_cluster("""
nodes:
  - {name: "node[0-1]", gpus: 2, nics: [{name: mlx5_0, rail: 0}, {name: mlx5_1, rail: 1}, {name: mlx5_9, rail: 2}]}
""")

    def test_a_rail_that_one_node_lacks_is_left_out_on_all(self):
        cluster = self.three_rails()
        for host in ("node0", "node1"):
            self.begin_machine(host)
            self.make_machine()
        write(os.path.join(self.fake, "class/infiniband/mlx5_1/ports/1/state"), "1: DOWN")
        self.add_nic("mlx5_8", "0000:98:00.0", ["pci0000:90", "0000:90:02.0"])
        result, told = self.run_on_hosts(["node0", "node1"], "--topology-file", cluster, "-v")
        for one in told:
            self.assertEqual(self.nccl(one), {"NCCL_IB_HCA": "=mlx5_0:1,mlx5_9:1", "NCCL_CROSS_NIC": "0"})
        reasons = ["NCCL on node0 is told NCCL_IB_HCA==mlx5_0:1,mlx5_9:1: without mlx5_1:1 (rail 1, which another node lacks)",
                   f"NCCL on node1 is told NCCL_IB_HCA==mlx5_0:1,mlx5_9:1: without mlx5_8:1 (not among the NICs of {cluster})"]
        notes = [f"node node1: NIC mlx5_1, which {cluster} lists, is down",
                 "rails are missing, and left out on all nodes: rail 1 on node node1"]
        self.assert_says(result, *reasons, *notes)
        status = json.loads(self.muster("status", "--json").stdout)
        self.assertEqual(status["nccl_notes"], notes)
        for reason in reasons:
            self.assertIn(reason, status["nccl"])

    def test_a_rail_whose_device_one_container_lacks_is_left_out_on_all(self):
        cluster = self.three_rails()
        for host in ("node1", "node0"):
            self.begin_machine(host)
            self.make_machine()
        os.unlink(self.device_of("uverbs2"))
        result, told = self.run_on_hosts(["node0", "node1"], "--topology-file", cluster)
        self.assertEqual([self.nccl(one) for one in told],
                         [{"NCCL_CROSS_NIC": "0"}, {"NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1", "NCCL_CROSS_NIC": "0"}])
        self.assert_says(result, f"RDMA ports on node0 are up, and NCCL cannot use them: mlx5_9:1 (/dev/infiniband/uverbs2 is not there); {REMEDY}",
                         "rails are missing, and left out on all nodes: rail 2 on node node0")

    def test_what_the_user_has_said_stays(self):
        self.make_machine()
        cluster = self.write_cluster("levels: [{name: pod, per_rail: true}]\nnodes: [{name: \"node[0-1]\", labels: {pod: a}}]\n")
        _, told = self.run_job("--topology-file", cluster, "-x", "NCCL_IB_HCA=^mlx5_9")
        self.assertEqual([self.nccl(one) for one in told], [{"NCCL_IB_HCA": "^mlx5_9", "NCCL_CROSS_NIC": "0"}] * 2)
        self.environment["NCCL_CROSS_NIC"] = "1"  # as a login script would
        _, told = self.run_job("--topology-file", cluster, "-x", "NCCL_NET=Socket")
        self.assertEqual([self.nccl(one) for one in told], [{"NCCL_NET": "Socket", "NCCL_CROSS_NIC": "1"}] * 2)
        del self.environment["NCCL_CROSS_NIC"]
        write(self.environment["NCCL_CONF_FILE"], "# NCCL's own file\nNCCL_CROSS_NIC=2")
        _, told = self.run_job("--topology-file", cluster)
        self.assertEqual([self.nccl(one) for one in told], [{"NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1"}] * 2)

    def test_it_is_turned_off(self):
        self.make_machine()
        _, told = self.run_job("--nccl-environment", "off")
        self.assertEqual([self.nccl(one) for one in told], [{}, {}])
        job = os.path.join(self.folder, "job.yaml")
        write(job, "nccl: {environment: off}")
        _, told = self.run_job("-f", job)
        self.assertEqual([self.nccl(one) for one in told], [{}, {}])
        _, told = self.run_job("-f", job, "--nccl-environment", "auto")
        self.assertEqual([self.nccl(one) for one in told], [{"NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1"}] * 2)
        write(job, "nccl: {environment: none}")
        wrong = self.muster("run", "-f", job, "true")
        self.assertEqual(wrong.returncode, 78)
        self.assert_says(wrong, "job.yaml:1:21: nccl.environment: --nccl-environment none is not known; write auto or off")

    def test_a_hidden_bus_is_described(self):
        self.make_machine(hidden=True)
        cluster = self.write_cluster("""
nodes:
  - {name: "node[0-1]", gpus: 2, nics: [mlx5_0, mlx5_1], distances: [[PIX, SYS], [SYS, PIX]]}
""".replace("[mlx5_0, mlx5_1]", "[{name: mlx5_0}, {name: mlx5_1}]"))
        result, told = self.run_job("-v", "--topology-file", cluster)
        self.assert_says(result, f"NCCL on node0, node1 is told its PCI bus by NCCL_TOPO_FILE: the node hides its PCI bus; "
                                 f"switches are those of {cluster}")
        for rank, one in enumerate(told):
            self.assertEqual(set(self.nccl(one)), {"NCCL_IB_HCA", "NCCL_TOPO_FILE"})
            self.assertEqual(one["NCCL_TOPO_FILE"], one["TMPDIR"] + "/nccl-topology.xml")
            self.assertFalse(os.path.exists(one["NCCL_TOPO_FILE"]), "it outlives its job")
            system = xml.etree.ElementTree.parse(os.path.join(self.folder, "out", f"topology-{rank}")).getroot()
            self.assertEqual((system.tag, system.attrib), ("system", {"version": "1"}))
            switches = system.findall("./cpu/pci[@class='0x060400']")
            self.assertEqual([[device.get("busid") for device in switch] for switch in switches],
                             [["0000:03:00.0", "0000:04:00.0"], ["0000:13:00.0", "0000:14:00.0"]])
            self.names_are_known_to_nccl(system)
        self.assertNotEqual(told[0]["NCCL_TOPO_FILE"], told[1]["NCCL_TOPO_FILE"])

    def names_are_known_to_nccl(self, system):
        """Elements, attributes, speeds and classes stand in the library as texts, where it is here."""
        folders = ["/usr/lib/x86_64-linux-gnu", "/usr/local/cuda*/lib*", "/usr/local/lib/python3*/dist-packages/nvidia/nccl/lib"]
        libraries = [path for folder in folders for path in glob.glob(folder + "/libnccl.so.2")]
        if not libraries:
            return
        words = {"0x060400"}
        for element in system.iter():
            words.update([element.tag, *element.attrib, element.get("link_speed", "")])
        with open(libraries[0], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as library:
            for word in words - {""}:  # the linker lets a text be the end of another
                self.assertGreater(library.find(word.encode() + b"\0"), 0, f"NCCL does not know {word}")


if __name__ == "__main__":
    unittest.main()

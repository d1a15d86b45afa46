#!/usr/bin/env python3
"""muster topo plan: files in, plans out; what docs/topology.md shows."""
import inspect
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree

import muster_e2e

TOP = pathlib.Path(__file__).resolve().parents[3]
DOCS = TOP / "docs"

SMALL = """
levels: [{name: rack, uplink: 100Gbit/s}, {name: leaf, uplink: 100Gbit/s}]
nodes:
  - {name: "n[1,3]", labels: {rack: r1, leaf: l1}, gpus: 2, nics: [{name: eth0, speed: 100Gbit/s}]}
  - {name: "n[5,7]", labels: {rack: r1, leaf: l2}, gpus: 2, nics: [{name: eth0, speed: 100Gbit/s}]}
  - {name: "n[2,4,6,8]", labels: {rack: r2, leaf: l3}, gpus: 2, nics: [{name: eth0, speed: 100Gbit/s}]}
"""


class Plan(muster_e2e.MusterCase):
    def write(self, text, name="cluster.yaml"):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(text)
        return name

    def plan(self, *words, text=SMALL):
        return self.muster("topo", "plan", "--cluster", self.write(text), *words, cwd=self.folder)

    def json(self, *words, text=SMALL):
        result = self.plan("--json", *words, text=text)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_order_crossings_and_ranks(self):
        plan = self.json()
        self.assertEqual(plan["order"], ["n1", "n3", "n5", "n7", "n2", "n4", "n6", "n8"])
        self.assertEqual(plan["crossings"], {"rack": 2, "leaf": 3})
        self.assertEqual(plan["host_name_order"]["crossings"], {"rack": 8, "leaf": 8})
        self.assertEqual(plan["world_size"], 16)
        self.assertEqual(plan["ranks"][2], {"node": "n3", "local_rank": 0, "gpu": 0, "nic": "eth0"})
        self.assertAlmostEqual(plan["bus_bytes_per_second"], 12.5e9)
        # 4 steps leave each rack by name, through an uplink of one node's rate.
        self.assertAlmostEqual(plan["host_name_order"]["bus_bytes_per_second"], 12.5e9 / 4)
        self.assertEqual(plan["host_name_order"]["slowest_link_steps"], 4)
        for tree in plan["trees"]:
            self.assertEqual(tree["crossings"], {"rack": 1, "leaf": 2})
            self.assertEqual(len(tree["parents"]), 7)

    def test_text(self):
        result = self.plan()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        self.assertRegex(result.stdout, r"(?m)^  leaf +3 +3 +8 ")
        self.assertRegex(result.stdout, r"the planned order is 4\.00 times as fast; limited by the uplink of rack r\d, which 4 steps pass")
        self.assertRegex(result.stdout, r"(?m)^    leaf l3 +ranks 8-15 +n2,n4,n6,n8$")

    def test_the_order_of_the_file_means_nothing(self):
        lines = SMALL.strip().split("\n")
        head, nodes = lines[:2], lines[2:]
        random.Random(3).shuffle(nodes)
        self.assertEqual(self.json(), self.json(text="\n".join(head + nodes)))

    def test_explains_a_rank(self):
        result = self.plan("--rank", "3")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("rank 3 is local rank 1 on node n3, in leaf l1 of rack r1", result.stdout)
        self.assertIn("sends to n5, in leaf l2 of rack r1.", result.stdout)
        self.assertEqual(self.plan("--explain").stdout, self.plan("--rank", "0").stdout)
        self.assertIn("explanation", self.json("--explain"))

    def test_explains_what_nccl_is_told(self):
        result = self.plan("--explain", text="levels: [{name: pod, per_rail: true}]\nnodes:\n  - {name: \"n[1-2]\", labels: {pod: a}, gpus: 2,"
                           " nics: [{name: mlx5_0, rail: 0}, {name: mlx5_1, rail: 1}]}\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("NCCL is told NCCL_CROSS_NIC=0: the fabric has a switch for each rail", result.stdout)
        self.assertIn("NCCL is kept to mlx5_0, mlx5_1 (NCCL_IB_HCA) where the node has other RDMA NICs that are up.", result.stdout)
        self.assertNotIn("NCCL_CROSS_NIC", self.plan("--explain").stdout)

    def test_a_part_of_the_cluster(self):
        plan = self.json("-H", "n[1-4]", "--nproc-per-node", "1")
        self.assertEqual(plan["order"], ["n1", "n3", "n2", "n4"])
        self.assertEqual(plan["world_size"], 4)

    def test_a_hostfile_starts_ranks_in_the_planned_order(self):
        self.assertEqual(self.plan("--write-hostfile", "hosts").returncode, 0)
        with open(os.path.join(self.folder, "hosts")) as file:
            self.assertEqual([line.strip() for line in file][1:4], ["n1 slots=2", "n3 slots=2", "n5 slots=2"])
        shown = self.muster("run", "--hostfile", "hosts", "--starter", "local", "--display-map", "--do-not-launch", "true", cwd=self.folder)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        names = list(dict.fromkeys(re.findall(r"\bn[1-8]\b", shown.stdout + shown.stderr)))
        self.assertEqual(names, ["n1", "n3", "n5", "n7", "n2", "n4", "n6", "n8"])

    def test_what_is_doubtful_is_said(self):
        result = self.plan(text=SMALL.replace(", leaf: l2}", "}"))
        self.assertEqual(result.returncode, 0)
        self.assert_says(result, "cluster.yaml: 2 nodes of rack r1, such as n5, have no leaf; taken for one leaf of its own")

    def test_slurms_file_will_do(self):
        text = "SwitchName=l1 Nodes=n[1,3]\nSwitchName=l2 Nodes=n[2,4]\nSwitchName=s1 Switches=l[1-2]\n"
        self.assertEqual(self.json(text=text)["order"], ["n1", "n3", "n2", "n4"])

    def test_nothing_known_but_names(self):
        plan = self.json(text="nodes: [n10, n9, n1]")
        self.assertEqual(plan["order"], ["n1", "n9", "n10"])
        self.assertIsNone(plan["bus_bytes_per_second"])
        self.assertIn("does not say how fast", self.plan(text="nodes: [n10, n9, n1]").stdout)

    def test_bad_input(self):
        def refused(code, *parts, words=(), text=SMALL):
            result = self.plan(*words, text=text)
            self.assertEqual(result.returncode, code, result.stderr)
            self.assertEqual(result.stdout, "")
            self.assert_says(result, *parts)
        refused(78, "cluster.yaml:2:", "did you mean uplink?", text=SMALL.replace("uplink", "uplnk", 1))
        refused(78, "cluster.yaml:4:", "did you mean leaf?", text=SMALL.replace("leaf: l1", "laef: l1"))
        refused(78, "node n1 is named twice", text=SMALL.replace("n[5,7]", "n[1,7]"))
        refused(78, "cluster.yaml:1:1: the file is empty", text="")
        refused(64, "--rank 16: the plan has ranks 0 to 15", words=["--rank", "16"])
        refused(64, "the cluster has no node n99", words=["-H", "n99"])
        refused(64, "did you mean --explain?", words=["--explan"])
        refused(73, "--svg: no/such/folder.svg cannot be written", words=["--svg", "no/such/folder.svg"])
        for words, parts in ((["topo"], "needs a word"), (["topo", "plna"], "did you mean: muster topo plan"), (["topo", "plan"], "needs --cluster"),
                             (["topo", "plan", "--cluster", "none.yaml"], "--cluster none.yaml cannot be read"),
                             (["topo", "plan", "--cluster", "."], "--cluster . cannot be read")):
            result = self.muster(*words, cwd=self.folder)
            self.assertEqual(result.returncode, 64, result.stderr)
            self.assert_says(result, parts)

    def test_sixteen_thousand_gpus(self):
        plan = self.json("--write-hostfile", "hosts", text="""
levels: [block, {name: leaf, uplink: 3200Gbit/s}]
nodes:
""" + "".join(f"  - {{name: \"h[{64 * i + 1:04d}-{64 * i + 64:04d}]\", labels: {{block: b{i % 4}, leaf: l{i}}}, gpus: 8, nics: 8}}\n" for i in range(32)))
        self.assertEqual(plan["world_size"], 16384)
        self.assertEqual(plan["crossings"], {"block": 4, "leaf": 32})


def nccl_lines(nodes, rank, channels=2):
    """What NCCL prints in `rank` of two ranks a node when its rings follow the ranks, every second one the other way round."""
    ranks = 2 * len(nodes)
    head = f"{nodes[rank // 2]}:{100 + rank}:{200 + rank} [{rank % 2}] NCCL INFO "
    whole = f"ncclCommInitRankConfig comm 0x55{rank:02x} rank {rank} nranks {ranks} cudaDev {rank % 2} nvmlDev {rank % 2} busId 1000 commId 0xab - Init "
    lines = [whole + "START"]
    for channel in range(channels):
        before, after = (rank - 1) % ranks, (rank + 1) % ranks
        if channel % 2 == 1:
            before, after = after, before
        if rank == 0:
            lines.append(f"Channel {channel:02d}/{channels:02d} :    0   1 ...")
        lines.append(f"Ring {channel:02d} : {before} -> {rank} -> {after}")
        lines.append(f"Channel {channel:02d}/0 : {rank}[0] -> {after}[0] [send] via NET/Socket/0")
    return "".join(f"{head}{line}\n" for line in lines + [whole + "COMPLETE"])


class Check(muster_e2e.MusterCase):
    PLANNED = ["n1", "n3", "n5", "n7", "n2", "n4", "n6", "n8"]

    def setUp(self):
        super().setUp()
        self.write("cluster.yaml", SMALL)

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(text)

    def check(self, *words, **options):
        return self.muster("topo", "check", "--cluster", "cluster.yaml", *words, cwd=self.folder, **options)

    def log(self, nodes):
        return "".join(nccl_lines(nodes, rank) for rank in range(2 * len(nodes)))

    def test_rings_that_follow_the_plan(self):
        self.write("log", self.log(self.PLANNED))
        result = self.check("log")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertRegex(result.stdout, r"(?m)^  leaf +3 +3$")
        self.assertIn("NCCL's 2 rings go round the nodes as planned\n", result.stdout)
        checked = json.loads(self.check("--json", "-", input=self.log(self.PLANNED)).stdout)
        self.assertEqual([ring["nodes"] for ring in checked["rings"]], [self.PLANNED, ["n1", "n8", "n6", "n4", "n2", "n7", "n5", "n3"]])

    def test_rings_that_do_not(self):
        self.write("log", self.log(sorted(self.PLANNED)))
        result = self.check("log")
        self.assertEqual((result.returncode, result.stderr), (1, ""))
        self.assertIn("channel 0 goes from rank 1 on n1 (rack r1, leaf l1) to rank 2 on n2 (rack r2, leaf l3), where the plan has", result.stdout)
        self.assertIn("it crosses rack 8 times, the plan 2; it crosses leaf 8 times, the plan 3", result.stdout)
        self.assertIn("NCCL does not follow the plan", result.stdout)

    def test_a_part_of_the_cluster_is_planned_as_such(self):
        self.write("log", self.log(["n1", "n3", "n8"]))
        self.assertEqual(self.check("log").returncode, 0)

    def test_the_output_of_a_job(self):
        self.write("lines.py", f"import os\n{inspect.getsource(nccl_lines)}\nprint(nccl_lines({self.PLANNED[:2]}, int(os.environ['RANK'])), end='')\n")
        self.assertEqual(self.muster("run", "-np", "4", sys.executable, "lines.py", cwd=self.folder).returncode, 0)
        job = json.loads(self.muster("ps", "--all", "--json").stdout)[0]["job_id"]
        result = self.check("--job", job)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("as planned", result.stdout)

    def test_errors_name_the_place_and_the_remedy(self):
        self.write("log", "step 1\n")
        self.write("strange", self.log(["n1", "m3"]))
        for code, words, part in ((64, ["log"], "NCCL_DEBUG=INFO"), (64, ["strange"], "NCCL ran on m3, which the cluster does not have"),
                                  (64, ["no.log"], "no.log cannot be read"), (64, [], "or --job JOB"), (64, ["log", "--job", "x"], "or --job JOB"),
                                  (64, ["--job", "zz"], "no job is kept")):
            result = self.check(*words)
            self.assertEqual((result.returncode, result.stdout), (code, ""), result.stderr)
            self.assert_says(result, part)


class Docs(muster_e2e.MusterCase):
    def test_drawings_are_what_the_command_draws(self):
        files = sorted((DOCS / "topology").glob("*.yaml"))
        self.assertEqual([file.stem for file in files], ["dragonfly", "fat-tree", "rail-optimised"])
        for file in files:
            drawn = os.path.join(self.folder, "drawn.svg")
            self.assertEqual(self.muster("topo", "plan", "--cluster", str(file), "--svg", drawn).returncode, 0)
            with open(drawn) as text:
                self.assertEqual(text.read(), file.with_suffix(".svg").read_text(), f"muster topo plan --cluster docs/topology/{file.name} --svg docs/topology/{file.stem}.svg")
            xml.etree.ElementTree.parse(drawn)

    def test_the_example_is_what_the_command_prints(self):
        command = "muster topo plan --cluster docs/topology/fat-tree.yaml"
        printed = self.muster(*command.split()[1:], cwd=TOP).stdout
        self.assertIn(f"$ {command}\n{printed}```", (DOCS / "topology.md").read_text())

    def test_the_files_example_can_be_planned(self):
        example = re.search(r"```yaml\n(.*?)```", (DOCS / "topology.md").read_text(), re.S).group(1)
        with open(os.path.join(self.folder, "cluster.yaml"), "w") as file:
            file.write(example)
        result = self.muster("topo", "plan", "--json", "--cluster", "cluster.yaml", cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        plan = json.loads(result.stdout)
        self.assertEqual((plan["nodes"], plan["groups"]), (4099, {"block": 4, "leaf": 129}))

    def test_the_table_is_what_the_planner_gives(self):
        table = subprocess.run([os.path.join(muster_e2e.TEST_BIN, "topology_plan"), "table"], capture_output=True, text=True, check=True).stdout
        self.assertIn(table, (DOCS / "topology.md").read_text(), "put the output of build/release/tests/topology_plan table into docs/topology.md")


if __name__ == "__main__":
    unittest.main()

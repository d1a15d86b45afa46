"""muster topo show: files of all kinds, this machine, measured nodes; and jobs whose ranks follow a file."""
import json
import os
import re
import subprocess
import unittest

from muster_e2e import MUSTER, MusterCase, read

CONF = "SwitchName=l0 Nodes=node0,node2\nSwitchName=l1 Nodes=node1,node3\nSwitchName=top Switches=l[0-1]\n"


class TopoTest(MusterCase):
    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_this_machine(self):
        done = self.muster("topo", "show")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^node \S+: \d+ packages?, \d+ memory nodes?, \d+ cores?, \d+ processors? \(")
        cluster = json.loads(self.muster("topo", "show", "--json").stdout)
        self.assertEqual(len(cluster["nodes"]), 1)

    def test_files_of_every_kind(self):
        conf = self.file("topology.conf", CONF)
        done = self.muster("topo", "show", "--labels-from", conf)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines()[0], f"{conf}: 4 nodes; levels spine, leaf")
        self.assertEqual(done.stdout.splitlines()[2].split(), ["leaf", "l0", "2", "nodes", "node[0,2]"])
        # What is shown as JSON is a cluster file.
        cluster = self.file("cluster.json", self.muster("topo", "show", "--labels-from", conf, "--json").stdout)
        again = self.muster("topo", "show", "--labels-from", "cluster:" + cluster, "--json")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(json.loads(again.stdout), json.loads(read(cluster, "r")))
        nodes = self.file("nodes.json", json.dumps({"items": [
            {"metadata": {"name": f"node{i}", "labels": {"topology.kubernetes.io/zone": "z", "cloud.google.com/gce-topology-block": f"b{i % 2}"}}}
            for i in range(4)]}))
        done = self.muster("topo", "show", "--labels-from", "-", input=read(nodes, "r"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("block b1", done.stdout)
        svg = os.path.join(self.folder, "network.svg")
        self.assertEqual(self.muster("topo", "show", "--labels-from", conf, "--svg", svg).returncode, 0)
        self.assertIn("leaf l1", read(svg, "r"))

    def test_what_contradicts_itself_names_both_sides(self):
        conf = self.file("topology.conf", CONF)
        other = self.file("nodes.json", json.dumps({f"node{i}": {"nvidia.com/gpu.clique": "c" + "0011"[i]} for i in range(4)}))
        done = self.muster("topo", "show", "--labels-from", conf, "--labels-from", other)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"{conf} puts node0 and node2 together in leaf l0 without node1, {other} (NVIDIA) puts node0 and node1 together in "
                      f"nvlink c0 without node2; {conf} is taken", done.stderr)

    def test_broken_files_and_wrong_words(self):
        broken = self.file("broken.conf", "SwitchName=a Nodes=x\nSwitchName=a Nodes=y\n")
        cases = [(["--labels-from", broken], 78, f"{broken}:2: switch a is defined twice, first at {broken}:1; leave one out"),
                 (["--labels-from", "kubernetes:" + broken], 78, f"{broken}:1:1: not JSON"),
                 (["--labels-from", "/no/such"], 78, "--labels-from /no/such cannot be read; name a file"),
                 (["--labels-from", "slrm:x"], 64, "there is no kind slrm; did you mean slurm:?"),
                 (["--label-keys", "a,,b"], 64, "--label-keys: \"\" is no key of a label"),
                 (["-H", "a"], 64, "-H chooses among the nodes of --cluster or --labels-from"),
                 (["--nodes", "2"], 64, "add --measure"),
                 (["--measure"], 64, "--measure needs two nodes or more"),
                 (["here"], 64, "muster topo show takes no here")]
        for words, code, sentence in cases:
            with self.subTest(words=words):
                done = self.muster("topo", "show", *words)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(sentence, done.stderr)
        self.assertEqual(self.muster("topo").returncode, 64)
        done = self.muster("run", "--topology-file", broken, "-np", "2", "true")
        self.assertEqual(done.returncode, 78, done.stderr)
        self.assertIn("defined twice", done.stderr)

    def test_nodes_measure_each_other(self):
        done = self.muster("topo", "show", "--measure", "--nodes", "4", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        cluster = json.loads(done.stdout)
        self.assertEqual([node["name"] for node in cluster["nodes"]], [f"node{i}" for i in range(4)])
        pairs = {(one["from"], one["to"]) for one in cluster["measurements"]}
        self.assertEqual(len(pairs), 12)
        for one in cluster["measurements"]:
            self.assertGreater(int(one["latency"].removesuffix("ns")), 0)
            self.assertGreater(int(one["speed"].removesuffix("B/s")), 0)

    def test_many_nodes_measure_a_sample(self):
        done = self.muster("topo", "show", "--measure", "--nodes", "12", "--all-pairs", "8", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        cluster = json.loads(done.stdout)
        self.assertEqual([node["name"] for node in cluster["nodes"]], [f"node{i}" for i in range(12)])
        pairs = {frozenset((one["from"], one["to"])) for one in cluster["measurements"]}
        self.assertEqual(len(pairs) * 2, len({(one["from"], one["to"]) for one in cluster["measurements"]}))
        # Ten rounds of six pairs, none of them twice; there are 66. One node of each group that shows may have met the others' besides.
        self.assertGreater(len(pairs), 30)
        self.assertLess(len(pairs), 66)
        self.assertEqual(set().union(*pairs), {f"node{i}" for i in range(12)})
        done = self.muster("topo", "show", "--all-pairs", "8")
        self.assertEqual(done.returncode, 64)
        self.assertIn("add --measure", done.stderr)

    def hosts_by_rank(self, *words):
        done = self.muster("run", *words, "--nodes", "4", "-np", "4", "sh", "-c", "echo $RANK $GROUP_RANK $(hostname)")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = sorted(line.split() for line in done.stdout.splitlines())
        self.assertEqual([rank for rank, _, _ in lines], [group for _, group, _ in lines], "ranks of groups follow the ranks")
        return [host for _, _, host in lines]

    def test_the_map_shows_the_order_that_a_run_would_take(self):
        conf = self.file("topology.conf", CONF)
        for words, order in (([], ["node0", "node1", "node2", "node3"]), (["--topology-file", conf], ["node0", "node2", "node1", "node3"]),
                             (["--topology-file", conf, "--map-by", "slot"], ["node0", "node1", "node2", "node3"])):
            done = self.muster("run", "--nodes", "4", "-np", "4", "--do-not-launch", *words, "true")
            self.assertEqual(re.findall(r"(?m)^node (\S+):", done.stdout), order, done.stderr)
            self.assertEqual("ranks follow the network" in done.stderr, order[1] == "node2", done.stderr)
        # Slots go with their hosts.
        done = self.muster("run", "-H", "node3:1,node2:2,node0:3", "--do-not-launch", "--topology-file", conf, "true")
        self.assertEqual(re.findall(r"(?m)^node (\S+): slots (\d)", done.stdout), [("node0", "3"), ("node2", "2"), ("node3", "1")], done.stderr)

    def test_ranks_follow_the_file_unless_the_user_says_otherwise(self):
        if os.geteuid() != 0:
            self.skipTest("nodes with names of their own take root")
        conf = self.file("topology.conf", CONF)
        self.assertEqual(self.hosts_by_rank(), ["node0", "node1", "node2", "node3"])
        self.assertEqual(self.hosts_by_rank("--topology-file", conf), ["node0", "node2", "node1", "node3"])
        status = json.loads(self.muster("status", "--json").stdout)
        self.assertIn("ranks follow the network", status["plan"])
        self.assertIn("network   ranks follow the network", self.muster("status").stdout)
        self.assertIn("planned", self.muster("events").stdout)
        self.assertEqual(self.hosts_by_rank("--topology-file", conf, "--map-by", "slot"), ["node0", "node1", "node2", "node3"])
        # Other wishes of placement leave the order alone.
        self.assertEqual(self.hosts_by_rank("--topology-file", conf, "--bind-to", "none"), ["node0", "node2", "node1", "node3"])
        job = self.file("job.yaml", f"command: [sh, -c, 'echo $RANK $(hostname)']\nworkers: {{max: 4}}\ntopology: {{files: ['{conf}']}}\n")
        done = self.muster("run", "-f", job, "--nodes", "4", "-np", "4")
        self.assertEqual(sorted(done.stdout.splitlines()), ["0 node0", "1 node2", "2 node1", "3 node3"], done.stderr)

    def test_survivors_keep_their_order(self):
        if os.geteuid() != 0:
            self.skipTest("nodes with names of their own take root")
        conf = self.file("topology.conf", CONF)
        program = "test $TORCHELASTIC_RESTART_COUNT = 1 || { test $RANK = 1 && kill -9 $$; sleep 60; }; echo $RANK $(hostname)"
        done = self.muster("run", "--topology-file", conf, "--nodes", "4", "-np", "4", "--max-restarts", "1", "sh", "-c", program)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(done.stdout.splitlines()), ["0 node0", "1 node2", "2 node1", "3 node3"])
        events = subprocess.run([MUSTER, "events"], env=self.environment, capture_output=True, text=True, check=True).stdout
        self.assertEqual(events.count("planned"), 1, events)


if __name__ == "__main__":
    unittest.main()

"""Where the nodes stand reaches the order of ranks: from labels of machines, by manifest and agent, to the coordinator's plan."""
import json
import os
import unittest

from pods_case import JOB, PodsCase, skip_without_pods

ZONE, RACK = "topology.kubernetes.io/zone", "example.com/rack"
FOUR = JOB.replace("min: 2, max: 4, per_node: 2", "min: 4, max: 4, per_node: 1").replace("grace: 20s", "grace: 20s, record: words-record")


def setUpModule():
    skip_without_pods()


class Network(PodsCase):
    """Four pods on machines 2 to 5, of which the even ones stand together, and so do the odd ones."""

    def train(self, text=FOUR, **node):
        """Trains to the end; the number of the machine of each rank, and why they are in that order where anybody has said anything."""
        self.make_node(**node)
        self.apply(text)
        self.coordinator, workers = self.node.job("words-coordinator"), self.node.job("words-workers")
        self.node.start_jobs()
        self.assertEqual([pod.machine for pod in workers.pods], [f"machine-{i}" for i in range(2, 6)])
        environment = dict(self.environment, XDG_STATE_HOME=self.node.claim("words-record"))

        def status():
            shown = self.muster("status", "--json", env=environment)
            said = json.loads(shown.stdout) if shown.returncode == 0 else {}
            return said.get("state") == "running" and len(said["ranks"]) == 4 and said
        self.status = {}

        def look():
            self.status = status()
            return self.status
        self.wait(look, "it does not run")
        self.finish()
        self.assertEqual(self.node.api_callers(), [], "a pod has asked the API server")
        self.said = self.muster("events", env=environment).stdout
        hosts = {rank["rank"]: rank["host"] for rank in self.status["ranks"]}
        return [int(hosts[rank].rsplit("-", 1)[1]) for rank in range(4)], self.status["plan"]

    def test_zones_that_kubernetes_copies_to_pods(self):
        order, plan = self.train(version=35, machine_labels=lambda number: {ZONE: "even" if number % 2 == 0 else "odd"})
        self.assertEqual([number % 2 for number in order], [0, 0, 1, 1])
        self.assertEqual(plan, "ranks follow the network (the labels of the pod): the ring leaves a zone 2 times, by the numbers of nodes it would 4")
        self.assertIn(plan, self.said)

    def test_without_labels_ranks_follow_the_numbers_of_nodes(self):
        # The machines have them, but Kubernetes 1.33 copies none to pods.
        order, plan = self.train(version=33, machine_labels=lambda number: {ZONE: "even" if number % 2 == 0 else "odd"})
        self.assertEqual((order, plan), ([2, 3, 4, 5], None))

    def test_a_file_of_nodes_goes_with_the_job(self):
        nodes = os.path.join(self.folder, "nodes.json")
        with open(nodes, "w", encoding="utf-8") as file:
            json.dump({f"machine-{number}": {RACK: f"r{number % 2}"} for number in range(10)}, file)
        order, plan = self.train(FOUR + f"topology: {{files: [{nodes}], label_keys: [{RACK}]}}\n")
        self.assertEqual([number % 2 for number in order], [0, 0, 1, 1])
        self.assertRegex(plan, r"^ranks follow the network \(/run/muster/network/0-nodes.json \(own keys\)\): the ring leaves a rack 2 times, .* 4$")


if __name__ == "__main__":
    unittest.main(verbosity=2)

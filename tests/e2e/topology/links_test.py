"""Ranks that follow the switches: 16 namespaces as hosts on 4 leaves whose uplinks are oversubscribed 4:1."""
import os
import unittest

from leaf_network import LeafNetwork, Unavailable
from muster_e2e import TEST_BIN, MusterCase
from topology_links import HEADERS, crossings, measure, ring_bytes

SIZE = 2 << 20
CALLS = 2


class LinksTest(MusterCase):
    def test_the_planned_order_spares_the_uplinks(self):
        try:
            network = LeafNetwork()
        except Unavailable as reason:
            self.skipTest(str(reason))
        self.addCleanup(network.close)
        topology = os.path.join(self.folder, "topology.conf")
        with open(topology, "w", encoding="utf-8") as file:
            file.write(network.topology_conf())
        program = os.path.join(TEST_BIN, "ring_allreduce")
        planned = measure(network, program, SIZE, CALLS, self.folder, topology)
        by_number = measure(network, program, SIZE, CALLS, self.folder)

        self.assertEqual(planned["order"], [f"h{i + 4 * j}" for i in range(4) for j in range(4)])
        self.assertEqual(crossings(network, planned["order"]), [1, 1, 1, 1])
        self.assertEqual(by_number["order"], [f"h{i}" for i in range(16)])
        self.assertEqual(crossings(network, by_number["order"]), [4, 4, 4, 4])
        self.assertIn("ranks follow the network", planned["plan"])
        self.assertIn("the ring leaves a leaf 4 times, by the numbers of nodes it would 16", planned["events"])
        self.assertIsNone(by_number["plan"])

        # What that gains in time is for scripts/bench --only topology-links to say.
        one_edge = ring_bytes(16, SIZE, CALLS) * HEADERS
        for result, edges in ((planned, 1), (by_number, 4)):
            for sent, got in result["uplinks"]:
                # And acknowledgements of what comes the other way, the job's own words, and what TCP sends twice.
                self.assertAlmostEqual(sent / one_edge, edges, delta=0.25 * edges)
                self.assertAlmostEqual(got / one_edge, edges, delta=0.25 * edges)


if __name__ == "__main__":
    unittest.main()

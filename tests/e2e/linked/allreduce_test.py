"""examples/allreduce under the real `muster`, by itself, and where another launcher seems to have started it."""
import os
import subprocess
import unittest

from muster_e2e import DEADLINE, MUSTER, MusterCase

ALLREDUCE = os.path.join(os.path.dirname(MUSTER), "allreduce")


class Allreduce(MusterCase):
    def test_every_rank_sees_the_sum(self):
        for ranks, nodes in ((1, 1), (2, 1), (3, 1), (4, 1), (8, 1), (2, 2), (5, 3), (8, 4)):
            result = self.muster("run", "-np", str(ranks), "--nodes", str(nodes), ALLREDUCE)
            self.assertEqual(result.returncode, 0, result.stderr)
            expected = [f"rank {rank} of {ranks}: the sum is {ranks * (ranks + 1) // 2}" for rank in range(ranks)]
            self.assertEqual(sorted(result.stdout.splitlines()), expected)
            self.assertEqual(self.words_of(result.stderr), [])

    def test_a_bare_name_is_found_beside_muster(self):
        result = self.muster("run", "-np", "2", "allreduce")
        self.assertEqual(result.returncode, 0, result.stderr)

    def alone(self, **variables):
        environment = {k: v for k, v in self.environment.items() if not k.startswith(("MUSTER_", "OMPI_", "PMI_"))}
        environment.pop("WORLD_SIZE", None)
        environment.update(variables)
        return subprocess.run([ALLREDUCE], capture_output=True, text=True, env=environment, timeout=DEADLINE, check=False)

    def test_without_an_agent_it_is_alone_and_says_so(self):
        result = self.alone()
        self.assertEqual((result.returncode, result.stdout), (0, "rank 0 of 1: the sum is 1\n"))
        self.assertEqual(result.stderr.count("\n"), 1)
        self.assertIn("runs alone", result.stderr)

    def test_another_launchers_world_is_refused_with_the_remedy(self):
        result = self.alone(OMPI_COMM_WORLD_SIZE="4")
        self.assertEqual(result.returncode, 1)
        self.assertIn("OMPI_COMM_WORLD_SIZE=4", result.stderr)
        self.assertIn("muster run -np 4", result.stderr)

    def test_an_agent_that_is_gone_is_named(self):
        result = self.alone(MUSTER_SOCKET="muster-gone", MUSTER_JOB_ID="0" * 32, MUSTER_SLOT="0")
        self.assertEqual(result.returncode, 1)
        self.assertIn("MUSTER_SOCKET=muster-gone", result.stderr)
        self.assertIn("unset MUSTER_SOCKET", result.stderr)


if __name__ == "__main__":
    unittest.main()

"""muster bench allreduce on the real binary: that it measures and checks, not how fast."""
import json
import os
import unittest

from muster_e2e import MusterCase


class Bench(MusterCase):
    def bench(self, *arguments):
        result = self.muster("bench", "allreduce", *arguments)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result

    def measure(self, *arguments):
        output = os.path.join(self.folder, "bench.json")
        result = self.bench(*arguments, "--json", output)
        with open(output) as file:
            return result, json.load(file)

    def test_windows_beside_the_floor(self):
        result, figures = self.measure("-np", "2", "-b", "8", "-e", "64K", "-f", "16", "-n", "8", "--check")
        sizes = [8, 128, 2048, 32768]
        self.assertEqual([row["bytes"] for row in figures["rows"]], sizes)
        self.assertEqual(figures["ranks"], 2)
        for row in figures["rows"]:
            self.assertEqual(row["wrong"], 0)
            self.assertEqual(row["time"]["calls"], 8)
            self.assertGreater(row["time"]["p50_us"], 0)
            self.assertGreater(row["floor"]["p50_us"], 0)
        lines = [line.split() for line in result.stdout.splitlines() if not line.startswith("#")]
        self.assertEqual([int(line[0]) for line in lines], sizes)
        self.assertTrue(all(line[2:5] == ["f32", "sum", "-1"] for line in lines), lines)

    def test_private_buffers_of_every_type(self):
        for kind in "f32 f64 bf16 f16 i32 i64 u8".split():
            with self.subTest(kind):
                _, figures = self.measure("-np", "3", "--private", "-d", kind, "-b", "1K", "-e", "256K", "-f", "256", "-n", "4",
                                          "-w", "1", "--check")
                self.assertEqual([row["wrong"] for row in figures["rows"]], [0, 0])

    def test_call_after_call(self):
        _, figures = self.measure("-np", "4", "-b", "8", "-e", "8", "-n", "200", "--back-to-back")
        row = figures["rows"][0]
        self.assertEqual(row["time"]["calls"], 200)
        self.assertIsNone(row["floor"])

    def test_a_wrong_option_is_said_once(self):
        result = self.muster("bench", "allreduce", "-np", "3", "-d", "f8")
        self.assertEqual(result.returncode, 64)
        self.assertEqual(result.stderr.count("the types are f32"), 1, result.stderr)

    def test_help(self):
        self.assertIn("--back-to-back", self.bench("--help").stdout)
        self.assertEqual(self.muster("bench").returncode, 64)
        self.assertEqual(self.muster("bench", "broadcast").returncode, 64)


if __name__ == "__main__":
    unittest.main()

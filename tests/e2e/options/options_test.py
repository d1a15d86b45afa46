#!/usr/bin/env python3
"""What docs/from-mpirun.md claims: each line that says "same", "accepted" or another name has a test here that observes the effect.

A test is named by the line's first option: `--tag-output` is test_tag_output. Lines that claim nothing must be refused.
"""
import os
import pathlib
import re
import unittest

import muster_e2e

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "from-mpirun.md"


def lines():
    """(options, verdict) of each line of the page's first table; options as typed, with what follows them."""
    found = []
    table = PAGE.read_text().split("\n| mpirun | muster | |\n")[1].split("\n\n")[0]
    for line in table.splitlines()[1:]:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        found.append((re.findall(r"`([^`]+)`", cells[0].split("(5:")[0]), cells[1]))
    return found


def test_name(option):
    known = {"A": "several_programs", "-H": "host", "-V": "version", "-h": "help"}
    word = option.split()[0]
    return "test_" + known.get(word, word.strip("-").replace("-", "_"))


class Page(muster_e2e.MusterCase):
    def test_the_table_is_read(self):
        self.assertGreater(len(lines()), 25)
        self.assertEqual(test_name("-np N"), "test_np")
        self.assertEqual(test_name("--tag-output"), "test_tag_output")

    def test_every_claim_has_a_test(self):
        for options, verdict in lines():
            self.assertRegex(verdict, r"^(same|accepted|not yet|no|`--[-a-z]+`)$", options)
            if verdict not in ("not yet", "no"):
                self.assertTrue(hasattr(Options, test_name(options[0])), f"{options[0]} is {verdict}: no Options.{test_name(options[0])}")

    def test_every_test_has_a_claim(self):
        claimed = {test_name(options[0]) for options, verdict in lines() if verdict not in ("not yet", "no")}
        for name in dir(Options):
            if name.startswith("test_"):
                self.assertIn(name, claimed)

    def test_what_is_not_there_is_refused(self):
        for options, verdict in lines():
            if verdict not in ("not yet", "no"):
                continue
            for option in options:
                with self.subTest(option=option):
                    result = self.muster("run", *option.split(), "-np", "1", "true")
                    self.assertEqual(result.returncode, 64, f"{option} is taken: the table is behind")


def ranks(text):
    """What `echo RANK WORD...` of each rank said."""
    return dict(line.split(" ", 1) for line in text.splitlines())


def say(what):
    return ["sh", "-c", f"echo $OMPI_COMM_WORLD_RANK {what}"]


class Options(muster_e2e.MusterCase):
    def run_well(self, *arguments, **options):
        result = self.muster("run", *arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_np(self):
        for spelling in (["-np", "3"], ["-n", "3"], ["--np=3"]):
            self.assertEqual(ranks(self.run_well(*spelling, *say("$OMPI_COMM_WORLD_SIZE"))), {"0": "3", "1": "3", "2": "3"})

    def where(self, *arguments):
        """{rank: (node, local rank)} for options that name hosts, all played by this machine."""
        text = self.run_well("--starter", "local", "--node-network", "host", *arguments, *say("$GROUP_RANK $OMPI_COMM_WORLD_LOCAL_RANK"))
        return {rank: tuple(map(int, rest.split())) for rank, rest in ranks(text).items()}

    def test_host(self):
        for spelling in ("-H", "--host"):
            self.assertEqual(self.where(spelling, "a:2,b:1", "-np", "3"), {"0": (0, 0), "1": (0, 1), "2": (1, 0)})

    def hostfile(self, text):
        path = os.path.join(self.folder, "hosts")
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_hostfile(self):
        path = self.hostfile("# two hosts\na slots=1\nb slots=2 max_slots=4\n")
        for spelling in ("--hostfile", "--machinefile"):
            self.assertEqual(self.where(spelling, path, "-np", "3"), {"0": (0, 0), "1": (1, 0), "2": (1, 1)})

    def test_map_by(self):
        self.assertEqual(self.where("-H", "a:2,b:2", "-np", "4", "--map-by", "node", "--bind-to", "none"),
                         {"0": (0, 0), "1": (1, 0), "2": (0, 1), "3": (1, 1)})
        # Hosts have more slots than there are ranks: all of them take part.
        for what, map_ in (("node", {"0": (0, 0), "1": (1, 0), "2": (0, 1), "3": (1, 1)}),
                           ("ppr:2:node", {"0": (0, 0), "1": (0, 1), "2": (1, 0), "3": (1, 1)})):
            self.assertEqual(self.where("-H", "a:4,b:4", "-np", "4", "--map-by", what, "--bind-to", "none"), map_, what)

    def test_rank_by(self):
        self.assertEqual(self.where("-H", "a:2,b:2", "-np", "4", "--map-by", "slot", "--rank-by", "node", "--bind-to", "none"),
                         {"0": (0, 0), "1": (1, 0), "2": (0, 1), "3": (1, 1)})

    def test_npernode(self):
        self.assertEqual(self.where("-H", "a:2,b:2", "--npernode", "1", "--bind-to", "none"), {"0": (0, 0), "1": (1, 0)})
        self.assertEqual(self.where("-H", "a:4,b:4", "-np", "2", "--npernode", "1", "--bind-to", "none"), {"0": (0, 0), "1": (1, 0)})

    def processors(self, *arguments):
        see = ["sh", "-c", "grep Cpus_allowed_list /proc/self/status | cut -f2"]
        return self.run_well("-np", "1", *arguments, *see).strip()

    def test_bind_to(self):
        # Another job may hold the processor.
        last = str(max(os.sched_getaffinity(0)))
        self.assertEqual(self.processors("--bind-to", "hwthread:overload-allowed", "--cpu-set", last), last)

    def test_cpu_set(self):
        first = str(min(os.sched_getaffinity(0)))
        for spelling in ("--cpu-set", "--cpu-list"):
            self.assertEqual(self.processors(spelling, first, "--bind-to", "package:overload-allowed"), first)

    def test_report_bindings(self):
        self.assertIn("rank 1 is not bound", self.muster("run", "-np", "2", "--report-bindings", "true").stderr)

    def test_display_map(self):
        self.assertIn("rank 1, local rank 1: not bound", self.muster("run", "-np", "2", "--display-map", "true").stderr)

    def test_do_not_launch(self):
        started = os.path.join(self.folder, "started")
        text = self.run_well("-np", "2", "--do-not-launch", "--map-by", "core", "--topology", "core:4", "touch", started)
        self.assertIn("rank 1, local rank 1: processors 1,", text)
        self.assertFalse(os.path.exists(started))

    def test_oversubscribe(self):
        refused = self.muster("run", "-H", "a:1,b:1", "--starter", "local", "-np", "3", "true")
        self.assertEqual(refused.returncode, 64)
        self.assertIn("--oversubscribe", refused.stderr)
        self.assertEqual(len(self.where("-H", "a:1,b:1", "-np", "3", "--oversubscribe")), 3)

    def test_x(self):
        self.environment["SHEEP"] = "dolly"
        for nodes in ([], ["--nodes", "2", "--node-network", "host"]):
            told = self.run_well("-np", "2", *nodes, "-x", "SHEEP", "-x", "WOLF=grey wolf", *say("$SHEEP $WOLF"))
            self.assertEqual(ranks(told), {"0": "dolly grey wolf", "1": "dolly grey wolf"})

    def test_wdir(self):
        folder = os.path.realpath(self.temporary)
        for spelling in ("-wdir", "--wdir", "--wd"):
            self.assertEqual(ranks(self.run_well("-np", "1", spelling, folder, *say("$(pwd)"))), {"0": folder})
        self.assertEqual(set(ranks(self.run_well("-np", "2", "--nodes", "2", "--node-network", "host", "-wdir", folder, *say("$(pwd)"))).values()), {folder})

    def test_several_programs(self):
        told = self.run_well("-np", "1", *say("first $WORLD_SIZE"), ":", "-np", "2", *say("second $WORLD_SIZE"))
        self.assertEqual(ranks(told), {"0": "first 3", "1": "second 3", "2": "second 3"})

    def test_tag_output(self):
        told = self.run_well("-np", "2", "--tag-output", *say("here"))
        for rank in (0, 1):
            self.assertRegex(told, rf"(?m)^\[[^]]*\b{rank}\b[^]]*\]\S* ?{rank} here$")

    def test_timestamp_output(self):
        told = self.run_well("-np", "1", "--timestamp-output", *say("here"))
        self.assertRegex(told, r"\d\d:\d\d:\d\d \d{4}.*0 here\n$")

    def test_output_filename(self):
        for nodes in ([], ["--nodes", "2", "--node-network", "host"]):
            folder = os.path.join(self.folder, "out")
            told = self.run_well("-np", "12", *nodes, "--output-filename", folder, "sh", "-c", "echo $OMPI_COMM_WORLD_RANK out; echo err >&2")
            self.assertEqual(len(ranks(told)), 12)
            for rank in range(12):
                self.assertEqual(muster_e2e.read(f"{folder}/1/rank.{rank:02}/stdout", "r"), f"{rank} out\n")
                self.assertEqual(muster_e2e.read(f"{folder}/1/rank.{rank:02}/stderr", "r"), "err\n")
            told = self.run_well("-np", "2", *nodes, "--output-filename", folder + ":nojobid,nocopy", *say("out"))
            self.assertEqual(told, "")
            self.assertEqual(muster_e2e.read(f"{folder}/rank.1/stdout", "r"), "1 out\n")

    def test_merge_stderr_to_stdout(self):
        told = self.run_well("-np", "1", "--merge-stderr-to-stdout", "sh", "-c", "echo one; echo two >&2; echo three")
        self.assertEqual(told, "one\ntwo\nthree\n")

    def test_stdin(self):
        for nodes in ([], ["--nodes", "2", "--node-network", "host"]):
            for word, readers in (("1", {"1"}), ("all", {"0", "1"}), ("none", set())):
                told = self.run_well("-np", "2", *nodes, "--stdin", word, *say("got=$(cat)"), input="sheep")
                self.assertEqual(ranks(told), {rank: "got=sheep" if rank in readers else "got=" for rank in "01"})

    def test_timeout(self):
        for nodes in ([], ["--nodes", "2", "--node-network", "host"]):
            result = self.muster("run", "-np", "2", *nodes, "--timeout", "0.5", "sleep", "1000")
            self.assertEqual(result.returncode, 124)
            self.assertIn("--timeout", result.stderr)

    def test_allow_run_as_root(self):
        self.assertEqual(ranks(self.run_well("--allow-run-as-root", "-np", "1", *say("here"))), {"0": "here"})

    def test_enable_recovery(self):
        told = self.run_well("--max-restarts", "1", "-np", "2", "sh", "-c",
                             f'[ "$RANK" = 1 ] && mkdir {self.folder}/once 2>/dev/null && exit 3; echo $RANK $TORCHELASTIC_RESTART_COUNT')
        self.assertIn("1 1", told.splitlines())

    def test_v(self):
        for spelling in ("-v", "--verbose"):
            result = self.muster("run", spelling, "-np", "1", "true")
            self.assertEqual(result.returncode, 0)
            self.assertGreater(len(self.words_of(result.stderr)), len(self.words_of(self.muster("run", "-np", "1", "true").stderr)))

    def test_version(self):
        for spelling in ("-V", "--version"):
            self.assertRegex(self.muster(spelling).stdout, r"^muster \d")

    def test_help(self):
        for spelling in ("-h", "--help"):
            self.assertIn("usage: muster run", self.muster("run", spelling).stdout)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""What docs/from-torchrun.md claims: each line that says "same", "accepted" or another option has a test that observes the effect.

A test is named by the line's first option: `--nproc-per-node N` is test_nproc_per_node. Lines that claim nothing must be refused.
"""
import os
import pathlib
import re
import signal
import unittest

import muster_e2e

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "from-torchrun.md"
CLAIMS_NOTHING = ("not needed", "not yet", "no")


def lines():
    """(options, verdict) of each line of the page's first table; options as typed, with what follows them."""
    found = []
    table = PAGE.read_text().split("\n| torchrun | muster | |\n")[1].split("\n\n")[0]
    for line in table.splitlines()[1:]:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        found.append((re.findall(r"`([^`]+)`", cells[0]), cells[1]))
    return found


def test_name(option):
    known = {"-m": "module", "-r": "redirects", "-t": "tee", "-h": "help", "script.py": "script"}
    word = option.split()[0]
    return "test_" + known.get(word, word.strip("-").replace("-", "_"))


class Page(muster_e2e.MusterCase):
    def test_the_table_is_read(self):
        self.assertGreater(len(lines()), 15)
        self.assertEqual(test_name("--nproc-per-node N"), "test_nproc_per_node")

    def test_every_claim_has_a_test(self):
        for options, verdict in lines():
            self.assertRegex(verdict, r"^(same|accepted|not needed|not yet|no|`--[-a-z]+`)$", options)
            if verdict not in CLAIMS_NOTHING:
                self.assertTrue(hasattr(Options, test_name(options[0])), f"{options[0]} is {verdict}: no Options.{test_name(options[0])}")

    def test_every_test_has_a_claim(self):
        claimed = {test_name(options[0]) for options, verdict in lines() if verdict not in CLAIMS_NOTHING}
        for name in dir(Options):
            if name.startswith("test_"):
                self.assertIn(name, claimed)

    def test_what_is_not_there_is_refused(self):
        for options, verdict in lines():
            if verdict not in CLAIMS_NOTHING:
                continue
            for option in options:
                with self.subTest(option=option):
                    result = self.muster("run", *option.split(), "-np", "1", "true")
                    self.assertEqual(result.returncode, 64, f"{option} is taken: the table is behind")
                    if verdict == "not needed":
                        self.assertIn("is not needed with muster", result.stderr)

    def test_torchruns_spelling_with_underscores_is_the_same(self):
        for options, _ in lines():
            for word in (option.split()[0] for option in options):
                underscored = "--" + word[2:].replace("-", "_")
                if not word.startswith("--") or underscored == word:
                    continue
                with self.subTest(option=word):
                    # The error about what follows, or about the option itself, is the same.
                    told = [self.muster("run", spelling, "--no-such-option").stderr for spelling in (word, underscored)]
                    self.assertEqual(told[1].replace(underscored, word), told[0])


def say(what):
    return ["sh", "-c", f"echo $RANK {what}"]


def ranks(text):
    """What `echo RANK WORD...` of each rank said."""
    return {line.split(" ")[0]: line.partition(" ")[2] for line in text.splitlines()}


class Options(muster_e2e.MusterCase):
    def run_well(self, *arguments, **options):
        result = self.muster("run", *arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def python_file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_script(self):
        # Neither executable nor with a first line that names Python, as users of torchrun have them.
        path = self.python_file("train.py", "import os, sys; print(os.environ['RANK'], sys.argv[1:], os.path.basename(sys.executable)[:6])\n")
        for arguments in (["-np", "2", path], ["-np", "2", "train.py"], ["-np", "2", "./train.py"],
                          ["-np", "2", "--nodes", "2", "--node-network", "host", "train.py"]):
            told = self.run_well(*arguments, "--lr", "1", cwd=self.folder)
            self.assertEqual(ranks(told), {rank: "['--lr', '1'] python" for rank in "01"})
        # An exception that nobody catches stands in the sentence, with no @record.
        self.python_file("broken.py", "import os, time\nif os.environ['RANK'] == '1':\n    raise ValueError('no data')\ntime.sleep(100)\n")
        for nodes in ([], ["--nodes", "2", "--node-network", "host"]):
            broken = self.muster("run", "-np", "2", *nodes, "broken.py", cwd=self.folder)
            self.assertEqual(broken.returncode, 1)
            self.assertRegex(self.words_of(broken.stderr)[-1], r"rank 1 on host \S+ exited with code 1: ValueError: no data \(broken\.py, line 3\);")
        missing = self.muster("run", "-np", "1", "trian.py", cwd=self.folder)
        self.assertEqual(missing.returncode, 127, missing.stderr)

    def test_nnodes(self):
        told = self.run_well("--nnodes", "2", "--node-network", "host", "--nproc-per-node", "2", *say("$GROUP_RANK $GROUP_WORLD_SIZE"))
        self.assertEqual(ranks(told), {"0": "0 2", "1": "0 2", "2": "1 2", "3": "1 2"})
        self.assertEqual(len(ranks(self.run_well("--nnodes=1:1", "--nproc_per_node=3", *say("")))), 3)
        # MIN:MAX: a node that stays away is gone without. Its agent cannot join again within a millisecond.
        job = self.start("run", "--nnodes", "1:2", "--node-network", "host", "--nproc-per-node", "1", "--max-restarts", "1",
                         "--last-call", "0.001", "sh", "-c",
                         '[ "$TORCHELASTIC_RESTART_COUNT" = 1 ] && echo "size $WORLD_SIZE" && exit 0; echo ready; exec sleep 100')
        for _ in range(2):
            self.assertEqual(job.stdout.readline(), "ready\n")
        [coordinator] = [pid for pid in muster_e2e.children_of(job.pid) if muster_e2e.command_of(pid) == "muster"]
        [agent] = [pid for pid in muster_e2e.children_of(coordinator) if b"\0node1\0" in muster_e2e.read(f"/proc/{pid}/cmdline")]
        muster_e2e.send(agent, signal.SIGKILL)
        out, err = job.communicate(timeout=muster_e2e.DEADLINE)
        self.assertEqual((job.returncode, out), (0, "size 1\n"), err)

    def test_nproc_per_node(self):
        for spelling in (["--nproc-per-node", "2"], ["--nproc_per_node", "2"], ["--nproc_per_node=2"], ["--nproc-per-node=2"]):
            self.assertEqual(ranks(self.run_well(*spelling, *say("$LOCAL_WORLD_SIZE"))), {"0": "2", "1": "2"})
        for word in ("auto", "cpu"):
            count = len(ranks(self.run_well("--nproc_per_node", word, *say(""))))
            self.assertEqual(count, len(ranks(self.run_well(*say("")))))
            self.assertLessEqual(count, len(os.sched_getaffinity(0)))
        gpu = self.muster("run", "--nproc_per_node", "gpu", "true")
        self.assertEqual(gpu.returncode, 64)
        self.assertIn("knows of no GPUs", gpu.stderr)

    def test_standalone(self):
        self.assertEqual(ranks(self.run_well("--standalone", "--nproc_per_node=2", *say("$GROUP_WORLD_SIZE"))), {"0": "1", "1": "1"})

    def test_max_restarts(self):
        told = self.run_well("--max_restarts=2", "--nproc_per_node=2", "sh", "-c",
                             f'[ "$RANK" = 1 ] && mkdir {self.folder}/$TORCHELASTIC_RESTART_COUNT && [ ! -d {self.folder}/2 ] && exit 3; '
                             'echo $RANK $TORCHELASTIC_RESTART_COUNT $TORCHELASTIC_MAX_RESTARTS')
        self.assertIn("1 2 2", told.splitlines())
        self.assertEqual(self.muster("run", "--max_restarts=1", "-np", "1", "sh", "-c", "exit 5").returncode, 5)

    def test_rdzv_id(self):
        self.run_well("--name", "job 100", "-np", "1", "true")
        self.assertIn("job 100", self.muster("ps", "--all").stdout)

    def test_master_port(self):
        self.assertEqual(ranks(self.run_well("--master_port=23456", "-np", "2", *say("$MASTER_PORT"))), {"0": "23456", "1": "23456"})

    def test_role(self):
        for nodes in ([], ["--nodes", "2", "--node-network", "host"]):
            self.assertEqual(ranks(self.run_well("--role", "trainer", *nodes, "-np", "2", *say("$ROLE_NAME $ROLE_RANK $ROLE_WORLD_SIZE"))),
                             {"0": "trainer 0 2", "1": "trainer 1 2"})
        self.assertEqual(ranks(self.run_well("-np", "1", *say("$ROLE_NAME"))), {"0": "default"})

    def logs(self, folder):
        """{path below the folder: text} of what is there."""
        found = {}
        for place, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(place, name), encoding="utf-8") as file:
                    found[os.path.relpath(os.path.join(place, name), folder)] = file.read()
        return found

    def write_logs(self, *options):
        folder = os.path.join(self.folder, "logs" + "".join(options))
        said = self.run_well("--log-dir", folder, *options, "-np", "2", "sh", "-c", "echo out $RANK; echo err $RANK >&2")
        return said, self.logs(folder)

    FILES = {f"1/rank.{rank}/{stream}": f"{stream[3:]} {rank}\n" for rank in (0, 1) for stream in ("stdout", "stderr")}

    def test_log_dir(self):
        said, files = self.write_logs()
        self.assertEqual((sorted(said.splitlines()), files), (["out 0", "out 1"], {}))
        missing = self.muster("run", "-np", "1", "--tee", "3", "true")
        self.assertEqual(missing.returncode, 64)
        self.assertIn("--log-dir FOLDER", missing.stderr)

    def test_redirects(self):
        for spelling in (["-r", "3"], ["--redirects", "3"], ["--redirects=3"]):
            self.assertEqual(self.write_logs(*spelling), ("", self.FILES))
        self.assertEqual(self.write_logs("-r", "0")[1], {})
        self.assertEqual(self.muster("run", "-np", "1", "--log-dir", self.folder, "-r", "0:1", "true").returncode, 64)

    def test_tee(self):
        for spelling in (["-t", "3"], ["--tee", "3"], ["-r", "3", "-t", "3"]):
            said, files = self.write_logs(*spelling)
            self.assertEqual((sorted(said.splitlines()), files), (["out 0", "out 1"], self.FILES))

    def test_monitor_interval(self):
        # A death is seen at once, whatever is asked for.
        result = self.muster("run", "--monitor_interval=3600", "-np", "2", "sh", "-c", '[ "$RANK" = 1 ] && exit 3; sleep 1000')
        self.assertEqual(result.returncode, 3)

    def test_start_method(self):
        for method in ("spawn", "fork", "forkserver"):
            self.assertEqual(ranks(self.run_well("--start-method", method, "-np", "1", *say("here"))), {"0": "here"})

    def test_module(self):
        os.mkdir(os.path.join(self.folder, "pack"))
        self.python_file("pack/work.py", "import os, sys; print(os.environ['RANK'], __name__, __package__, sys.argv[1:])\n")
        for spelling in ("-m", "--module"):
            told = self.run_well("-np", "2", spelling, "pack.work", "-x", "1", cwd=self.folder)
            self.assertEqual(ranks(told), {rank: "__main__ pack ['-x', '1']" for rank in "01"})
        told = self.run_well("-np", "1", "-m", "pack.work", ":", "-np", "1", *say("shell"), ":", "-np", "1", "-m", "pack.work", "3",
                             cwd=self.folder)
        self.assertEqual(ranks(told), {"0": "__main__ pack []", "1": "shell", "2": "__main__ pack ['3']"})

    def test_no_python(self):
        self.assertEqual(ranks(self.run_well("--no_python", "-np", "2", *say("$WORLD_SIZE"))), {"0": "2", "1": "2"})

    def test_run_path(self):
        path = self.python_file("script.py", "import os, sys; print(os.environ['RANK'], __name__, sys.argv[1:])\n")
        self.assertEqual(ranks(self.run_well("--run_path", "-np", "1", path, "-a")), {"0": "__main__ ['-a']"})

    def test_help(self):
        for spelling in ("-h", "--help"):
            self.assertIn("usage: muster run", self.muster("run", spelling).stdout)


if __name__ == "__main__":
    unittest.main()

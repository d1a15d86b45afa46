#!/usr/bin/env python3
"""Help of every command, the manual, and completion in real shells."""
import os
import re
import shutil
import subprocess
import unittest

import muster_e2e
from muster_e2e import MUSTER


def commands():
    text = subprocess.run([MUSTER, "--help"], capture_output=True, text=True).stdout
    return re.findall(r"^  ([a-z0-9]+) +\S", text.split("\ncommands\n")[1], re.M)


class Help(muster_e2e.MusterCase):
    def test_every_command_has_usage_and_examples(self):
        self.assertIn("run", commands())
        for command in commands():
            with self.subTest(command=command):
                text = self.muster(command, "--help")
                self.assertEqual(text.returncode, 0, text.stderr)
                self.assertTrue(text.stdout.startswith(f"usage: muster {command}"), text.stdout[:80])
                self.assertRegex(text.stdout, rf"(?m)^examples\n  .*muster {command}")
                self.assertEqual(self.muster("help", command).stdout, text.stdout)

    def test_run_options_stand_under_headings(self):
        text = self.muster("run", "--help").stdout
        self.assertLess(text.index("\noutput\n"), text.index("--tag-output  "))

    def test_an_unknown_option_or_command_is_answered_with_the_nearest(self):
        for words, nearest in ((["run", "--tag-outptu", "true"], "--tag-output"), (["logs", "--folow"], "--follow"),
                               (["statsu"], "muster status"), (["help", "statsu"], "muster help status")):
            result = self.muster(*words)
            self.assertEqual(result.returncode, 64)
            self.assert_says(result, f"did you mean", nearest)


class Manual(muster_e2e.MusterCase):
    def pages(self):
        folder = os.path.join(self.folder, "man")
        os.mkdir(folder)
        self.assertEqual(self.muster("help", "--man-folder", folder).returncode, 0)
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]

    def test_there_is_a_page_for_muster_and_each_command(self):
        self.assertEqual([os.path.basename(page) for page in self.pages()],
                         sorted(["muster.1", *(f"muster-{command}.1" for command in commands())]))

    def test_a_page_says_every_option(self):
        page = self.muster("help", "--man", "run").stdout.replace("\\-", "-")
        options = re.findall(r"(?m)^  (-[-\w]+)", self.muster("run", "--help").stdout.split("\noptions\n")[1])
        self.assertGreater(len(options), 15)
        for option in options:
            self.assertIn(f"\\fB{option}\\fR", page)

    def check(self, *command):
        if shutil.which(command[0]) is None:
            self.skipTest(f"no {command[0]} here")
        for page in self.pages():
            result = subprocess.run([*command, page], capture_output=True, text=True)
            # mandoc knows no page but those that are installed here.
            said = [line for line in (result.stderr + (result.stdout if "lint" in command else "")).splitlines() if "referenced manual not found" not in line]
            self.assertEqual(said, [], page)

    def test_groff_has_nothing_to_say(self):
        self.check("groff", "-ww", "-man", "-Tutf8", "-z")

    def test_mandoc_has_nothing_to_say(self):
        self.check("mandoc", "-T", "lint", "-W", "warning")

    def test_man_shows_it(self):
        if shutil.which("man") is None:
            self.skipTest("no man here")
        page = next(one for one in self.pages() if one.endswith("muster-run.1"))
        shown = subprocess.run(["man", "-l", page], capture_output=True, text=True, env={**self.environment, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
        if "has been minimized" in shown.stdout:
            self.skipTest("this system was made without manuals: its man shows none")
        self.assertIn("--max-restarts", shown.stdout)


# Completes a line as bash does when TAB is pressed at its end: the words cut at COMP_WORDBREAKS are given by the caller.
BASH = r"""
source <("$1" completion bash) || exit 1
complete -p muster || exit 1
shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_muster
printf '%s\n' "${COMPREPLY[@]}"
"""


class Completion(muster_e2e.MusterCase):
    def bash(self, *words):
        """What `muster WORD... <TAB>` offers in bash, the last word being what was typed so far."""
        done = subprocess.run(["bash", "--norc", "-c", BASH, "bash", MUSTER, MUSTER, *words], capture_output=True, text=True, env=self.environment,
                              cwd=self.folder, timeout=muster_e2e.DEADLINE)
        self.assertEqual(done.returncode, 0, done.stderr)
        registered, *offered = done.stdout.splitlines()
        self.assertEqual(registered, "complete -F _muster muster")
        return [word for word in offered if word]

    def test_commands_and_options(self):
        self.assertEqual(self.bash("sta"), ["status"])
        self.assertEqual(set(self.bash("")), set(commands()))
        self.assertEqual(self.bash("run", "--tag"), ["--tag-output"])
        self.assertEqual(self.bash("run", "--node-network", "=", "na"), ["namespaces"])
        self.assertEqual(self.bash("completion", "f"), ["fish"])

    def test_job_ids(self):
        self.assertEqual(self.muster("run", "-np", "1", "true").returncode, 0)
        job = self.kept_jobs()[0]
        self.assertEqual(self.bash("status", ""), [job[:8]])
        self.assertEqual(self.bash("logs", job[:2]), [job[:8]])
        self.assertEqual(self.bash("status", "zz"), [])

    def test_files_and_folders(self):
        os.mkdir(os.path.join(self.folder, "sheep"))
        with open(os.path.join(self.folder, "shears of steel"), "w"):
            pass
        self.assertEqual(sorted(self.bash("run", "--report", "sh")), ["shears of steel", "sheep"])
        self.assertEqual(sorted(self.bash("topo", "plan", "--cluster", "sh")), ["shears of steel", "sheep"])
        self.assertEqual(self.bash("run", "-wdir", "sh"), ["sheep"])
        self.assertEqual(self.bash("checkpoint", "ls", "sh"), ["sheep"])
        self.assertIn("sheep", self.bash("run", "-np", "2", "prog", "sh"))

    def test_the_program(self):
        self.assertIn("true", self.bash("run", "-np", "2", "tru"))
        self.assertNotIn("--tag-output", self.bash("run", "prog", "--tag"))

    def script_for(self, shell):
        if shutil.which(shell) is None:
            self.skipTest(f"no {shell} here")
        path = os.path.join(self.folder, "completion")
        with open(path, "w") as file:
            file.write(self.muster("completion", shell).stdout)
        return path

    def test_fish(self):
        path = self.script_for("fish")
        os.symlink(MUSTER, os.path.join(self.folder, "muster"))
        environment = {**self.environment, "PATH": self.folder + ":" + os.environ["PATH"], "HOME": self.folder}

        def offered(line):
            done = subprocess.run(["fish", "--no-config", "-c", f"source {path}; complete --do-complete '{line}'"], capture_output=True, text=True, env=environment,
                                  timeout=muster_e2e.DEADLINE)
            self.assertEqual(done.returncode, 0, done.stderr)
            return [one.split("\t")[0] for one in done.stdout.splitlines()]
        self.assertEqual(offered("muster stat"), ["status"])
        self.assertEqual(offered("muster run --tag"), ["--tag-output"])
        self.assertIn("namespaces", offered("muster run --node-network n"))

    def test_zsh(self):
        path = self.script_for("zsh")
        done = subprocess.run(["zsh", "-f", "-c", f"autoload -U compinit; compinit -u -D; source {path}; print $_comps[muster]"], capture_output=True, text=True,
                              env=self.environment, timeout=muster_e2e.DEADLINE)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("_muster\n", "", 0))


if __name__ == "__main__":
    unittest.main()

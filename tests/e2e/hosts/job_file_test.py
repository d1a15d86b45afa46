"""muster run -f job.yaml from the outside: what the file asks for happens, flags go before it, and errors say where."""
import json
import os
import unittest

from muster_e2e import MusterCase

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "examples", "train_words", "job.yaml")


class JobFileCase(MusterCase):
    def write(self, text):
        path = os.path.join(self.folder, "job.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def run_file(self, text, *arguments):
        result = self.muster("run", "-f", self.write(text), *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return sorted(result.stdout.splitlines())

    def refused(self, code, text, *arguments):
        result = self.muster("run", "-f", self.write(text), *arguments)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertFalse(os.path.exists(self.state), "a job was made")
        return result.stderr.replace(os.path.join(self.folder, ""), "")


class Fields(JobFileCase):
    def test_command_workers_and_env(self):
        self.assertEqual(self.run_file('command: [sh, -c, "echo $RANK $WORLD_SIZE $COLOUR"]\nworkers: {min: 3, max: 3}\nenv: {COLOUR: blue}'),
                         ["0 3 blue", "1 3 blue", "2 3 blue"])

    def test_flags_go_before_the_file(self):
        text = 'command: [sh, -c, "echo $WORLD_SIZE $COLOUR $SIZE"]\nworkers: {min: 3, max: 3}\nenv: {COLOUR: blue, SIZE: 7}'
        self.assertEqual(self.run_file(text, "-np", "1", "-x", "COLOUR=red"), ["1 red 7"])
        self.assertEqual(self.run_file(text, "sh", "-c", "echo other $WORLD_SIZE"), ["other 3"] * 3)

    def test_per_node_over_nodes(self):
        text = 'command: [sh, -c, "echo $RANK $GROUP_RANK $LOCAL_WORLD_SIZE"]\nworkers: {max: 8, per_node: 2}'
        self.assertEqual(self.run_file(text), ["0 0 2", "1 0 2"])
        self.assertEqual(self.run_file(text, "--nodes", "2"), ["0 0 2", "1 0 2", "2 1 2", "3 1 2"])
        self.assertEqual(self.run_file(text, "--nproc-per-node", "1"), ["0 0 1"])

    def test_hosts_of_the_file_and_those_of_the_command_line(self):
        text = ('command: [sh, -c, "echo $RANK $GROUP_RANK"]\nworkers: {max: 3}\n'
                'starter: {ssh: {hosts: ["node-a:2", "node-b:2"]}}')
        self.assertEqual(self.run_file(text, "--starter", "local"), ["0 0", "1 0", "2 1"])
        self.assertEqual(self.run_file(text, "-H", "localhost:1"), ["0 0"])

    def test_recovery_restarts(self):
        mark = os.path.join(self.folder, "mark")
        text = f'command: [sh, -c, "mkdir {mark} && exit 3; echo $TORCHELASTIC_RESTART_COUNT"]\nworkers: {{max: 1}}\nrecovery: {{max_restarts: 1}}'
        self.assertEqual(self.run_file(text), ["1"])
        os.rmdir(mark)
        result = self.muster("run", "-f", self.write(text), "--max-restarts", "0")
        self.assertEqual(result.returncode, 3, result.stderr)

    def test_output_and_stdin(self):
        text = (f'command: [sh, -c, "cat; echo end"]\nworkers: {{min: 2, max: 2}}\noutput: {{marks: [rank], files: {self.folder}/%r.log}}\n'
                'stdin: all\n')
        result = self.muster("run", "-f", self.write(text), input="sheep\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(sorted(result.stdout.splitlines()), ["0: end", "0: sheep", "1: end", "1: sheep"])
        with open(os.path.join(self.folder, "1.log"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "1: sheep\n1: end\n")
        self.assertEqual(self.run_file(text, "--stdin", "none"), ["0: end", "1: end"])

    def test_output_and_stdin_that_cannot_be(self):
        base = "command: ['true']\nworkers: {min: 2, max: 2}\n"
        self.assertIn("job.yaml:3:17: output.marks: --output ranks: did you mean rank?", self.refused(78, base + "output: {marks: [ranks]}"))
        self.assertIn("job.yaml:3:17: output.files: there is no %x", self.refused(78, base + "output: {files: 'a/%x'}"))
        self.assertIn("job.yaml:3:8: stdin: --stdin some: write a rank, all or none", self.refused(78, base + "stdin: some"))

    def test_name_and_checkpoint_are_shown(self):
        folder = os.path.join(self.folder, "kept")
        self.run_file(f"name: words-7\ncommand: ['true']\ncheckpoint: {{path: {folder}, every_steps: 5, keep: 2}}")
        status = self.muster("status", "--json")
        self.assertEqual(status.returncode, 0, status.stderr)
        seen = json.loads(status.stdout)
        self.assertEqual((seen["name"], seen["checkpoint_path"]), ("words-7", folder))
        self.assertIn("words-7", self.muster("ps", "--all").stdout)

    def test_what_has_no_effect_here_is_said_with_v_only(self):
        text = "command: ['true']\nresources: {cpu: 1}\nkubernetes: {image: muster}\n"
        quiet = self.muster("run", "-np", "1", "-f", self.write(text))
        self.assertEqual((quiet.returncode, self.words_of(quiet.stderr)), (0, []), quiet.stderr)
        told = self.muster("run", "-v", "-np", "1", "-f", self.write(text))
        self.assertIn("job.yaml:2:18: resources.cpu is granted by Kubernetes alone", told.stderr)
        self.assertIn("job.yaml:3:13: kubernetes: is for jobs on Kubernetes alone", told.stderr)


class Errors(JobFileCase):
    def test_all_are_listed_with_their_places(self):
        said = self.refused(78, "command: [a]\nworkers: {mim: 2}\nenvv: {}\nname: X\n")
        self.assertEqual(said.splitlines()[:3], [
            "muster: job.yaml:2:11: workers.mim: there is no such field; did you mean min?",
            "muster: job.yaml:3:1: envv: there is no such field; did you mean env?",
            'muster: job.yaml:4:7: name: "X" is no name; it holds at most 63 small letters, digits and \'-\', with a letter or '
            "digit at both ends"])

    def test_values_that_only_the_launcher_can_judge(self):
        self.assertIn("job.yaml:2:6: env.RANK: muster itself sets it for each rank", self.refused(78, "command: [a]\nenv: {RANK: 3}"))
        self.assertIn("job.yaml:2:21: placement.map_by: ", self.refused(78, "command: [a]\nplacement: {map_by: nonsense}"))

    def test_what_is_no_fault_of_the_file(self):
        result = self.muster("run", "-f", os.path.join(self.folder, "none.yaml"))
        self.assertEqual(result.returncode, 64)
        self.assert_says(result, "none.yaml cannot be read")
        self.assertIn("has no command", self.refused(64, "workers: {max: 2}"))
        self.assertIn("asks for workers.min: 4, but the slots of 1 hosts are 2",
                      self.refused(64, "command: ['true']\nworkers: {min: 4}", "-H", "localhost:2"))
        self.assertIn("workers.per_node on 1 node allows 2; add --nodes",
                      self.refused(64, "command: ['true']\nworkers: {min: 4, per_node: 2}"))


class Example(JobFileCase):
    @unittest.skipUnless(os.path.exists("/usr/share/dict/words"), "no /usr/share/dict/words (package wamerican)")
    def test_it_trains(self):
        with open(EXAMPLE, encoding="utf-8") as file:
            text = file.read()
        self.assertIn("--steps, 100", text)
        lines = self.run_file(text.replace("--steps, 100", "--steps, 3"), "-np", "2")
        self.assertTrue(any("2 ranks" in line for line in lines), lines)
        self.assertTrue(any(line.split()[:1] == ["3"] for line in lines), lines)


if __name__ == "__main__":
    unittest.main(verbosity=2)

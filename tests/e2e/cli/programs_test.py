"""Several programs in one world: muster run -np 1 A : -np 2 B."""
import json
import os
import unittest

from muster_e2e import MusterCase, poll

SAY = 'echo "$0 $RANK/$WORLD_SIZE $MUSTER_APPLICATION $COLOUR $(pwd) [$OMPI_NUM_APP_CTX, $OMPI_APP_CTX_NUM_PROCS, $OMPI_FIRST_RANKS]"'


class Programs(MusterCase):
    RUN = ("run",)

    def script(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + text + "\n")
        os.chmod(path, 0o755)
        return path

    def test_each_has_its_own_ranks_environment_and_folder(self):
        result = self.muster(*self.RUN, "-np", "1", "-x", "COLOUR=red", "-wdir", "/usr", "sh", "-c", SAY, "a", ":",
                             "-np", "2", "-x", "COLOUR=blue", "sh", "-c", SAY, "b", ":", "-n", "1", "-wdir", "/", "sh", "-c", SAY, "c",
                             cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        facts = "[3, 1 2 1, 0 1 3]"
        self.assertEqual(sorted(result.stdout.splitlines()),
                         [f"a 0/4 0 red /usr {facts}", f"b 1/4 1 blue {self.folder} {facts}", f"b 2/4 1 blue {self.folder} {facts}",
                          f"c 3/4 2  / {facts}"])

    def test_the_program_of_the_broken_rank_is_named(self):
        serve, train = self.script("serve", "exec sleep 60"), self.script("train", '[ "$RANK" = 2 ] && exit 7; exec sleep 60')
        report = os.path.join(self.folder, "report.json")
        result = self.muster(*self.RUN, "--report", report, "-np", "1", serve, ":", "-np", "2", train)
        self.assertEqual(result.returncode, 7, result.stderr)
        self.assert_says(result, "rank 2 (train) on host")
        with open(report, encoding="utf-8") as file:
            told = json.load(file)
        self.assertEqual((told["rank"], told["program"]), (2, "train"))
        self.assertEqual([rank["program"] for rank in told["ranks"]], ["serve", "train", "train"])

    def test_status_says_who_runs_what(self):
        serve, train = self.script("serve", "echo up; read line"), self.script("train", "echo up; exec sleep 60")
        process = self.start(*self.RUN, "-np", "1", serve, ":", "-np", "2", train, stdin=-1)
        for _ in range(3):
            self.assertEqual(process.stdout.readline(), "up\n")
        self.assertTrue(poll(lambda: "serve rank 0, train ranks 1,2" in self.muster("status").stdout), self.muster("status").stdout)
        process.terminate()
        process.communicate(timeout=60)

    def test_one_that_is_not_there(self):
        result = self.muster(*self.RUN, "-np", "1", "true", ":", "-np", "2", "/no/such/train")
        self.assertEqual(result.returncode, 127, result.stderr)
        self.assert_says(result, "/no/such/train")


class ProgramsOverNodes(Programs):
    RUN = ("run", "--nodes", "2")


if __name__ == "__main__":
    unittest.main()

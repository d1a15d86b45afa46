"""What workers print and read, on its way through muster."""
import collections
import re
import subprocess
import unittest

from muster_e2e import MUSTER, DEADLINE, MusterCase, poll, processes_of


class Output(MusterCase):
    def test_lines_of_eight_writers_are_never_torn(self):
        lines, length = 400, 300
        # Each line in two writes, so that whoever passes on what it reads tears them.
        program = (f"import os\nrank = os.environ['RANK']\nfor i in range({lines}):\n"
                   f"    line = f'{{rank}}:{{i}}:' + rank * {length} + '\\n'\n"
                   f"    os.write(1, line[:99].encode()); os.write(1, line[99:].encode())\n")
        result = self.muster("run", "-np", "8", "python3", "-c", program)
        self.assertEqual(result.returncode, 0, result.stderr)
        seen = collections.defaultdict(list)
        for line in result.stdout.splitlines():
            match = re.fullmatch(r"(\d):(\d+):(\d+)", line)
            self.assertTrue(match, line)
            self.assertEqual(match[3], match[1] * length)
            seen[match[1]].append(int(match[2]))
        self.assertEqual(dict(seen), {str(rank): list(range(lines)) for rank in range(8)})

    def test_stdout_and_stderr_stay_apart(self):
        result = self.muster("run", "-np", "4", "sh", "-c", "echo out $RANK; echo err $RANK >&2")
        self.assertEqual(sorted(result.stdout.splitlines()), [f"out {rank}" for rank in range(4)])
        errors = [line for line in result.stderr.splitlines() if not line.startswith("muster: ")]
        self.assertEqual(sorted(errors), [f"err {rank}" for rank in range(4)])

    def test_tags(self):
        result = self.muster("run", "--tag-output", "-np", "2", "sh", "-c", "echo out; echo err >&2")
        self.assertEqual(sorted(result.stdout.splitlines()), ["[1,0]<stdout>:out", "[1,1]<stdout>:out"])
        self.assertIn("[1,1]<stderr>:err", result.stderr)

    def test_timestamps(self):
        result = self.muster("run", "--timestamp-output", "-np", "2", "echo", "hello")
        for line in result.stdout.splitlines():
            self.assertRegex(line, r"\d\d:\d\d:\d\d.*hello$")

    def test_the_last_lines_of_a_killed_worker_arrive(self):
        result = self.muster("run", "-np", "2", "sh", "-c", '[ "$RANK" = 1 ] || exec sleep 60; seq 1 5000; kill -KILL $$')
        self.assertEqual(result.returncode, 137)
        self.assertEqual(result.stdout.splitlines(), [str(i) for i in range(1, 5001)])

    def test_a_last_line_without_its_newline_arrives_as_it_is(self):
        self.assertEqual(self.muster("run", "-np", "1", "printf", "no newline").stdout, "no newline")

    def test_bytes_that_are_no_text_pass_unchanged(self):
        wanted = bytes(range(256)) * 300
        result = subprocess.run([MUSTER, "run", "-np", "1", "cat"], input=wanted, capture_output=True, env=self.environment,
                                timeout=DEADLINE, check=True)
        self.assertEqual(result.stdout, wanted)

    def test_stdin_goes_to_rank_0_alone(self):
        text = "".join(f"line {i}\n" for i in range(20000))
        result = self.muster("run", "-np", "3", "--tag-output", "cat", input=text)
        self.assertEqual(result.stdout, "".join(f"[1,0]<stdout>:{line}\n" for line in text.splitlines()))

    def test_a_worker_that_does_not_read_its_stdin_is_no_error(self):
        result = self.muster("run", "-np", "2", "true", input="x" * 1000000)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_reader_that_goes_away_ends_the_job_quietly(self):
        process = self.start("run", "-np", "2", "sh", "-c", "echo $MUSTER_JOB_ID; exec yes")
        job_id = process.stdout.readline().strip()
        process.stdout.close()
        self.assertEqual(process.wait(DEADLINE), 141)
        self.assertEqual(self.words_of(process.stderr.read()), [])
        self.assertTrue(poll(lambda: not processes_of(job_id)))

    def test_stdout_that_is_closed_from_the_start(self):
        result = subprocess.run(["sh", "-c", f"'{MUSTER}' run -np 2 true >&- 2>&-"], env=self.environment, timeout=DEADLINE, check=False)
        self.assertIn(result.returncode, (0, 141))

    def test_pty_gives_the_workers_a_terminal(self):
        self.assertEqual(self.muster("run", "-np", "1", "sh", "-c", "[ -t 1 ] && echo yes || echo no").stdout, "no\n")
        self.assertEqual(self.muster("run", "--pty", "-np", "1", "sh", "-c", "[ -t 1 ] && echo yes || echo no").stdout, "yes\n")


if __name__ == "__main__":
    unittest.main()

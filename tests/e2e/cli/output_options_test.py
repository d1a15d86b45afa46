"""Marks, colours, output files, standard input for many, and readers that stand still: in jobs of one process and of several nodes."""
import os
import pathlib
import pty
import re
import select
import subprocess
import unittest

from muster_e2e import MUSTER, DEADLINE, MusterCase, poll, processes_of, read

# One process; a coordinator with agents.
KINDS = {"one process": [], "two nodes": ["--nodes", "2", "--node-network", "host"]}


class OutputCase(MusterCase):
    def well(self, *arguments, **options):
        result = self.muster("run", *arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def each_kind(self):
        return KINDS.values()

    def path(self, *names):
        return os.path.join(self.folder, *names)


class Marks(OutputCase):
    def test_rank_host_and_time(self):
        for nodes in self.each_kind():
            self.assertEqual(sorted(self.well("-np", "2", *nodes, "--label", "echo", "x").splitlines()), ["0: x", "1: x"])
            lines = self.well("-np", "12", *nodes, "--output", "rank,host,timestamp", "sh", "-c", "echo $RANK $(hostname)").splitlines()
            self.assertEqual(len(lines), 12)
            for line in lines:
                match = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} ([ 1]\d) (\S+): (\d+) (\S+)", line)
                self.assertTrue(match, line)
                self.assertEqual(int(match[1]), int(match[3]))
                if not nodes:
                    self.assertEqual(match[2], match[4])

    def test_the_host_is_the_node_where_the_rank_runs(self):
        told = self.well("-H", "a:1,b:1", "--starter", "local", "--node-network", "host", "--output", "rank,host", "echo", "x")
        self.assertEqual(sorted(told.splitlines()), ["0 a: x", "1 b: x"])

    def test_logs_are_as_written(self):
        for nodes in self.each_kind():
            self.well("-np", "2", *nodes, "--tag-output", "--color", "always", "sh", "-c", "echo out $RANK")
            self.assertEqual(self.muster("logs", "--rank", "1").stdout, "out 1\n")

    def test_merged_stderr_keeps_its_order(self):
        for nodes in self.each_kind():
            result = self.muster("run", "-np", "2", *nodes, "--merge-stderr-to-stdout", "--label", "sh", "-c",
                                 "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done")
            self.assertNotIn("err 1", result.stderr)
            for rank in "01":
                wanted = [f"{rank}: {which} {i}" for i in range(1, 6) for which in ("out", "err")]
                self.assertEqual([line for line in result.stdout.splitlines() if line.startswith(rank)], wanted)

    def test_long_lines_of_two_nodes_are_not_torn(self):
        length = 300_000  # several messages
        program = f"import os\nfor i in range(5): print(os.environ['RANK'] * {length}, flush=True)"
        lines = self.well("-np", "2", *KINDS["two nodes"], "--label", "python3", "-c", program).splitlines()
        self.assertEqual(sorted(lines), sorted([f"{rank}: {str(rank) * length}" for rank in (0, 1)] * 5))


class Colors(OutputCase):
    def on_a_terminal(self, *arguments, **environment):
        """What muster run writes to a terminal that is its stdout and stderr."""
        master, slave = pty.openpty()
        env = {**self.environment, "TERM": "xterm", **environment}
        process = subprocess.Popen([MUSTER, "run", *arguments], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=env)
        os.close(slave)
        text = b""
        while select.select([master], [], [], DEADLINE)[0]:
            try:
                text += os.read(master, 65536)
            except OSError:
                break  # its end
        os.close(master)
        self.assertEqual(process.wait(DEADLINE), 0, text)
        return text.decode()

    def test_each_rank_has_its_own_on_a_terminal(self):
        for nodes in self.each_kind():
            text = self.on_a_terminal("-np", "3", *nodes, "--label", "sh", "-c", "echo x; echo y >&2")
            marks = re.findall(r"(\x1b\[\d+m)(\d):\x1b\[0m [xy]\r\n", text)
            self.assertEqual(len(marks), 6, text)
            self.assertEqual(len(set(marks)), 3, "one colour a rank, on both streams")
            self.assertEqual(len({color for color, _ in marks}), 3)

    def test_none_where_nobody_wants_them(self):
        run = ["-np", "2", "--label", "echo", "x"]
        for arguments, environment in (([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"}), (["--color", "never"], {})):
            self.assertNotIn("\x1b", self.on_a_terminal(*arguments, *run, **environment))
        self.assertNotIn("\x1b", self.on_a_terminal("-np", "2", "echo", "unmarked"))

    def test_none_in_pipes_and_files_unless_asked_for(self):
        self.environment["TERM"] = "xterm"
        for nodes in self.each_kind():
            self.assertNotIn("\x1b", self.well("-np", "2", *nodes, "--label", "echo", "x"))
            told = self.well("-np", "2", *nodes, "--label", "--color", "always", "--output-filename", self.path("out"), "echo", "x")
            self.assertIn("\x1b[", told)
            self.assertEqual(read(self.path("out/1/rank.1/stdout")), b"1: x\n", "never in files")


class Files(OutputCase):
    def test_as_mpirun_writes_them(self):
        for nodes in self.each_kind():
            told = self.well("-np", "2", *nodes, "--output-filename", "out", "sh", "-c", "echo out $RANK; echo err $RANK >&2", cwd=self.folder)
            self.assertEqual(sorted(told.splitlines()), ["out 0", "out 1"])
            for rank in (0, 1):
                self.assertEqual(read(self.path(f"out/1/rank.{rank}/stdout"), "r"), f"out {rank}\n")
                self.assertEqual(read(self.path(f"out/1/rank.{rank}/stderr"), "r"), f"err {rank}\n")

    def test_files_alone(self):
        for nodes in self.each_kind():
            for words, marked in (([], ""), (["--label"], "{}: ")):
                told = self.well("-np", "2", *nodes, *words, "--output-filename", self.path("x:nojobid,nocopy"), "sh", "-c",
                                 "echo out $RANK; readlink /proc/self/fd/2 >&2")
                self.assertEqual(told, "")
                for rank in (0, 1):
                    out, errors = (self.path(f"x/rank.{rank}/{name}") for name in ("stdout", "stderr"))
                    self.assertEqual(read(out, "r"), marked.format(rank) + f"out {rank}\n")
                    place = read(errors, "r")
                    self.assertEqual(errors in place, not words, f"a worker writes to its file itself unless lines are marked: {place}")
                result = self.muster("logs")
                self.assertEqual((result.returncode, result.stdout), (0, ""))
                self.assert_says(result, "write to files alone", self.path("x"))

    def test_patterns(self):
        for nodes in self.each_kind():
            told = self.well("-np", "2", *nodes, "--output-filename", self.path("p/%j/%h-%g.%r"), "sh", "-c",
                             "echo $MUSTER_JOB_ID; echo err >&2")
            job_id = told.splitlines()[0]
            files = sorted(os.listdir(self.path("p", job_id)))
            self.assertEqual([name.rsplit("-", 1)[1] for name in files], ["1.0", "1.1"])
            for name in files:
                self.assertEqual(sorted(read(self.path("p", job_id, name), "r").split()), sorted([job_id, "err"]), "both streams")

    def test_both_streams_of_a_pattern_with_s(self):
        self.well("-np", "1", "--output-filename", self.path("%r.%s"), "sh", "-c", "echo out; echo err >&2")
        self.assertEqual((read(self.path("0.stdout")), read(self.path("0.stderr"))), (b"out\n", b"err\n"))

    def test_a_restart_keeps_what_was_written(self):
        again = f'echo generation $TORCHELASTIC_RESTART_COUNT of $RANK; [ "$RANK" = 1 ] && [ $TORCHELASTIC_RESTART_COUNT = 0 ] && kill -9 $$; exit 0'
        for nodes in self.each_kind():
            for copy in ("", ":nocopy"):
                with open(self.path("1.log"), "w", encoding="utf-8") as file:
                    file.write("of an earlier job\n")
                result = self.muster("run", "-np", "2", *nodes, "--max-restarts", "1", "--output-filename", self.path("%r.log") + copy,
                                     "sh", "-c", again)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(read(self.path("1.log"), "r"), "generation 0 of 1\ngeneration 1 of 1\n")

    def test_what_cannot_be_made_is_said_before_anything_runs(self):
        ran = self.path("ran")
        with open(self.path("taken"), "w", encoding="utf-8"):
            pass
        for nodes in self.each_kind():
            for copy in ("", ":nocopy"):
                result = self.muster("run", "-np", "2", *nodes, "--output-filename", self.path("taken") + copy, "touch", ran)
                self.assertEqual(result.returncode, 73, result.stderr)
                self.assert_says(result, self.path("taken"), "--output-filename")
                self.assertFalse(os.path.exists(ran))
                self.assertEqual(len(self.words_of(result.stderr)), 1, result.stderr)

    def test_one_ranks_file_that_cannot_be_made(self):
        os.makedirs(self.path("d/1.log"))
        for nodes in self.each_kind():
            result = self.muster("run", "-np", "2", *nodes, "--max-restarts", "3", "--output-filename", self.path("d/%r.log"), "true")
            self.assertEqual(result.returncode, 73, result.stderr)
            self.assert_says(result, "cannot be written on host", self.path("d/1.log"))

    def test_a_full_disk_costs_the_exit_status_and_not_the_job(self):
        own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
        if subprocess.run([*own_mounts, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("this machine allows no mount namespace of one's own")
        os.mkdir(self.path("f"))
        for nodes in self.each_kind():
            result = subprocess.run([*own_mounts, "sh", "-c", 'mount -t tmpfs -o size=64k none "$0" && exec "$@"', self.path("f"), MUSTER, "run",
                                     "-np", "2", *nodes, "--output-filename", self.path("f/%r.log"), "sh", "-c", '[ "$RANK" = 1 ] || seq 1 30000'],
                                    capture_output=True, text=True, env=self.environment, timeout=DEADLINE, stdin=subprocess.DEVNULL, check=False)
            self.assertEqual(result.stdout.splitlines(), [str(i) for i in range(1, 30001)])
            self.assertEqual(result.returncode, 73, result.stderr)
            self.assert_says(result, "the output of rank 0", self.path("f/0.log"), "some of their output could not be written")

    def test_status_says_where(self):
        self.well("-np", "1", "--output-filename", self.path("out"), "true")
        self.assertIn(self.path("out/1/rank.%R/%s"), self.muster("status").stdout)

    def test_every_line_of_a_killed_worker_is_there(self):
        program = 'seq 1 20000; seq 1 3000 >&2; kill -KILL $$'
        wanted, wanted_errors = [f"{i}" for i in range(1, 20001)], [f"{i}" for i in range(1, 3001)]
        for nodes in self.each_kind():
            for words in ([], ["--label"], ["--output", "rank,host,timestamp"], ["--color", "always", "--tag-output"],
                          ["--output-filename", self.path("k/%r.%s")], ["--output-filename", self.path("k/%r.%s:nocopy")],
                          ["--label", "--output-filename", self.path("k/%r.%s:nocopy")], ["--stdin", "all"]):
                result = self.muster("run", "-np", "2", *nodes, *words, "sh", "-c", f'[ "$RANK" = 1 ] || exec sleep 600; {program}')
                self.assertEqual(result.returncode, 137, (words, result.stderr))
                alone = any(word.endswith(":nocopy") for word in words)
                lines = (lambda text: [re.split(r"[ :>]", line)[-1].split("\x1b[0m")[-1] for line in text.splitlines()])
                if not alone:
                    self.assertEqual(lines(result.stdout), wanted, words)
                if "--output-filename" in words:
                    self.assertEqual(lines(read(self.path("k/1.stdout"), "r")), wanted, words)
                    self.assertEqual(lines(read(self.path("k/1.stderr"), "r")), wanted_errors, words)

    def test_lines_survive_muster_itself_where_workers_write_the_files(self):
        program = 'echo $MUSTER_JOB_ID; i=0; while :; do i=$((i+1)); echo $i; done'
        process = self.start("run", "-np", "2", "--output-filename", self.path("s/%r.log:nocopy"), "sh", "-c", program)
        log = self.path("s/1.log")
        self.assertTrue(poll(lambda: read(log).count(b"\n") > 2000))
        process.kill()
        job_id = read(log).split(b"\n")[0].decode()
        self.assertTrue(poll(lambda: not processes_of(job_id)))
        lines = read(log, "r").splitlines()[1:]
        self.assertEqual(lines[:-1], [str(i) for i in range(1, len(lines))])


class Stdin(OutputCase):
    TEXT = "".join(f"line {i}\n" for i in range(40000))

    def test_one_rank(self):
        for nodes in self.each_kind():
            told = self.well("-np", "3", *nodes, "--stdin", "2", "--label", "cat", input=self.TEXT)
            self.assertEqual(told, "".join(f"2: {line}\n" for line in self.TEXT.splitlines()))

    def test_all_get_every_byte(self):
        for nodes in self.each_kind():
            # One is slow, and one dies in the middle.
            program = ('case $RANK in 1) head -n 100 >/dev/null; exit 0;; 2) sleep 0.3;; esac; cat > "$0/in.$RANK"; cmp "$0/in.$RANK" "$0/wanted"')
            with open(self.path("wanted"), "w", encoding="utf-8") as file:
                file.write(self.TEXT)
            self.well("-np", "4", *nodes, "--stdin", "all", "sh", "-c", program, self.folder, input=self.TEXT)

    def test_none(self):
        for nodes in self.each_kind():
            process = self.start("run", "-np", "2", *nodes, "--stdin", "none", "sh", "-c", "cat; echo end", stdin=subprocess.PIPE)
            self.assertEqual(process.wait(DEADLINE), 0)  # ours is open still
            self.assertEqual(process.stdout.read(), "end\nend\n")

    def test_all_ends_with_no_input(self):
        for nodes in self.each_kind():
            self.assertEqual(self.well("-np", "3", *nodes, "--stdin", "all", "sh", "-c", "cat; echo end"), "end\n" * 3)

    def test_all_over_a_restart(self):
        program = 'echo up; read one; echo $RANK got $one; [ $TORCHELASTIC_RESTART_COUNT = 1 ] && exit 0; [ "$RANK" = 1 ] && exit 3; exec sleep 600'
        for nodes in self.each_kind():
            process = self.start("run", "-np", "2", *nodes, "--max-restarts", "1", "--stdin", "all", "sh", "-c", program, stdin=subprocess.PIPE)
            for word in ("first", "second"):
                self.assertEqual([process.stdout.readline() for _ in range(2)], ["up\n"] * 2)
                process.stdin.write(word + "\n")
                process.stdin.flush()
                self.assertEqual({process.stdout.readline() for _ in range(2)}, {f"0 got {word}\n", f"1 got {word}\n"})
            process.stdin.close()
            process.stdin = None
            self.assertEqual(process.wait(DEADLINE), 0)


class SlowReaders(OutputCase):
    LINES = 300_000

    def test_a_reader_that_stands_still_costs_lines_and_not_the_job(self):
        """D.5: with 9 MiB kept (and 4 MiB on the way from each of two agents), 35 MiB written and nobody reading, the workers end all the same, and what is missing is counted and named."""
        end = self.path("end")
        program = f"seq -f '%060g' 1 {self.LINES}; : > {end}.$RANK"
        for nodes in self.each_kind():
            for words in ([], ["--label", "--output-filename", self.path("slow/%r.log")]):
                for rank in (0, 1):
                    pathlib.Path(f"{end}.{rank}").unlink(missing_ok=True)
                process = self.start("run", "-np", "2", *nodes, *words, "--output-buffer", "1", "sh", "-c", program)
                self.assertTrue(poll(lambda: os.path.exists(end + ".0") and os.path.exists(end + ".1")), "workers wait for a reader")
                lines = 0
                while process.stdout.readline():
                    lines += 1
                self.assertEqual(process.wait(DEADLINE), 0)
                errors = process.stderr.read()
                match = re.search(r"dropped (\d+) lines", errors)
                self.assertTrue(match, errors)
                self.assertRegex(errors, r"rank [01]: \d+")
                self.assertEqual(lines + int(match[1]), 2 * self.LINES)
                if "--output-filename" in words:
                    self.assertEqual(read(self.path("slow/0.log")).count(b"\n"), self.LINES, "files have them all")

    def test_a_stopped_terminal(self):
        master, slave = pty.openpty()
        end = self.path("end")
        process = self.start("run", "-np", "1", "--output-buffer", "1", "sh", "-c", f"seq -f '%060g' 1 {2 * self.LINES}; : > {end}",
                             stdout=slave, stderr=subprocess.PIPE)
        os.close(slave)
        self.assertTrue(poll(lambda: os.path.exists(end)), "the worker waits for a terminal that nobody reads")
        os.close(master)
        process.wait(DEADLINE)


if __name__ == "__main__":
    unittest.main()

"""muster run from the outside: exit codes, messages, the workers' environment, the report."""
import json
import os
import re
import socket
import stat
import subprocess
import unittest

from muster_e2e import DEADLINE, MUSTER, MusterCase, processes_of


class ExitCodes(MusterCase):
    def expect(self, code, *arguments, **options):
        result = self.muster("run", *arguments, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def test_zero_when_all_workers_go_well_and_nothing_is_said(self):
        result = self.expect(0, "-np", "3", "true")
        self.assertEqual(self.words_of(result.stderr), [])
        self.assertEqual(result.stdout, "")

    def test_the_workers_own(self):
        for code in (1, 3, 255):
            result = self.expect(code, "-np", "3", "sh", "-c", f'[ "$RANK" = 1 ] && exit {code}; exec sleep 60')
            self.assert_says(result, "rank 1", socket.gethostname(), f"{code}")
            self.assertEqual(len(self.words_of(result.stderr)), 1, result.stderr)

    def test_the_workers_signal(self):
        result = self.expect(137, "-np", "2", "sh", "-c", '[ "$RANK" = 1 ] && kill -KILL $$; exec sleep 60')
        self.assert_says(result, "rank 1", socket.gethostname(), "SIGKILL")
        self.expect(139, "sh", "-c", "kill -SEGV $$")

    def test_programs_that_cannot_be_started(self):
        self.assert_says(self.expect(127, "-np", "2", "no-such-program"), "no-such-program", "not found in PATH")
        self.assert_says(self.expect(127, "./no-such-program", cwd=self.folder), "./no-such-program", "not found")
        script = os.path.join(self.folder, "train")
        with open(script, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 0\n")
        self.assert_says(self.expect(126, script), "not executable", "chmod +x")
        self.assert_says(self.expect(126, self.folder), "is a folder")
        self.assert_says(self.expect(127, "train", cwd=self.folder), "./train")
        os.chmod(script, os.stat(script).st_mode | stat.S_IXUSR)
        self.expect(0, "-np", "2", "./train", cwd=self.folder)
        self.expect(0, "-wdir", self.folder, "./train")

    def test_an_executable_that_the_kernel_refuses(self):
        broken = os.path.join(self.folder, "broken")
        with open(broken, "w", encoding="utf-8") as file:
            file.write("#!/no/such/interpreter\n")
        os.chmod(broken, 0o755)
        self.assert_says(self.expect(126, "-np", "2", broken), "broken", "/no/such/interpreter")
        with open(broken, "wb") as file:
            file.write(b"\x7fELF no program")
        self.assert_says(self.expect(126, "-np", "2", broken), "broken")

    def test_usage(self):
        for arguments, parts in {
            ("-np", "0", "true"): ["-np 0", "whole number from 1"],
            ("-np", "-3", "true"): ["-np -3"],
            ("-np", "four", "true"): ["-np four"],
            ("-np",): ["-np needs a value"],
            (): ["no program given", "muster run -np 4 PROGRAM"],
            ("-np", "2"): ["no program given"],
            ("--tag-ouput", "true"): ["--tag-ouput", "did you mean --tag-output?"],
            ("--hostfile", "hosts", "true"): ["--hostfile hosts cannot be read"],
            ("--spares", "2", "true"): ["--spares", "--max-restarts N"],
            ("--max-np", "2", "true"): ["--max-np is not in this version"],
            ("-np", "1", "--nodes", "2", "true"): ["--nodes 2", "-np 1"],
            ("-np", "2", "--min-np", "3", "--max-restarts", "1", "true"): ["--min-np 3", "-np 2"],
            ("--map-by", "cores", "true"): ["--map-by cores", "'cores' is none of"],
            ("--timeout", "soon", "true"): ["--timeout soon", "seconds"],
            ("-wdir", "/no/such/folder", "true"): ["/no/such/folder", "does not exist"],
            ("-x", "NOT_SET_ANYWHERE", "true"): ["NOT_SET_ANYWHERE", "is not set"],
            ("-x", "RANK=1", "true"): ["RANK is set by muster itself"],
            ("true", ":", "-np", "2", "false"): ["several programs"],
        }.items():
            with self.subTest(arguments=arguments):
                result = self.expect(64, *arguments)
                self.assert_says(result, *parts)
                self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)

    def test_a_worker_rather_than_muster_is_ended_when_memory_runs_out(self):
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            ours = int(file.read())
        result = self.expect(0, "-np", "2", "cat", "/proc/self/oom_score_adj")
        self.assertEqual([int(line) for line in result.stdout.split()], [min(ours + 300, 1000)] * 2)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            result = subprocess.run([MUSTER, "run", "-np", "1", "echo", "hello"], stdout=full, stderr=subprocess.PIPE, text=True,
                                    env=self.environment, timeout=DEADLINE, check=False)
        self.assertEqual(result.returncode, 73, result.stderr)
        self.assert_says(result, "No space left on device", "output could not be written")

    def test_timeout(self):
        result = self.expect(124, "-np", "2", "--timeout", "0.3", "sleep", "60")
        self.assert_says(result, "timeout")
        self.assertEqual(len(self.words_of(result.stderr)), 1, result.stderr)

    def test_state_and_report_that_cannot_be_written(self):
        blocked = os.path.join(self.folder, "file")
        with open(blocked, "w", encoding="utf-8"):
            pass
        result = self.expect(73, "true", env={**self.environment, "XDG_STATE_HOME": blocked})
        self.assert_says(result, blocked, "XDG_STATE_HOME")
        result = self.expect(73, "true", env={**self.environment, "TMPDIR": blocked})
        self.assert_says(result, blocked, "TMPDIR")
        result = self.expect(73, "--report", "/no/such/folder/r.json", "true")
        self.assert_says(result, "/no/such/folder")

    def test_without_a_home_the_record_goes_to_the_temporary_folder(self):
        environment = {k: v for k, v in self.environment.items() if k not in ("HOME", "XDG_STATE_HOME")}
        result = self.expect(0, "true", env=environment)
        self.assert_says(result, "HOME is not set", self.temporary)

    def test_many_workers_in_spite_of_a_low_limit_of_open_files(self):
        limited = ["sh", "-c", 'ulimit -S -n 40; exec "$0" "$@"', MUSTER]
        result = subprocess.run([*limited, "run", "-np", "30", "sh", "-c", "ulimit -n"], capture_output=True, text=True,
                                env=self.environment, timeout=DEADLINE, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(set(result.stdout.split()), {"40"})  # the workers keep what the user has chosen
        limited[2] = 'ulimit -n 40; exec "$0" "$@"'
        result = subprocess.run([*limited, "run", "-np", "30", "true"], capture_output=True, text=True, env=self.environment,
                                timeout=DEADLINE, check=False)
        self.assertEqual(result.returncode, 126, result.stderr)
        self.assert_says(result, "Too many open files")

    def test_a_bare_name_is_looked_for_beside_muster(self):
        result = self.expect(0, "-np", "1", "muster", "--version", env={**self.environment, "PATH": "/usr/bin:/bin"})
        self.assertRegex(result.stdout, r"^muster \d+\.\d+\.\d+\n$")


class Environment(MusterCase):
    def variables(self, *arguments, **options):
        """The environment of each rank."""
        result = self.muster("run", *arguments, "sh", "-c", "env > $TMPDIR/../../env-of-$RANK; ls -d $TMPDIR", **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        ranks = {}
        for name in os.listdir(self.folder):
            if name.startswith("env-of-"):
                with open(os.path.join(self.folder, name), encoding="utf-8") as file:
                    ranks[int(name[7:])] = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
        return ranks, result

    def test_place_of_each_rank(self):
        ranks, result = self.variables("-np", "3")
        self.assertEqual(sorted(ranks), [0, 1, 2])
        for rank, variables in ranks.items():
            for name in ("RANK", "LOCAL_RANK", "ROLE_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"):
                self.assertEqual(variables[name], str(rank), name)
            for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"):
                self.assertEqual(variables[name], "3", name)
            expected = {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RESTART_COUNT": "0",
                        "TORCHELASTIC_USE_AGENT_STORE": "False", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
            for name, value in expected.items():
                self.assertEqual(variables[name], value, name)
            self.assertRegex(variables["MUSTER_JOB_ID"], r"^[0-9a-f]{32}$")
            self.assertTrue(variables["MUSTER_SOCKET"])
            self.assertTrue(variables["TMPDIR"].startswith(self.temporary + "/"))
        for name in ("MASTER_PORT", "MUSTER_JOB_ID", "MUSTER_SOCKET", "TMPDIR"):
            self.assertEqual(len({variables[name] for variables in ranks.values()}), 1, name)
        self.assertEqual(len({variables["MUSTER_SLOT"] for variables in ranks.values()}), 3)
        self.assertGreater(int(ranks[0]["MASTER_PORT"]), 0)
        self.assertEqual(result.stderr.count("OMP_NUM_THREADS=1"), 1)
        self.assertFalse(os.path.exists(ranks[0]["TMPDIR"]), "the job's TMPDIR is left")
        self.assertEqual(os.listdir(self.temporary), [])

    def test_one_worker_keeps_its_threads(self):
        ranks, result = self.variables("-np", "1")
        self.assertNotIn("OMP_NUM_THREADS", ranks[0])
        self.assertEqual(result.stderr, "")

    def test_chosen_variables_and_port(self):
        ranks, _ = self.variables("-np", "2", "-x", "A=1=2", "-x", "OMP_NUM_THREADS=5", "-x", "B", "--master-port", "12345",
                                  env={**self.environment, "B": "here", "PMIX_RANK": "7", "PMI_FD": "9"})
        for variables in ranks.values():
            self.assertEqual((variables["A"], variables["B"], variables["OMP_NUM_THREADS"]), ("1=2", "here", "5"))
            self.assertEqual(variables["MASTER_PORT"], "12345")
            self.assertEqual(variables["PMIX_RANK"], variables["RANK"])  # an outer launcher's is not passed on
            self.assertNotIn("PMI_FD", variables)

    def test_working_folder(self):
        result = self.muster("run", "-np", "2", "-wdir", self.folder, "pwd", "-P")
        self.assertEqual(result.stdout, (os.path.realpath(self.folder) + "\n") * 2)

    def test_master_port_can_be_listened_on(self):
        program = ("import os, socket; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); "
                   "s.bind(('', int(os.environ['MASTER_PORT']))); s.listen(); print('listening')")
        result = self.muster("run", "-np", "1", "python3", "-c", program)
        self.assertEqual(result.stdout, "listening\n", result.stderr)

    def test_workers_start_with_plain_signals_and_descriptors(self):
        # muster itself ignores SIGPIPE and blocks what it waits for.
        result = self.muster("run", "-np", "2", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
        self.assertEqual(set(result.stdout.splitlines()), {"SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"}, result.stderr)
        result = self.muster("run", "-np", "2", "ls", "/proc/self/fd")  # 3 is ls's own
        self.assertEqual(sorted(result.stdout.split()), sorted("0123" * 2), result.stderr)


class Report(MusterCase):
    def report(self, code, *arguments):
        path = os.path.join(self.folder, "report.json")
        result = self.muster("run", "--report", path, *arguments)
        self.assertEqual(result.returncode, code, result.stderr)
        with open(path, encoding="utf-8") as file:
            return json.load(file), result

    def test_of_a_job_that_went_well(self):
        report, _ = self.report(0, "-np", "2", "true")
        self.assertEqual((report["exit_code"], report["sentence"], report["class"], report["rank"]), (0, "", None, None))
        self.assertEqual([rank["rank"] for rank in report["ranks"]], [0, 1])
        self.assertEqual([rank["exit_code"] for rank in report["ranks"]], [0, 0])
        self.assertEqual((report["workers"], report["command"], report["causes"]), (2, ["true"], []))
        self.assertGreaterEqual(report["generation"], 1)
        self.assertGreater(report["seconds"], 0)
        self.assertRegex(report["started"], r"^\d{4}-\d\d-\d\dT")

    def test_of_a_worker_that_failed(self):
        report, result = self.report(3, "-np", "3", "sh", "-c", '[ "$RANK" = 2 ] && exit 3; exec sleep 60')
        self.assertEqual((report["exit_code"], report["origin"], report["rank"], report["worker_exit_code"], report["signal"]),
                         (3, "worker", 2, 3, None))
        self.assertEqual(report["host"], socket.gethostname())
        self.assertIn(report["sentence"], result.stderr)
        self.assertEqual(report["class"], "exit code")
        self.assertEqual(report["ranks"][2]["exit_code"], 3)
        self.assertFalse(report["ranks"][2]["ended_by_muster"])
        self.assertTrue(report["ranks"][0]["ended_by_muster"])

    def test_of_a_worker_that_was_killed(self):
        report, _ = self.report(137, "-np", "2", "sh", "-c", '[ "$RANK" = 0 ] && kill -KILL $$; exec sleep 60')
        self.assertEqual((report["origin"], report["rank"], report["signal"], report["class"]), ("worker", 0, 9, "signal"))

    def test_of_muster_itself(self):
        report, _ = self.report(124, "--timeout", "0.2", "sleep", "60")
        self.assertEqual((report["origin"], report["rank"]), ("muster", None))

    def test_may_go_to_a_device(self):
        result = self.muster("run", "--report", "/dev/stdout", "-np", "1", "true")
        self.assertEqual(json.loads(result.stdout)["exit_code"], 0)

    def test_the_jobs_folder_keeps_record_and_verdict(self):
        report, _ = self.report(0, "-np", "1", "true")
        folder = os.path.join(self.state, "muster", report["job_id"])
        with open(os.path.join(folder, "verdict.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file), report)
        self.assertGreater(os.path.getsize(os.path.join(folder, "record")), 0)
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700)
        self.assertEqual(processes_of(report["job_id"]), [])

    def test_twenty_jobs_are_kept(self):
        for _ in range(23):
            self.assertEqual(self.muster("run", "-np", "1", "true").returncode, 0)
        self.assertEqual(len(self.kept_jobs()), 20)


class Words(MusterCase):
    def test_help_teaches_by_example(self):
        for arguments in (["--help"], ["help"], ["-h"]):
            result = self.muster(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn("muster run -np 4 ./train", result.stdout)
        for arguments in (["run", "--help"], ["help", "run"], ["run", "-np", "2", "-h"]):
            result = self.muster(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            for part in ("-np, -n", "-x", "-wdir", "--timeout", "--tag-output", "--report", "exit status", "examples"):
                self.assertIn(part, result.stdout)
            self.assertLessEqual(max(len(line) for line in result.stdout.splitlines()), 120)

    def test_every_example_of_the_help_parses(self):
        result = self.muster("run", "--help")
        examples = re.findall(r"^  muster run (.+?)(?:   |\n)", result.stdout, re.M)
        self.assertGreaterEqual(len(examples), 4)
        for example in examples:
            options = example.split()
            run = self.muster("run", "-wdir", self.folder, *options, cwd=self.folder)
            self.assertNotIn("unknown option", run.stderr, example)
            self.assertIn(run.returncode, (126, 127, 2, 64), example)
            if run.returncode == 64:
                self.assertRegex(run.stderr, "/data|-f job.yaml cannot be read|topology.conf cannot be read", example)  # what need not be here

    def test_version(self):
        for word in ("--version", "version"):
            result = self.muster(word)
            self.assertEqual(result.returncode, 0)
            self.assertRegex(result.stdout, r"^muster \d+\.\d+\.\d+\n$")

    def test_unknown_commands(self):
        self.assertIn("did you mean: muster run", self.muster("rum").stderr)
        self.assertEqual(self.muster("rum").returncode, 64)
        self.assertEqual(self.muster().returncode, 64)
        self.assertIn("options come after the command", self.muster("-np", "4", "true").stderr)
        self.assertEqual(self.muster("help", "nothing").returncode, 64)

    def test_doctor(self):
        result = self.muster("doctor")
        self.assertEqual(result.returncode, 0, result.stdout)
        for line in result.stdout.splitlines():
            self.assertRegex(line, r"^(ok|warn) +\S")
        checks = json.loads(self.muster("doctor", "--json").stdout)
        names = {check["name"] for check in checks["checks"]}
        self.assertTrue(checks["healthy"])
        self.assertLessEqual({"shared memory", "futex_waitv", "robust futex", "seccomp", "memory", "cores", "kill cover",
                              "process_vm_readv", "muster-guard"}, names)
        for check in checks["checks"]:
            self.assertIn(check["level"], ("ok", "warn"))
            self.assertEqual("remedy" in check, check["level"] == "warn", check)
        self.assertEqual(self.muster("doctor", "--jsn").returncode, 64)

    def test_doctor_sees_a_folder_that_cannot_be_written(self):
        blocked = os.path.join(self.folder, "file")
        with open(blocked, "w", encoding="utf-8"):
            pass
        result = self.muster("doctor", env={**self.environment, "XDG_STATE_HOME": blocked})
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r"(?m)^FAIL  state folder .*XDG_STATE_HOME")

    def test_verbose_says_what_it_does(self):
        result = self.muster("run", "-v", "-np", "2", "true")
        self.assertEqual(result.returncode, 0)
        self.assertIn("2 workers", result.stderr)
        self.assertTrue(all(line.startswith("muster: ") for line in result.stderr.splitlines()))

    def test_a_muster_without_its_guard_says_so(self):
        alone = os.path.join(self.folder, "muster")
        with open(MUSTER, "rb") as source, open(alone, "wb") as copy:
            copy.write(source.read())
        os.chmod(alone, 0o755)
        result = self.muster("run", "true", env={**self.environment})
        self.assertEqual(result.returncode, 0)
        result = subprocess.run([alone, "run", "true"], capture_output=True, text=True, env=self.environment, timeout=60, check=False)
        self.assertEqual(result.returncode, 70)
        self.assertIn("muster-guard", result.stderr)


if __name__ == "__main__":
    unittest.main()

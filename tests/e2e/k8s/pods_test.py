"""The manifests of `muster k8s render`, run: pods as restricted runc containers from the built image, which train and are disturbed."""
import json
import os
import unittest

import pod_node
from muster_e2e import read
from pods_case import JOB, JobCase, checkpoint_data, skip_without_pods

WITH_RECORD = JOB.replace("grace: 20s", "grace: 20s, record: words-record")


def setUpModule():
    skip_without_pods()


class Undisturbed(JobCase):
    def test_trains_as_on_a_laptop_and_may_do_nothing_else(self):
        self.apply()
        self.node.start_jobs()
        self.wait(lambda: self.checkpoint_after(0), "no checkpoint")
        pod = self.workers.live(0)
        seen = 0
        for pid in pod.pids():
            status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status", "r").splitlines() if ":\t" in line)
            if not status:
                continue
            seen += 1
            self.assertEqual((status["CapEff"], status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]), ("0" * 16, "0" * 16, "1", "2"), status["Name"])
            self.assertEqual(status["Uid"].split(), ["65532"] * 4)
            self.assertFalse(os.path.exists(f"/proc/{pid}/root/var/run/secrets"))
        self.assertGreaterEqual(seen, 3)
        self.finish()
        self.assertEqual(self.node.api_callers(), [], "a pod has asked the API server")
        self.assertEqual(checkpoint_data(self.checkpoints), self.undisturbed_data)
        self.assertGreaterEqual(len(self.undisturbed_data), 1)
        self.wait(lambda: all(one.exit_code == 0 for one in self.workers.pods), "agents do not end with the job")
        said = json.loads(self.coordinator.pods[0].message)
        self.assertEqual((said["exit_code"], said["workers"], said["restarts"]), (0, 4, 0))
        self.assertIn("all 4 workers ended with 0", said["sentence"])
        self.assertEqual(json.loads(pod.message), {"exit_code": 0, "sentence": "the job is over", "host": f"{pod.name}@{pod.machine}"})

    def test_who_asked_the_api_server_would_be_seen(self):
        self.apply()
        pod = self.workers.create(0)
        self.node.inside(pod.holder, "bash", "-c", "exec 3<>/dev/tcp/" + "/".join(map(str, pod_node.API_SERVER)))
        self.assertEqual(self.node.api_callers(), [pod.address])

    def test_a_failure_says_which_pod_of_which_machine(self):
        self.apply(JOB.replace("--resume", "--optimizer, nonsense").replace("max_restarts: 5", "max_restarts: 0").replace("min: 2", "min: 4"))
        self.node.start_jobs()
        self.wait(lambda: self.coordinator.failed or self.coordinator.succeeded, "the job does not end")
        self.assertTrue(self.coordinator.failed, self.node.story())
        self.assertEqual([pod.exit_code for pod in self.coordinator.pods], [64])
        said = json.loads(self.coordinator.pods[0].message)
        self.assertEqual(said["exit_code"], 64)
        self.assertRegex(said["sentence"], r"rank \d .*words-workers-\d-\w+@machine-\d")

    def test_a_pod_that_waits_for_its_coordinator_can_be_deleted(self):
        self.apply()
        pod = self.workers.create(0)

        def takes_sigterm():  # before it does, the first process of a container gets none
            for pid in pod.pids():
                status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status", "r").splitlines() if ":\t" in line)
                if status.get("Name") == "muster" and status["NSpid"].split()[-1] == "1":
                    return bool(int(status["SigBlk"], 16) & 1 << 14)
            return False
        self.wait(takes_sigterm, "muster does not start")
        pod.delete()
        self.wait(lambda: pod.exit_code is not None, "it does not end")
        self.assertEqual(pod.exit_code, 143, self.node.story())
        self.assertIn("before there was a coordinator", json.loads(pod.message)["sentence"])


class Disturbed(JobCase):
    """Something happens when a checkpoint stands; at the end the weights are those of an undisturbed run."""

    def begin(self, text=JOB):
        self.apply(text)
        self.node.start_jobs()
        self.wait(lambda: self.checkpoint_after(0), "no checkpoint")

    def test_a_pod_is_killed(self):
        self.begin()
        victim = self.workers.live(1)
        victim.kill()
        self.finish()
        self.assertEqual(victim.exit_code, 137)
        self.assertEqual([pod.index for pod in self.workers.pods], [0, 1, 1])
        self.assertGreaterEqual(self.verdict()["restarts"], 1)

    def test_a_pod_is_drained(self):
        self.begin()
        victim = self.workers.live(1)
        victim.delete()
        self.finish()
        self.assertEqual(victim.exit_code, 143, victim.text("stderr"))
        said = json.loads(victim.message)
        self.assertEqual(said["exit_code"], 143)
        self.assertIn("asked to end by TERM", said["sentence"])
        self.assertEqual(self.workers.failures, 0, "a drained pod counts as a failure")

    def test_two_pods_of_one_index(self):
        self.begin()
        older = self.workers.live(0)
        newer = self.workers.create(0)
        self.finish()
        self.wait(lambda: older.exit_code is not None and newer.exit_code is not None, "pods do not end with the job")
        self.assertEqual((older.exit_code, newer.exit_code), (77, 0), self.node.story())
        self.assertEqual(json.loads(older.message)["exit_code"], 77)

    def lose_coordinator(self, end, text=JOB):
        self.begin(text)
        first = self.coordinator.pods[0]
        others = [pod.id for pod in self.workers.pods]
        end(first)
        self.finish()
        self.assertEqual(len(self.coordinator.pods), 2, self.node.story())
        self.assertEqual([pod.id for pod in self.workers.pods], others, "pods of agents were made anew")
        return first

    def test_the_coordinator_is_lost_with_its_record(self):
        first = self.lose_coordinator(lambda pod: pod.kill())
        self.assertEqual(first.exit_code, 137)

    def test_the_coordinator_is_lost_and_its_record_stays(self):
        first = self.lose_coordinator(lambda pod: pod.kill(), WITH_RECORD)
        self.assertEqual(first.exit_code, 137)
        self.the_job_went_on()

    def test_the_coordinator_is_drained_and_its_record_stays(self):
        first = self.lose_coordinator(lambda pod: pod.delete(), WITH_RECORD)
        self.assertEqual(first.exit_code, 143, first.text("stderr"))
        self.assertIn("the job goes on under the coordinator that comes after this one", json.loads(first.message)["sentence"])
        self.the_job_went_on()

    def the_job_went_on(self):
        """One job, under two coordinators, and no worker noticed."""
        said = self.verdict()
        self.assertEqual((said["exit_code"], said["restarts"], said["generation"]), (0, 0, 1), self.node.story())
        folder = os.path.join(self.node.claim("words-record"), "muster")
        self.assertEqual([name for name in os.listdir(folder) if not name.startswith(".")], [said["job_id"]])
        self.assertEqual(json.loads(read(os.path.join(folder, said["job_id"], "verdict.json")))["exit_code"], 0)
        starts = [event for event in map(json.loads, read(os.path.join(folder, said["job_id"], "events.jsonl"), "r").splitlines()) if event["kind"] == "started"]
        self.assertEqual([event["text"] for event in starts], ["the job starts", "the coordinator starts again from its record"])
        for pod in self.workers.pods:
            self.assertIn("another goes on with the job at", pod.text("stderr"))

    def test_the_coordinator_is_drained(self):
        first = self.lose_coordinator(lambda pod: pod.delete())
        self.assertEqual(first.exit_code, 143, first.text("stderr"))
        self.assertEqual(json.loads(first.message)["exit_code"], 143)

    def test_muster_cancel_in_the_pod_of_the_coordinator_ends_the_job(self):
        self.begin()
        done = self.coordinator.pods[0].execute("muster", "cancel")
        # It waits for the end of the job, which is that of the container and of all that is in it.
        self.assertIn(done.returncode, (0, 137), done.stderr)
        self.wait(lambda: self.coordinator.failed and all(pod.exit_code is not None for pod in self.workers.pods), "the job does not end")
        # Not as a pod that is drained: nobody takes its place, and no agent waits for somebody.
        self.assertEqual([pod.exit_code for pod in self.coordinator.pods], [130], self.node.story())
        self.assertEqual(self.coordinator.reason, "PodFailurePolicy")
        self.assertEqual([pod.exit_code for pod in self.workers.pods], [0, 0], self.node.story())
        self.assertTrue(self.workers.succeeded)
        self.assertIn("interrupted (SIGINT) by muster cancel of", self.verdict()["sentence"])


if __name__ == "__main__":
    unittest.main(verbosity=2)

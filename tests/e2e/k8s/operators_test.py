"""Pods that others than the Job controller make of a manifest: JobSet, Kubeflow Trainer, the MPI Operator. They train, and lose one."""
import unittest

from pods_case import JOB, PodsCase, skip_without_pods


def setUpModule():
    skip_without_pods()


class OperatorsCase(PodsCase):
    version = 33
    api = coordinator_name = ""

    def setUp(self):
        super().setUp()
        self.make_node(version=self.version)

    def take(self, text=JOB):
        self.whole = self.apply(text, "--api", self.api)
        self.coordinator = self.node.job(self.coordinator_name)

    def begin(self, text=JOB):
        self.take(text)
        self.node.start_jobs()
        self.wait(lambda: self.checkpoint_after(0), "no checkpoint")

    def end_of_all(self, expected=True):
        self.wait(lambda: self.whole.succeeded or self.whole.failed, "the whole does not end")
        self.assertEqual((self.whole.succeeded, self.whole.failed), (expected, not expected), self.node.story())
        self.wait(lambda: all(pod.exit_code is not None for pod in self.whole.pods), "pods outlive their job")


class JobSet(OperatorsCase):
    api, coordinator_name = "jobset", "words-coordinator-0"

    def test_an_agents_pod_is_killed(self):
        self.begin()
        workers = self.node.job("words-workers-0")
        # JobSet's own name for the coordinator means the same pod as our Service.
        agent, coordinator = workers.live(0), self.coordinator.live(0)
        self.assertEqual(agent.labels["jobset.sigs.k8s.io/coordinator"], f"{coordinator.hostname}.words")
        with open(agent.hosts_file, encoding="utf-8") as file:
            names = [line.split() for line in file]
        self.assertIn([coordinator.address, "words", f"{coordinator.hostname}.words"], names)
        self.assertIn([coordinator.address, "words-coordinator"], names)
        victim = workers.live(1)
        victim.kill()
        self.finish()
        self.end_of_all()
        self.assertEqual((victim.exit_code, [pod.index for pod in workers.pods], self.whole.restarts), (137, [0, 1, 1], 0))
        self.assertGreaterEqual(self.verdict()["restarts"], 1)

    def test_a_failure_that_the_coordinator_has_judged_is_final(self):
        self.take(JOB.replace("--resume", "--optimizer, nonsense").replace("max_restarts: 5", "max_restarts: 0").replace("min: 2", "min: 4"))
        self.node.start_jobs()
        self.end_of_all(expected=False)
        self.assertEqual(([pod.exit_code for pod in self.coordinator.pods], self.coordinator.reason, self.whole.restarts), ([64], "PodFailurePolicy", 0))


class JobSetInPlace(OperatorsCase):
    """Where Kubernetes restarts containers in their pods (1.35)."""
    api, coordinator_name, version = "jobset", "words-coordinator-0", 35

    def test_an_agent_without_a_coordinator_starts_again_in_its_pod(self):
        self.take()
        workers = self.node.job("words-workers-0")
        arguments = workers.spec["template"]["spec"]["containers"][0]["args"]
        self.assertEqual(arguments[arguments.index("--orphan-after") + 1], "300")
        arguments[arguments.index("--orphan-after") + 1] = "1"  # a test does not wait for 5 minutes
        workers.start()
        self.wait(lambda: all(pod.restarts >= 1 for pod in workers.pods), "agents do not start again")
        for pod in workers.pods:
            self.assertEqual(set(pod.exit_codes), {69}, self.node.story())
        arguments[arguments.index("--orphan-after") + 1] = "300"
        self.node.start_jobs()
        self.finish()
        self.end_of_all()
        self.assertEqual([pod.index for pod in workers.pods], [0, 1], "pods were made anew")


class TrainJob(OperatorsCase):
    api, coordinator_name = "trainjob", "words-coordinator-0"

    def test_the_coordinators_pod_is_killed(self):
        self.begin()
        workers = self.node.job("words-node-0")
        self.assertEqual(workers.spec["completions"], 2)
        self.coordinator.live(0).kill()
        self.finish()
        self.end_of_all()
        self.assertEqual([pod.exit_code for pod in self.coordinator.pods], [137, 0])
        self.assertEqual(([pod.index for pod in workers.pods], self.whole.restarts), ([0, 1], 0))


class MpiJob(OperatorsCase):
    api, coordinator_name = "mpijob", "words-launcher"

    def test_a_workers_container_is_killed_and_starts_again_in_its_pod(self):
        self.begin()
        victim = self.whole.live(1)
        self.assertEqual((victim.name, victim.hostname), ("words-worker-1", "words-worker-1"))
        victim.kill()
        self.finish()
        self.end_of_all()
        self.assertEqual((victim.exit_codes[0], victim.restarts), (137, 1), self.node.story())
        self.assertEqual([pod.index for pod in self.whole.workers], [0, 1])
        self.assertGreaterEqual(self.verdict()["restarts"], 1)

    def test_a_workers_machine_is_lost_and_its_pod_is_made_anew(self):
        self.begin()
        victim = self.whole.live(1)
        victim.lose()
        self.finish()
        self.end_of_all()
        self.assertEqual(([pod.name for pod in self.whole.workers], victim.restarts), (["words-worker-0", "words-worker-1", "words-worker-1"], 0))
        self.assertNotEqual(self.whole.workers[2].machine, victim.machine)


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""Agents that show the token of their pod besides the join key: the coordinator believes the cluster's signature, and asks nobody."""
import json
import unittest

from pods_case import JOB, PodsCase, skip_without_pods
from token_signer import ISSUER, TokenSigner

WITH_TOKENS = JOB.replace("grace: 20s", "grace: 20s, join: token")


def setUpModule():
    skip_without_pods()


class Tokens(PodsCase):
    def setUp(self):
        super().setUp()
        self.make_node()
        self.signer = TokenSigner(self.folder)
        self.node.token = lambda pod, audience, seconds: self.signer.sign(self.signer.claims(pod, audience, seconds))

    def begin(self):
        self.apply(WITH_TOKENS)
        self.node.apply([{"kind": "ConfigMap", "metadata": {"name": "words-cluster"}, "data": {"jwks": self.signer.jwks(), "issuer": ISSUER}}])
        self.coordinator, self.workers = self.node.job("words-coordinator"), self.node.job("words-workers")
        self.node.start_jobs()

    def test_pods_of_the_job_are_taken(self):
        self.begin()
        self.finish()
        self.assertEqual(self.node.api_callers(), [], "a pod has asked the API server")
        self.assertEqual([pod.index for pod in self.workers.pods], [0, 1])

    def test_a_pod_with_a_token_for_somebody_else_is_refused_and_replaced(self):
        stranger = TokenSigner(self.folder + "/stranger")
        wrong = [lambda pod, claims: self.signer.sign({**claims, "aud": ["https://kubernetes.default.svc"]}),
                 lambda pod, claims: stranger.sign(claims)]
        why = ["a token that was made for another audience than muster/words", "a token with a signature that is not the cluster's"]

        def token(pod, audience, seconds):
            claims = self.signer.claims(pod, audience, seconds)
            return wrong.pop(0)(pod, claims) if pod.index == 1 and wrong else self.signer.sign(claims)
        self.node.token = token
        self.begin()
        self.finish()
        self.assertEqual([pod.exit_code for pod in self.workers.pods if pod.index == 1][:2], [77, 77], self.node.story())
        refused = [pod for pod in self.workers.pods if pod.exit_code == 77]
        for pod, sentence in zip(refused, why, strict=True):
            said = json.loads(pod.message)
            self.assertEqual(said["exit_code"], 77)
            self.assertIn(f"node 1: {sentence}", said["sentence"])
        self.assertEqual(self.workers.failures, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)

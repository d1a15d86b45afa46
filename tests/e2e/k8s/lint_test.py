"""muster k8s lint: what render writes and the templates of k8s/ are clean; each of many mistakes is found by the rule that is named for it."""
import copy
import filecmp
import json
import os
import random
import shutil
import subprocess
import sys
import unittest

import mistakes
import strict_schema
from muster_e2e import DEADLINE, MUSTER, MusterCase
from render_test import APIS, FULL, PLAIN, VERSIONS, RenderCase, yaml

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
SEED = int(os.environ.get("MUSTER_SEED", random.SystemRandom().randrange(1 << 32)))
ROUNDS = int(os.environ.get("MUSTER_ROUNDS", "2"))


class LintCase(RenderCase):
    def lint(self, text, *arguments):
        """(exit status, findings)"""
        result = subprocess.run([MUSTER, "k8s", "lint", "--json", *arguments, "-"], input=text, capture_output=True, text=True,
                                env=self.environment, timeout=DEADLINE)
        self.assertIn(result.returncode, (0, 65), result.stderr)
        return result.returncode, json.loads(result.stdout)


class Clean(LintCase):
    def test_what_render_writes_is_clean(self):
        for text in (PLAIN, FULL.replace("MESH", "istio"), FULL.replace("MESH", "linkerd")):
            for api in APIS:
                for version in VERSIONS:
                    code, found = self.lint(self.render(text, "--api", api, "--kubernetes", version), "--kubernetes", version)
                    self.assertEqual((code, found), (0, []), (api, version))

    def test_the_templates_are_clean_and_what_render_writes(self):
        again = os.path.join(self.folder, "k8s")
        subprocess.run([sys.executable, "-B", os.path.join(ROOT, "scripts", "kubernetes-templates"), again], check=True, timeout=DEADLINE,
                       env={**self.environment, "MUSTER_BIN": MUSTER})
        for folder in ["base", *(f"overlays/{name}" for name in sorted(os.listdir(os.path.join(ROOT, "k8s", "overlays"))))]:
            ours, made = os.path.join(ROOT, "k8s", folder), os.path.join(again, folder)
            names = [name for name in sorted(os.listdir(ours)) if name != "job.yaml"]
            self.assertEqual(names, sorted(os.listdir(made)), f"k8s/{folder}: run scripts/kubernetes-templates")
            _, different, _ = filecmp.cmpfiles(ours, made, names, shallow=False)
            self.assertEqual(different, [], f"k8s/{folder}: run scripts/kubernetes-templates")
            if folder == "base":
                continue
            files = [os.path.join(ROOT, "k8s", part, name) for part in ("base", folder) for name in sorted(os.listdir(os.path.join(ROOT, "k8s", part)))
                     if name not in ("job.yaml", "kustomization.yaml")]
            result = self.muster("k8s", "lint", "--kubernetes", "1.33", *files)
            self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)

    @unittest.skipIf(shutil.which("kubectl") is None, "no kubectl")
    @unittest.skipIf(yaml is None, "no python3-yaml")
    def test_kustomize_renders_every_overlay(self):
        schemas = strict_schema.Schemas() if strict_schema.are_here() else None
        for name in sorted(os.listdir(os.path.join(ROOT, "k8s", "overlays"))):
            built = subprocess.run(["kubectl", "kustomize", os.path.join(ROOT, "k8s", "overlays", name)], capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual(built.returncode, 0, built.stderr)
            self.assertEqual(self.lint(built.stdout), (0, []), name)
            for document in yaml.safe_load_all(built.stdout):
                if schemas is not None:
                    self.assertEqual(schemas.errors(document), [], name)


@unittest.skipIf(yaml is None, "no python3-yaml")
class Mistakes(LintCase):
    def test_each_mistake_is_found_by_a_named_rule(self):
        print(f"seed {SEED}; again: MUSTER_SEED={SEED} MUSTER_ROUNDS={ROUNDS}", file=sys.stderr)
        rules = {one["rule"] for one in json.loads(self.muster("k8s", "lint", "--list", "--json").stdout)}
        # Spares and more workers than the least make no difference to a mistake; two nodes at least do.
        right = {api: self.documents(FULL.replace("MESH", "istio"), "--api", api, "--kubernetes", "1.34") for api in APIS}
        for api, documents in right.items():
            self.assertEqual(self.lint(self.text(documents)), (0, []), api)
        self.assertGreaterEqual(len(mistakes.MISTAKES), 60)
        for number, (name, apis, make, expected) in enumerate(mistakes.MISTAKES):
            self.assertLessEqual(expected, rules, name)
            for turn in range(ROUNDS):
                chance = random.Random(SEED * 1000 + number * 10 + turn)
                documents = copy.deepcopy(right[chance.choice(apis)])
                make(documents, chance)
                with self.subTest(mistake=name, turn=turn, seed=SEED):
                    code, found = self.lint(self.text(documents), "--kubernetes", "1.34")
                    self.assertEqual(code, 65, f"nothing found: {name}")
                    self.assertTrue(expected & {one["rule"] for one in found}, f"{name}: found only {[(one['rule'], one['path']) for one in found]}")

    @staticmethod
    def text(documents):
        return "".join("---\n" + json.dumps(one) + "\n" for one in documents)


class Usage(LintCase):
    BAD = """apiVersion: batch/v1
kind: Job
metadata:
  name: words
spec:
  completionMode: Indexed
  completions: 4
  paralelism: 4
"""

    def test_a_finding_names_place_reason_and_fix(self):
        path = os.path.join(self.folder, "job.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.BAD)
        result = self.muster("k8s", "lint", path)
        self.assertEqual(result.returncode, 65)
        self.assertIn(f"{path}:8:3: unknown-field: JobSpec has no field paralelism; did you mean parallelism?\n    at   Job words, spec.paralelism\n"
                      "    why  ", result.stdout)
        found = json.loads(self.muster("k8s", "lint", "--json", path).stdout)
        mine = [one for one in found if one["rule"] == "unknown-field"][0]
        self.assertEqual((mine["line"], mine["column"], mine["object"], mine["path"]), (8, 3, "Job words", "spec.paralelism"))
        self.assertTrue(mine["reason"] and mine["fix"])

    def test_versions(self):
        job = self.BAD.replace("paralelism", "parallelism") + "  podReplacementPolicy: Failed\n"
        rules = [{one["rule"] for one in self.lint(job, "--kubernetes", version)[1]} for version in ("1.28", "1.29")]
        self.assertEqual([("field-too-new" in one) for one in rules], [True, False])
        claim = "apiVersion: resource.k8s.io/v1\nkind: ResourceClaimTemplate\nmetadata: {name: gpu}\nspec: {spec: {}}\n"
        self.assertEqual(self.lint(claim, "--kubernetes", "1.33")[1][0]["rule"], "kind-too-new")
        self.assertEqual(self.lint(claim, "--kubernetes", "1.34"), (0, []))

    def test_rules_can_be_ignored_and_levels_chosen(self):
        pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: 'a:1'}]}\n"
        every = {one["rule"] for one in self.lint(pod)[1]}
        self.assertIn("pss-root", every)
        self.assertNotIn("pss-root", {one["rule"] for one in self.lint(pod, "--pod-security", "baseline")[1]})
        self.assertNotIn("no-grace", {one["rule"] for one in self.lint(pod, "--ignore", "no-grace")[1]})
        refused = self.muster("k8s", "lint", "--ignore", "no-grase", "-")
        self.assertEqual(refused.returncode, 64)
        self.assertIn("did you mean no-grace?", refused.stderr)

    def test_what_is_no_manifest(self):
        self.assertEqual([one["rule"] for one in self.lint("a: [\n")[1]], ["not-yaml"])
        self.assertEqual([one["rule"] for one in self.lint("a: 1\n")[1]], ["no-kind"])
        self.assertEqual(self.lint("# nothing\n"), (0, []))
        result = subprocess.run([MUSTER, "k8s", "lint", "-"], input="apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n",
                                capture_output=True, text=True, env=self.environment, timeout=DEADLINE)
        self.assertEqual(result.returncode, 0)
        self.assertIn("Deployment web", result.stderr)
        self.assertEqual(self.muster("k8s", "lint", "/none.yaml").returncode, 64)
        self.assertEqual(self.muster("k8s", "lint").returncode, 64)

    def test_every_rule_has_a_name_a_reason_and_a_fix(self):
        rules = json.loads(self.muster("k8s", "lint", "--list", "--json").stdout)
        self.assertGreater(len(rules), 60)
        self.assertEqual(len({one["rule"] for one in rules}), len(rules))
        for one in rules:
            self.assertTrue(one["reason"] and one["fix"], one)


if __name__ == "__main__":
    unittest.main(verbosity=2)

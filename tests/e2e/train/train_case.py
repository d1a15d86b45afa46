"""A word list of the test's own, and train_words on it."""
import json
import os
import random

from muster_e2e import MusterCase


def some_words(count=2000):
    """Words with a rule in them: syllables of a consonant and a vowel, the last one twice."""
    draw = random.Random(7)
    words = []
    for _ in range(count):
        syllables = [draw.choice("bdfgklmnprst") + draw.choice("aeiou") for _ in range(draw.randint(1, 4))]
        words.append("".join(syllables) + syllables[-1])
    return words


class TrainCase(MusterCase):
    def setUp(self):
        super().setUp()
        self.data = os.path.join(self.folder, "words.txt")
        self.write_words(some_words())

    def write_words(self, words):
        with open(self.data, "w", encoding="utf-8") as file:
            file.write("".join(word + "\n" for word in words))

    def train(self, ranks, *flags, nodes=1):
        """Trains to the end; the result's JSON object."""
        result = os.path.join(self.folder, "result.json")
        done = self.muster("run", "-np", str(ranks), "--nodes", str(nodes), "train_words", "--data", self.data, "--steps", "30",
                           "--result", result, *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.stdout = done.stdout
        with open(result, encoding="utf-8") as file:
            return json.load(file)

    def fails(self, code, ranks, *flags):
        """Expects this exit code, and one line of train_words' own, which is returned."""
        done = self.muster("run", "-np", str(ranks), "train_words", "--data", self.data, "--steps", "30", *flags)
        self.assertEqual(done.returncode, code, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("train_words: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        return lines[0]

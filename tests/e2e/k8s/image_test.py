"""scripts/image: the container image, as a root file system and as what containerd imports, is what its list says."""
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import unittest

from muster_e2e import DEADLINE, MUSTER, poll, read

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "..", "..", "..", "scripts", "image")
BUILD = os.path.dirname(os.path.dirname(os.path.abspath(MUSTER)))
OUTPUT = os.path.join(BUILD, "image")  # the pods' test runs this one


def image(*arguments):
    return subprocess.run([SCRIPT, "--preset", os.path.basename(BUILD), "--output", OUTPUT, *arguments], capture_output=True, text=True, timeout=100)


def setUpModule():
    for tool in ("apt-get", "dpkg-deb", "dpkg-shlibdeps", "cpack", "readelf"):
        if shutil.which(tool) is None:
            raise unittest.SkipTest(f"no image is built here: no {tool}")
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as file:
        if re.search(r"^MUSTER_SANITIZER:\w+=.+$", file.read(), re.M):
            raise unittest.SkipTest("no image is built with a sanitizer")
    done = image()
    if "Unable to" in done.stderr or "Failed to fetch" in done.stderr:
        raise unittest.SkipTest(f"no image is built here, for apt has no packages: {done.stderr.strip()}")
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    print(done.stdout)


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(os.path.join(OUTPUT, "muster.spdx.json"), encoding="utf-8") as file:
            cls.list = json.load(file)
        cls.blobs = {}
        with tarfile.open(os.path.join(OUTPUT, "muster.oci.tar")) as archive:
            for member in archive:
                cls.blobs[member.name] = archive.extractfile(member).read()

    def blob(self, entry):
        data = self.blobs["blobs/" + entry["digest"].replace(":", "/")]
        self.assertEqual((hashlib.sha256(data).hexdigest(), len(data)), (entry["digest"].split(":")[1], entry["size"]))
        return data

    def test_a_second_time_is_quick_and_changes_nothing(self):
        before = os.stat(os.path.join(OUTPUT, "muster.oci.tar")).st_mtime_ns
        done = image()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(os.stat(os.path.join(OUTPUT, "muster.oci.tar")).st_mtime_ns, before)
        self.assertRegex(done.stdout, r"muster:latest: [0-9.]+ MB to transfer, [0-9.]+ MB unpacked, user 65532")

    def test_the_recipe_holds_what_muster_depends_on(self):
        done = image("--check")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("holds all that muster_", done.stdout)

    def test_the_list_names_every_package_and_no_other(self):
        listed = {one["name"]: one.get("versionInfo") for one in self.list["packages"][1:]}
        with open(os.path.join(OUTPUT, "root", "var/lib/dpkg/status"), encoding="utf-8") as file:
            installed = dict(re.findall(r"^Package: (.*)\n(?:.*\n)*?Version: (.*)$", file.read(), re.M))
        self.assertEqual({name: version for name, version in listed.items() if version}, installed)
        self.assertEqual({name for name, version in listed.items() if not version}, {"train_words"})
        self.assertIn("libc6", installed)
        ids = [one["SPDXID"] for one in self.list["packages"]]
        self.assertEqual(len(ids), len(set(ids)))
        related = {one["relatedSpdxElement"] for one in self.list["relationships"]}
        self.assertEqual(related, set(ids))

    def test_nothing_in_it_is_of_use_to_an_intruder(self):
        root = os.path.join(OUTPUT, "root")
        programs = [name for folder in ("usr/bin", "usr/sbin", "usr/local/bin") for name in os.listdir(os.path.join(root, folder))]
        self.assertEqual([name for name in programs if not name.startswith("muster")], ["train_words"])
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    self.assertFalse(os.stat(path).st_mode & 0o6000, f"{path} runs as another user")

    def test_the_layout_holds_together(self):
        self.assertEqual(json.loads(self.blobs["oci-layout"]), {"imageLayoutVersion": "1.0.0"})
        entry = json.loads(self.blobs["index.json"])["manifests"][0]
        manifest = json.loads(self.blob(entry))
        config = json.loads(self.blob(manifest["config"]))
        self.assertEqual(config["config"]["User"], "65532:65532")
        packed = self.blob(manifest["layers"][0])
        with tarfile.open(fileobj=io.BytesIO(packed)) as layer:
            members = {member.name: member for member in layer}
        self.assertTrue({"usr/bin/muster", "usr/bin/muster-guard", "usr/local/bin/train_words", "etc/passwd"} <= set(members))
        for member in members.values():
            self.assertFalse(member.name.startswith(("/", "..")))


@unittest.skipIf(os.geteuid() != 0 or shutil.which("containerd") is None, "containerd: not root, or not here (scripts/install containers)")
class Containerd(unittest.TestCase):
    def test_it_imports_and_runs_the_image(self):
        folder = tempfile.mkdtemp(prefix="e2e-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        socket = os.path.join(folder, "socket")
        with open(os.path.join(folder, "log"), "wb") as log:
            daemon = subprocess.Popen(["containerd", "--root", folder + "/root", "--state", folder + "/state", "--address", socket], stdout=log, stderr=log)

        def end():
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
        self.addCleanup(end)

        def ctr(*words):
            return subprocess.run(["ctr", "-a", socket, *words], capture_output=True, text=True, timeout=DEADLINE)
        self.assertTrue(poll(lambda: os.path.exists(socket) and ctr("version").returncode == 0), read(os.path.join(folder, "log"), "r")[-2000:])
        done = ctr("images", "import", os.path.join(OUTPUT, "muster.oci.tar"))
        self.assertEqual(done.returncode, 0, done.stderr)
        done = ctr("run", "--rm", "--seccomp", "--read-only", "--mount", "type=tmpfs,src=tmpfs,dst=/tmp,options=mode=1777", "--env", "HOME=/tmp",
                   "muster:latest", "words", "muster", "run", "-np", "2", "train_words", "--steps", "3")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("held out", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)

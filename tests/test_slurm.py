#!/usr/bin/env python3
"""Job arrays on a real cluster whose nodes die: packaging/slurm.

usage: test_slurm.py CONVERT CLASSIFY GLYPHS_FOLDER SCRIPTS_FOLDER
Exits with 77 where Slurm is not installed, or not as root.
"""

import os
import re
import shutil
import signal
import sys
import tempfile
import time
import unittest
from pathlib import Path

from support.programs import run
from support.slurm_cluster import Cluster, missing, wait_until

if missing():
    print(f"*** SKIPPED: test_slurm needs Slurm and root: {missing()}", file=sys.stderr)
    sys.exit(77)

CONVERT, CLASSIFY, GLYPHS, SCRIPTS = (Path(arg).resolve() for arg in sys.argv[1:5])
SAMPLES = GLYPHS / "samples"
SHARDS = 6
COPIES = 8  # of 160 images: a task takes some seconds, as slowly as --isa scalar does it


class Job(unittest.TestCase):
    """What all tests share: images, a model, names that need quotes."""

    cluster = None

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="it's 100% \"new\" "))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.model = cls.folder / "a model.intg"
        run(CONVERT, "import", GLYPHS / "glyphs.safetensors", "--labels", GLYPHS / "labels.txt",
            "-o", cls.model)
        # As installed: the scripts find the program.
        cls.scripts = cls.folder / "share" / "intaglio" / "slurm"
        shutil.copytree(SCRIPTS, cls.scripts)
        (cls.folder / "bin").mkdir()
        (cls.folder / "bin" / "intaglio-classify").symlink_to(CLASSIFY)

    def images(self, name, copies):
        """A folder of the samples, `copies` times."""
        folder = self.folder / name
        folder.mkdir()
        for sample in sorted(SAMPLES.iterdir()):
            if sample.suffix in (".jpg", ".png"):
                for i in range(copies):
                    (folder / f"{i:02} {sample.name}").symlink_to(sample)
        return folder

    def submit(self, *arguments, status=0, **options):
        return self.cluster.run(self.scripts / "submit.sh", "--model", self.model, *arguments,
                                status=status, cwd=self.folder, **options)


class Deaths(Job):
    def rows(self, shard):
        """How many rows the attempts at a shard have written."""
        counts = [0]
        for file in self.parts.glob(f"{shard}.*"):
            if file.suffix in (".attempt", ".rows"):
                try:
                    counts.append(file.read_bytes().count(b"\n"))
                except FileNotFoundError:  # renamed meanwhile
                    pass
        return max(counts)

    def programs(self, node):
        return [p for p in self.cluster.processes(node) if p.command[0] == str(CLASSIFY)]

    # What happens to a task, given where it runs.

    def kill_program(self, _, node):
        """program killed"""
        for process in self.programs(node):
            process.kill()

    def kill_node(self, shard, node):
        """node died"""
        self.cluster.kill_node(node)
        self.dead[node] = shard

    def cut_off(self, shard, node):
        """node cut off and halted, went on later"""
        self.halted = self.programs(node)
        for process in self.halted:
            os.kill(process.number, signal.SIGSTOP)
        self.cluster.kill_daemon(node)
        self.halted_shard = shard

    def kill_script(self, _, node):
        """job script and program killed"""
        for process in self.cluster.processes(node):
            if not process.command[0].startswith("slurm"):
                process.kill()

    def cancel(self, shard, _):
        """cancelled by scancel"""
        self.cluster.run("scancel", f"{self.job}_{shard}")

    def time_over(self, shard, _):
        """told that its time is over"""
        self.cluster.run("scancel", "--batch", "--signal=USR1", f"{self.job}_{shard}")

    def mischief(self):
        """One step: whatever is due."""
        queue = self.cluster.queue()
        for shard in list(self.plan):
            state, node = (queue.get(f"{self.job}_{shard}", []) + ["", ""])[:2]
            rows = self.rows(shard)
            if state == "RUNNING" and rows >= 10 and self.programs(node):
                what = self.plan.pop(shard)
                self.done[shard] = (what.__doc__, rows)
                what(shard, node)
        # A node is repaired, or goes on, when another has taken its work.
        for node, shard in list(self.dead.items()):
            if self.attempts(shard)[-1]["restart"] >= 1:
                self.cluster.start_node(node)
                del self.dead[node]
        if self.halted and self.attempts(self.halted_shard)[-1]["restart"] >= 1:
            for process in self.halted:
                os.kill(process.number, signal.SIGCONT)
            self.continued, self.halted = self.halted, []

    def attempts(self, shard):
        """What a task's log says: where it ran, and behind how many rows it went on."""
        log = (self.parts / f"{shard}.log").read_text()
        starts = r"shard \d+ of \d+, restart (\d+), on (\w+): goes on behind (\d+) lines"
        return [{"restart": int(m[1]), "node": m[2], "rows": int(m[3])}
                for m in re.finditer(starts, log)]

    def test_everything_dies_and_nothing_is_lost(self):
        started = time.monotonic()
        pictures = self.images("all pictures", COPIES)
        expected = self.folder / "undisturbed.jsonl"
        run(CLASSIFY, self.model, "--json", "--output", expected, pictures)
        total = expected.read_bytes().count(b"\n")
        self.assertEqual(total, 160 * COPIES)

        output = self.folder / "all rows.jsonl"
        self.parts = Path(f"{output}.parts")
        arguments = ("--shards", SHARDS, "--output", output, "--isa", "scalar", pictures)
        done = self.submit(*arguments)
        self.job, merge = re.search(r"^job (\d+): .*\n.*: job (\d+)$", done.stdout, re.M).groups()
        self.plan = {0: self.kill_program, 1: self.kill_node, 2: self.cut_off,
                     3: self.kill_script, 4: self.cancel, 5: self.time_over}
        self.done, self.dead, self.halted, self.continued = {}, {}, [], []
        wait_until(lambda: self.mischief() or merge not in self.cluster.queue(), 240, "all ended")
        self.assertEqual(sorted(self.done), list(range(SHARDS)))
        self.assertTrue(self.continued)
        restarts = [self.cluster.job(f"{self.job}_{i}")["Restarts"] for i in range(SHARDS)]
        states = [self.cluster.job(f"{self.job}_{i}")["JobState"] for i in range(SHARDS)]

        # Slurm does not start again what was cancelled, or whose script is gone: the user does.
        self.assertFalse(output.exists())
        self.assertIn("shards 3 4 are not complete", (self.parts / "merge.log").read_text())
        done = self.submit(*arguments)
        self.assertIn(f": 2 of {SHARDS} shards", done.stdout)
        wait_until(lambda: not self.cluster.queue(), 120, "the rest ended")

        print("\nshard  what happened                            at row  goes on behind  "
              "restarts on  ended as    rows", file=sys.stderr)
        for i in range(SHARDS):
            what, rows = self.done[i]
            last = self.attempts(i)[-1]
            print(f"{i:5}  {what:40} {rows:6}  {last['rows']:14}  {last['node']:11}  "
                  f"{states[i]:10} {self.rows(i):5}", file=sys.stderr)
        print(f"{total} rows as in one undisturbed run, {time.monotonic() - started:.0f} s",
              file=sys.stderr)

        self.assertEqual(output.read_bytes(), expected.read_bytes())
        # On a busy machine a node may seem dead that is not: then there is one more.
        self.assertTrue(all(int(restarts[i]) >= 1 for i in (0, 1, 2, 5)), restarts)
        self.assertEqual([states[i] for i in (0, 1, 2, 5)], ["COMPLETED"] * 4)
        self.assertEqual([states[i] for i in (3, 4)], ["FAILED", "CANCELLED"])
        for i in range(SHARDS):
            attempts = self.attempts(i)
            self.assertGreaterEqual(len(attempts), 2, i)
            self.assertGreaterEqual(attempts[1]["rows"], self.done[i][1])
            self.assertLess(attempts[1]["rows"], self.rows(i))
        for i in (1, 2):
            self.assertNotEqual(*(attempt["node"] for attempt in self.attempts(i)[:2]))
        self.assertEqual(list(self.parts.glob("*.attempt")), [])


class Submission(Job):
    def test_csv_with_images_that_cannot_be_read(self):
        pictures = self.images("some", 1)
        (pictures / "broken.jpg").write_bytes((SAMPLES / "A_0.jpg").read_bytes()[:300])
        expected, output = self.folder / "one.csv", self.folder / "merged, 50%.csv"
        options = ("--csv", "--top-k", 2, "some")
        self.cluster.run(CLASSIFY, self.model, "--output", expected, *options, status=1,
                         cwd=self.folder)
        done = self.submit("--shards=4", "--output", output, "--wait", "--sbatch", "--comment=1 & 2",
                           *options)
        for job in re.findall(r"job (\d+)", done.stdout):
            shown = self.cluster.run("scontrol", "show", "job", job).stdout
            self.assertRegex(shown, r"Comment=1 & 2 *\n")
        self.assertEqual(output.read_bytes(), expected.read_bytes())
        again = self.submit("--shards=4", "--output", output, *options, status=2)
        self.assertIn("this file exists", again.stderr)
        # With all parts there, only the merging is done again.
        output.unlink()
        again = self.submit("--shards=4", "--output", output, "--wait", *options)
        self.assertRegex(again.stdout, r"^merge into .*: job \d+\n$")
        self.assertEqual(output.read_bytes(), expected.read_bytes())
        output.unlink()
        other = self.submit("--shards=4", "--output", output, "--csv", "some", status=2)
        self.assertIn("remove this folder", other.stderr)

    def test_failures_are_tried_again_a_limited_number_of_times(self):
        """Those which may be the node's, not those which stay."""
        failing = self.folder / "failing program"
        failing.write_text('#!/bin/sh\nexit 3\n')
        failing.chmod(0o755)
        image = SAMPLES / "A_0.jpg"
        done = self.submit("--shards", 2, "--output", "never", "--retries", 1, "--classify", failing,
                           "--wait", image, status=1)
        self.assertIn("shards 0 1 are not complete", done.stderr)
        for i in (0, 1):
            log = (self.folder / "never.parts" / f"{i}.log").read_text()
            self.assertEqual(log.count("status 3"), 2, log)
            self.assertIn("given up after 2 failures", log)
        self.submit("--shards", 1, "--output", "never 2", "--no-such-option", "--wait", image,
                    status=1)
        log = (self.folder / "never 2.parts" / "0.log").read_text()
        self.assertEqual(log.count("status 2"), 1, log)

    def test_usage(self):
        self.assertIn("--retries", self.submit("--help").stdout)
        good = ("--shards", 2, "--output", "x.jsonl", SAMPLES)
        cases = [
            (("--shards", 2, SAMPLES), "needed:"),
            (("--shards", 2, "--output", "x.jsonl"), "needed:"),
            (good + ("--shards", "0"), "--shards: expected"),
            (good + ("--threads=two",), "--threads: expected"),
            (good + ("--retries",), "a value is missing"),
            (good + ("--shard", "0/2"), "--shard: this script"),
            (good + ("--logits", "x"), "--logits"),
            (good + ("-",), "standard input"),
            (good + ("--classify", self.model), "no program"),
            (good + ("--output", "a\\b"), "takes no \\"),
            (good + ("--model", "none.intg"), "none.intg: cannot be read"),
            (good + ("--output", "no/folder/x"), "cannot be made"),
        ]
        for arguments, message in cases:
            self.assertIn(message, self.submit(*arguments, status=2).stderr)
        self.assertEqual(self.cluster.queue(), {})
        self.assertEqual([p.name for p in self.folder.glob("x.jsonl*")], [])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Cluster(3) as Job.cluster:
        passed = unittest.main(argv=sys.argv[:1], exit=False).result.wasSuccessful()
    sys.exit(not passed)

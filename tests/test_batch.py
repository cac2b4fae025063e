#!/usr/bin/env python3
"""intaglio-classify on many images: killed and continued, in shards, from lists, archives and
pipes, with failures, full disks and bounded memory.

usage: test_batch.py CONVERT CLASSIFY GLYPHS_FOLDER
"""

import csv
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
from pathlib import Path

from support.programs import run

CONVERT, CLASSIFY, GLYPHS = (Path(arg).resolve() for arg in sys.argv[1:4])
SAMPLES = GLYPHS / "samples"
SEED = int(os.environ.get("INTAGLIO_SEED", random.SystemRandom().randrange(1 << 32)))
KILLS = 50


def contents(folder):
    """Everything in a folder, by name; what killed runs leave beside it does not count."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()
            if path.suffix != ".part"}


class Batch(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.model = cls.folder / "glyphs.intg"
        run(CONVERT, "import", GLYPHS / "glyphs.safetensors", "--labels", GLYPHS / "labels.txt",
            "-o", cls.model)
        cls.samples = sorted(SAMPLES.glob("*.png")) + sorted(SAMPLES.glob("*.jpg"))
        cls.broken = cls.folder / "broken, \"image\".png"
        cls.broken.write_bytes(cls.samples[0].read_bytes()[:100])
        # Many images, some of which cannot be read.
        paths = [str(path) for path in cls.samples] * 10
        for place in (7, 8, 300, 1201):
            paths[place] = str(cls.broken)
        paths[500] = "missing.png"
        cls.count = len(paths)
        cls.list = cls.folder / "images.lst"
        cls.list.write_text("\n".join(paths) + "\n", encoding="utf-8")
        cls.tar = cls.folder / "images.tar"
        with tarfile.open(cls.tar, "w") as tar:
            for i, path in enumerate(paths[:800]):
                if Path(path).exists():
                    tar.add(path, f"{i:05}{Path(path).suffix}")
        cls.random = random.Random(SEED)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def new_folder(self):
        return Path(tempfile.mkdtemp(dir=self.folder))

    def classify(self, *arguments, **options):
        return run(CLASSIFY, self.model, *arguments, **options)

    # Killed and continued.

    def command(self, folder, arguments):
        """One run into `folder`, as it can be repeated."""
        return [str(part) for part in (CLASSIFY, self.model, *arguments, "--resume")], folder

    def killed_runs(self, commands, kills):
        """Starts each command again and again, kills it at a random moment, until all have been
        killed `kills` times; then lets them end. Returns how many kills hit a running process."""
        hits = 0
        for command, folder in commands:
            start = time.monotonic()
            whole = self.new_folder()
            subprocess.run(command, cwd=whole, capture_output=True, check=False)
            seconds = time.monotonic() - start
            shutil.rmtree(whole)
            for _ in range(kills):
                process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL)
                try:
                    process.wait(self.random.uniform(0, min(seconds, 3 * seconds / kills + 0.02)))
                except subprocess.TimeoutExpired:
                    process.kill()
                    hits += process.wait() == -signal.SIGKILL
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            self.assertIn(done.returncode, (0, 1), done.stderr)
        return hits

    def check_killed(self, kills, *arguments):
        undisturbed, disturbed = self.new_folder(), self.new_folder()
        command, _ = self.command(undisturbed, arguments)
        subprocess.run(command, cwd=undisturbed, capture_output=True, check=False)
        hits = self.killed_runs([self.command(disturbed, arguments)], kills)
        expected = contents(undisturbed)
        self.assertEqual(contents(disturbed), expected)
        self.assertGreater(hits, kills // 4)
        print(f"{' '.join(map(str, arguments[1:]))}: {hits} kills in the middle of {kills}, "
              f"{len(expected)} equal files", file=sys.stderr)
        return expected

    def test_killed_json_with_logits(self):
        files = self.check_killed(14, self.list, "--json", "--output", "out.jsonl", "--logits",
                                  "logits", "--rows-per-file", 100)
        self.assertEqual(len(files), 1 + -(-self.count // 100))
        self.assertEqual(len(files["out.jsonl"].splitlines()), self.count)

    def test_killed_csv_with_features(self):
        files = self.check_killed(14, self.list, "--csv", "--top-k", 3, "--output", "out.csv",
                                  "--features", "features", "--feature", "class_token",
                                  "--rows-per-file", 200)
        rows = list(csv.DictReader(io.StringIO(files["out.csv"].decode())))
        self.assertEqual(len(rows), 3 * (self.count - 5) + 5)

    def test_killed_tar(self):
        self.check_killed(10, self.tar, "--json", "--output", "out.jsonl")

    def test_killed_shards_and_merge(self):
        for form in ("json", "csv"):
            whole, folder = self.new_folder() / "whole", self.new_folder()
            self.classify(self.list, f"--{form}", "--output", whole, status=1)
            commands = [self.command(folder, (self.list, f"--{form}", "--output", f"part{i}",
                                              "--shard", f"{i}/3")) for i in range(3)]
            hits = self.killed_runs(commands, 2)
            self.assertGreater(hits, 0)
            merged = folder / "merged"
            run(CLASSIFY, "merge", *(folder / f"part{i}" for i in range(3)), "--output", merged)
            self.assertEqual(merged.read_bytes(), whole.read_bytes())


if __name__ == "__main__":
    print(f"INTAGLIO_SEED={SEED}", file=sys.stderr)
    unittest.main(argv=sys.argv[:1])

#!/usr/bin/env python3
"""intaglio-classify on many images: killed and continued, in shards, from lists, archives and
pipes, with failures, full disks and bounded memory.

usage: test_batch.py CONVERT CLASSIFY GLYPHS_FOLDER [SANITIZERS]
"""

import csv
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
from pathlib import Path

from support.programs import read_safetensors, run

CONVERT, CLASSIFY, GLYPHS = (Path(arg).resolve() for arg in sys.argv[1:4])
SANITIZERS = "".join(sys.argv[4:5])
SAMPLES = GLYPHS / "samples"
SEED = int(os.environ.get("INTAGLIO_SEED", random.SystemRandom().randrange(1 << 32)))


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
        paths = [str(path) for path in cls.samples] * 6
        for place in (7, 8, 300, 801):
            paths[place] = str(cls.broken)
        paths[500] = "missing.png"
        cls.count = len(paths)
        cls.list = cls.folder / "images.lst"
        cls.list.write_text("\n".join(paths) + "\n", encoding="utf-8")
        cls.tar = cls.folder / "images.tar"
        with tarfile.open(cls.tar, "w") as tar:
            for i, path in enumerate(paths[:500]):
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


    # What an earlier run has left.

    def whole(self, *arguments, status=1):
        """An undisturbed output."""
        output = self.new_folder() / "whole"
        self.classify(self.list, *arguments, "--output", output, status=status)
        return output.read_bytes()

    def test_cut_anywhere(self):
        """Whatever the end of the file lost, within a row, a name, or between the rows of an image."""
        output = self.new_folder() / "out"
        images = [*self.samples[:20], self.broken, *self.samples[20:22]]
        for form in (["--json"], ["--csv", "--top-k", 3]):
            run(CLASSIFY, self.model, *images, *form, "--output", output, "--overwrite", status=1)
            whole = output.read_bytes()
            cuts = self.random.sample(range(len(whole)), 12) + [0, 1, len(whole) - 1, len(whole)]
            for cut in cuts:
                output.write_bytes(whole[:cut])
                self.classify(*images, *form, "--output", output, "--resume", status=1)
                self.assertEqual(output.read_bytes(), whole, f"{form} cut at {cut}")

    def check_refused(self, output, message, *arguments, status=2):
        before = output.read_bytes()
        done = self.classify(*arguments, "--output", output, "--resume", status=status)
        for piece in (message, output.name):
            self.assertIn(piece, done.stderr)
        self.assertEqual(output.read_bytes(), before)

    def test_rows_that_do_not_fit_are_refused(self):
        output = self.new_folder() / "out.jsonl"
        five = self.samples[:5]
        self.classify(*five, "--json", "--output", output)
        lines = output.read_text(encoding="utf-8").splitlines(keepends=True)
        self.check_refused(output, "image 5: made with another model", *five, "--json", "--top-k", 2)
        self.check_refused(output, "image 3: the list has", *five[:2], five[3], "--json",
                           self.samples[9], self.samples[9])
        self.check_refused(output, "image 4: the list ends", *five[:3], "--json")
        self.check_refused(output, "expected the columns", *five, "--csv", status=4)
        for garbled in ("garbage\n", "\0\0\n", '{"path":"a"}\n', '{"path":\n'):
            output.write_text("".join(lines[:2]) + garbled + "".join(lines[3:]), encoding="utf-8")
            self.check_refused(output, "row 3", *five, "--json", status=4)
        output.write_text("".join(lines[:4]) + lines[4].replace("logit\":", "logit\":9", 1),
                          encoding="utf-8")
        self.check_refused(output, "image 5: made with another", *five, "--json")
        self.classify(*five, "--csv", "--top-k", 3, "--output", output, "--overwrite")
        self.check_refused(output, "image 1: expected 2 rows", *five, "--csv", "--top-k", 2)
        self.check_refused(output, "image 1: expected 4 rows", *five, "--csv", "--top-k", 4)

    def test_tensor_files_that_do_not_fit_are_refused(self):
        folder = self.new_folder()
        options = ("--json", "--output", folder / "out", "--logits", folder / "logits",
                   "--rows-per-file")
        self.classify(*self.samples[:20], *options, 5)
        whole = contents(folder)
        self.assertEqual(len(whole), 5)
        done = self.classify(*self.samples[:20], *options, 4, "--resume", status=2)
        self.assertIn("logits-00000.safetensors", done.stderr)
        # Of two whole files the first is another's.
        (folder / "logits-00000.safetensors").write_bytes(whole["logits-00001.safetensors"])
        done = self.classify(*self.samples[:20], *options, 5, "--resume", status=2)
        self.assertIn("logits-00000.safetensors, row 0: of", done.stderr)
        # Files are lost: their rows are computed again.
        (folder / "logits-00000.safetensors").write_bytes(whole["logits-00000.safetensors"])
        (folder / "logits-00002.safetensors").unlink()
        self.classify(*self.samples[:20], *options, 5, "--resume")
        self.assertEqual(contents(folder), whole)
        done = self.classify(*self.samples[:3], "--logits", folder / "logits", status=2)
        self.assertIn("--overwrite", done.stderr)
        self.classify(*self.samples[:3], "--logits", folder / "logits", "--overwrite")
        self.assertFalse((folder / "logits-00001.safetensors").exists())

    def test_outputs_are_not_overwritten(self):
        output = self.new_folder() / "out.jsonl"
        self.classify(*self.samples[:3], "--json", "--output", output)
        before = output.read_bytes()
        done = self.classify(*self.samples[:2], "--json", "--output", output, status=2)
        self.assertIn("--overwrite", done.stderr)
        self.assertEqual(output.read_bytes(), before)
        self.classify(*self.samples[:2], "--json", "--output", output, "--overwrite")
        self.assertEqual(len(output.read_text(encoding="utf-8").splitlines()), 2)

    def test_usage_errors(self):
        one = self.samples[0]
        for arguments in (["--resume", "--json"], ["--resume", "--output", "x"],
                          ["--shard", "2/2"], ["--shard", "-1/2"], ["--shard", "1"],
                          ["--shard", "0/2x"], ["--feature", "class_token"],
                          ["--features", self.folder / "f", "--feature", "no such feature"],
                          ["--eval", SAMPLES / "labels.csv", "--shard", "0/2"],
                          ["--logits", self.folder / "f", "--rows-per-file", 1 << 31],
                          ["--resume", "--json", "--output", "/dev/null"]):
            self.classify(one, *arguments, status=2)

    def test_two_processes_do_not_share_an_output(self):
        output = self.new_folder() / "out.jsonl"
        first = subprocess.Popen([CLASSIFY, self.model, "-", "--json", "--output", output],
                                 stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        first.stdin.write(bytes(self.samples[0]) + b"\n")
        first.stdin.flush()
        self.wait_for(lambda: output.exists() and output.stat().st_size)
        done = self.classify(self.samples[0], "--json", "--output", output, "--resume", status=3)
        self.assertIn("another process", done.stderr)
        first.stdin.close()
        self.assertEqual(first.wait(), 0)

    # Shards.

    def test_shards_of_any_number(self):
        whole = self.whole("--json")
        folder = self.new_folder()
        for shards in (2, 7):
            for i in range(shards):
                subprocess.run([CLASSIFY, self.model, self.list, "--json", "--output",
                                folder / f"{i}", "--overwrite", "--shard", f"{i}/{shards}"],
                               capture_output=True, check=False)
            parts = [folder / f"{i}" for i in range(shards)]
            run(CLASSIFY, "merge", *parts, "-o", folder / "merged", "--overwrite")
            self.assertEqual((folder / "merged").read_bytes(), whole)
            # Rows that lack at the end of the first part, or of the last one, are noticed.
            for part in (parts[0], parts[-1]):
                before = part.read_bytes()
                lines = before.splitlines(keepends=True)
                for keep, message in ((b"".join(lines[:-2]), "do not fit"), (before[:-5], "")):
                    part.write_bytes(keep)
                    done = run(CLASSIFY, "merge", *parts, "-o", folder / "bad", status=4)
                    self.assertIn(message, done.stderr)
                    self.assertFalse((folder / "bad").exists())
                part.write_bytes(before)
        run(CLASSIFY, "merge", folder / "0", folder / "none", "-o", folder / "bad", status=3)
        run(CLASSIFY, "merge", folder / "0", "-o", folder / "merged", status=2)

    def test_more_shards_than_images(self):
        for form in ("--json", "--csv"):
            folder = self.new_folder()
            for i in range(3):
                self.classify(*self.samples[:2], form, "--output", folder / f"{i}", "--resume",
                              "--shard", f"{i}/3")
            run(CLASSIFY, "merge", *(folder / f"{i}" for i in range(3)), "-o", folder / "merged")
            self.assertEqual((folder / "merged").read_text(encoding="utf-8"),
                             self.classify(*self.samples[:2], form).stdout)

    # Inputs.

    def paths(self, *arguments, **options):
        return [json.loads(line)["path"]
                for line in self.classify(*arguments, "--json", **options).stdout.splitlines()]

    def test_patterns_and_lists(self):
        folder = self.new_folder()
        names = ["b.png", "a.jpg", "c*.png", "sub/d.png", "notes.md"]
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(self.samples[0], folder / name)
        self.assertEqual(self.paths(folder / "?.*"), [str(folder / n) for n in ("a.jpg", "b.png")])
        self.assertEqual(self.paths(folder / "c*.png"), [str(folder / "c*.png")])
        self.assertEqual(self.paths(folder / "[s]*"), [str(folder / "sub/d.png")])
        self.assertEqual(self.paths(folder), [str(folder / n) for n in
                                              ("a.jpg", "b.png", "c*.png", "sub/d.png")])
        self.assertIn("no file fits", self.classify(folder / "x*", status=3).stderr)
        (folder / "list.txt").write_text("b.png\r\n\nsub/d.png", encoding="utf-8")
        expected = [str(folder / n) for n in ("b.png", "sub/d.png")]
        self.assertEqual(self.paths(folder / "list.txt"), expected)
        self.assertEqual(self.paths("-", stdin="\n".join(expected)), expected)
        (folder / "long.txt").write_text("x" * 5000, encoding="utf-8")
        self.classify(folder / "long.txt", status=4)

    def test_stdin_is_a_stream(self):
        with subprocess.Popen([CLASSIFY, self.model, "-", "--json"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            for path in self.samples[:3]:
                process.stdin.write(bytes(path) + b"\n")
                process.stdin.flush()
                self.assertEqual(json.loads(process.stdout.readline())["path"], str(path))
            process.stdin.close()
            self.assertEqual(process.wait(), 0)

    def test_stdin_with_resume(self):
        output = self.new_folder() / "out.jsonl"
        paths = "".join(f"{path}\n" for path in self.samples)
        self.classify("-", "--json", "--output", output, stdin=paths)
        whole = output.read_bytes()
        output.write_bytes(whole[: len(whole) // 2])
        self.classify("-", "--json", "--output", output, "--resume", stdin=paths)
        self.assertEqual(output.read_bytes(), whole)

    def test_archives(self):
        rows = self.classify(self.tar, "--json", status=1).stdout.splitlines()
        with tarfile.open(self.tar) as tar:
            names = tar.getnames()
        self.assertEqual([json.loads(row)["path"] for row in rows],
                         [f"{self.tar}/{name}" for name in names])
        direct = self.classify(*self.samples[:5], "--csv").stdout
        folder = self.new_folder()
        for ending in ("gz", "bz2", "xz"):
            packed = folder / f"a.tar.{ending}"
            with tarfile.open(packed, f"w:{ending}") as tar:
                for path in self.samples[:5]:
                    tar.add(path, path.name)
            self.assertEqual(self.classify(packed, "--csv").stdout,
                             direct.replace(str(SAMPLES), str(packed)))

    def test_hostile_archives(self):
        folder = self.new_folder()
        data = self.samples[0].read_bytes()
        hostile = folder / "hostile.tar.gz"
        with (tarfile.open(hostile, "w:gz", compresslevel=1) as tar,
              open("/dev/zero", "rb") as zeros):
            for name, size in (("\x1b[31m.png", 50), ("../up.png", len(data)), ("\u00e4.png", 50),
                               ("big.png", 300 << 20), ("last.png", len(data))):
                member = tarfile.TarInfo(name)
                member.size = size
                tar.addfile(member, zeros if size > len(data) else io.BytesIO(data))
            for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
                link = tarfile.TarInfo("link.png")
                link.type, link.linkname = kind, "last.png"
                tar.addfile(link)
        done = self.classify(hostile, "--json", status=1)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([Path(row["path"]).name for row in rows],
                         ["\x1b[31m.png", "up.png", "\u00e4.png", "big.png", "last.png", "link.png",
                          "link.png"])
        self.assertEqual(["top" in row for row in rows],
                         [False, True, False, False, True, False, False])
        self.assertIn("limit", rows[3]["error"])
        self.assertNotIn("\x1b", done.stderr)
        for name, bad in (("empty", b""), ("text", b"no archive" * 100)):
            (folder / f"{name}.tar").write_bytes(bad)
            done = self.classify(folder / f"{name}.tar", self.samples[0], "--json", status=1)
            self.assertIn(f"{name}.tar: ", done.stderr)
            self.assertEqual(len(done.stdout.splitlines()), 2)
        self.assertIn("missing.tar", self.classify("missing.tar", status=1).stderr)

    def test_damaged_archives_have_the_same_images_in_all_shards(self):
        folder = self.new_folder()
        whole = self.tar.read_bytes()
        packed = folder / "packed.tar.gz"
        with tarfile.open(packed, "w:gz") as tar:
            for path in self.samples[:60]:
                tar.add(path, path.name)
        flipped = bytearray(packed.read_bytes())
        flipped[len(flipped) // 2] ^= 0xFF
        damaged = [("flipped.tar.gz", bytes(flipped)), ("cut.tar.gz", packed.read_bytes()[:30_000])]
        damaged += [(f"cut{cut}.tar", whole[:cut]) for cut in
                    (512 * 100, 512 * 100 + 1, *self.random.sample(range(1000, len(whole) // 4), 4))]
        for name, data in damaged:
            (folder / name).write_bytes(data)
            out = folder / "out"
            # Another image behind it: it must come in turn.
            run(CLASSIFY, self.model, folder / name, self.samples[0], "--json", "-o", out,
                "--overwrite", status=1)
            for i in range(3):
                subprocess.run([CLASSIFY, self.model, folder / name, self.samples[0], "--json",
                                "-o", folder / f"part{i}", "--overwrite", "--shard", f"{i}/3"],
                               capture_output=True, check=False)
            run(CLASSIFY, "merge", *(folder / f"part{i}" for i in range(3)), "-o",
                folder / "merged", "--overwrite")
            self.assertEqual((folder / "merged").read_bytes(), out.read_bytes(), name)

    # Logits and features.

    def test_features(self):
        prefix = self.new_folder() / "f"
        images = [self.samples[0], self.broken, *self.samples[1:4]]
        self.classify(*images, "--features", prefix, "--feature", "tokens", "--feature",
                      "class_token", "--rows-per-file", 4, status=1)
        rows = []
        for number, count in ((0, 4), (1, 1)):
            header, data = read_safetensors(f"{prefix}-{number:05}.safetensors")
            self.assertEqual(header["class_token"]["shape"], [count, 1, 1, 128])
            self.assertEqual(header["tokens"]["shape"], [count, 1, 65, 128])
            metadata = header["__metadata__"]
            self.assertEqual(json.loads(metadata["failed"]), [1] if number == 0 else [])
            self.assertEqual(json.loads(metadata["paths"]),
                             [str(path) for path in images[4 * number : 4 * number + count]])
            begin, end = header["class_token"]["data_offsets"]
            rows += [data[at : at + 512] for at in range(begin, end, 512)]
        self.assertEqual(rows[1], bytes(512))
        self.assertEqual(len(set(rows)), 5)
        # One alone is the same.
        self.classify(images[4], "--features", prefix, "--feature", "class_token", "--overwrite")
        _, data = read_safetensors(f"{prefix}-00000.safetensors")
        self.assertEqual(data, rows[4])
        self.assertFalse(Path(f"{prefix}-00001.safetensors").exists())

    # Failures.

    def test_max_failures(self):
        output = self.new_folder() / "out.jsonl"
        done = self.classify(self.list, "--json", "--output", output, "--max-failures", 2, status=5)
        self.assertIn("given up after 9 images: 2 failed", done.stderr)
        self.assertIn("--resume", done.stderr)
        self.assertEqual(len(output.read_text(encoding="utf-8").splitlines()), 9)
        self.classify(self.list, "--json", "--output", output, "--max-failures", 6, "--resume",
                      status=1)
        self.assertEqual(output.read_bytes(), self.whole("--json"))

    def test_full_disks(self):
        if not os.path.exists("/dev/full"):
            print("*** no /dev/full: full disks are NOT TESTED", file=sys.stderr)
            return
        for form in ("--json", "--csv"):
            done = self.classify(self.list, form, "--output", "/dev/full", status=3)
            self.assertIn("/dev/full: cannot write: No space left", done.stderr)

    def test_the_largest_size_of_a_file(self):
        """As a full disk: part of the rows fit, half a row too."""
        folder = self.new_folder()
        output = folder / "out.jsonl"
        arguments = [CLASSIFY, self.model, self.list, "--json", "--output", output, "--resume"]
        size = 100_001
        done = subprocess.run(arguments, capture_output=True, text=True, check=False,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                                                    (size, size)))
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("File too large", done.stderr)
        self.assertEqual(output.stat().st_size, size)
        run(*arguments, status=1)
        self.assertEqual(output.read_bytes(), self.whole("--json"))

    def test_closed_pipe(self):
        process = subprocess.Popen([CLASSIFY, self.model, self.list, "--json"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(), 3)
        self.assertIn("standard output: cannot write: Broken pipe", error)

    def wait_for(self, condition):
        for _ in range(3000):
            if condition():
                return
            time.sleep(0.01)
        self.fail("nothing happened within 30 s")

    def test_interrupted(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            output = self.new_folder() / "out.jsonl"
            arguments = [CLASSIFY, self.model, self.list, "--json", "--output", output]
            process = subprocess.Popen([*arguments, "--threads", "1"], stderr=subprocess.PIPE,
                                       text=True)
            self.wait_for(lambda path=output: path.exists() and path.stat().st_size)
            process.send_signal(number)
            error = process.stderr.read()
            process.stderr.close()
            self.assertEqual(process.wait(), -number, error)
            rows = output.read_text(encoding="utf-8")
            self.assertTrue(rows.endswith("\n"))
            self.assertLess(rows.count("\n"), self.count)
            self.assertIn(f"interrupted after {rows.count(chr(10))} images", error)
            self.assertIn("--resume", error)
            run(*arguments, "--resume", status=1)
            self.assertEqual(output.read_bytes(), self.whole("--json"))

    def test_interrupted_while_it_waits_for_paths(self):
        process = subprocess.Popen([CLASSIFY, self.model, "-", "--json"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdin.write(bytes(self.samples[0]) + b"\n")
        process.stdin.flush()
        self.assertIn(b"path", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(30), -signal.SIGINT)
        process.stdin.close()
        process.stdout.close()

    # Speed and memory.

    def peak_kilobytes(self, images):
        output = self.new_folder() / "out.csv"
        process = subprocess.Popen([CLASSIFY, self.model, "-", "--csv", "--top-k", "1", "--output",
                                    output], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        paths = [bytes(path) + b"\n" for path in self.samples]
        process.stdin.write(b"".join(paths[i % len(paths)] for i in range(images)))
        process.stdin.flush()
        self.wait_for(lambda: output.exists() and output.read_bytes().count(b"\n") == images + 1)
        # What wait4() tells begins with the memory of the process that forked.
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        process.stdin.close()
        self.assertEqual(process.wait(), 0)
        return int(status[status.index("VmHWM:") :].split()[1])

    def test_memory_does_not_grow_with_the_list(self):
        if SANITIZERS:
            print("*** the bound of memory is NOT TESTED with sanitizers, which take their own",
                  file=sys.stderr)
            return
        few, many = self.peak_kilobytes(200), self.peak_kilobytes(4000)
        print(f"peak memory: 200 images {few} KiB, 4000 images {many} KiB", file=sys.stderr)
        self.assertLess(many - few, 4096)

    def test_summary_tells_the_stages(self):
        done = self.classify(self.list, "--csv", status=1)
        self.assertRegex(done.stderr, r"images/s, limited by (reading|decoding|inference|output); "
                                      r"CPU per image: reading .* decoding .* inference .* output ")


if __name__ == "__main__":
    print(f"INTAGLIO_SEED={SEED}", file=sys.stderr)
    unittest.main(argv=sys.argv[:1])

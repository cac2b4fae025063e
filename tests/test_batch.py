#!/usr/bin/env python3
"""intaglio-classify on many images: killed, interrupted and continued, in shards, with failures and
full disks.

usage: test_batch.py CONVERT CLASSIFY GLYPHS_FOLDER [SANITIZERS]
"""

import csv
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

from support.batch import CLASSIFY, BatchCase, contents, main
from support.programs import run


class Batch(BatchCase):
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
                for keep, message in ((b"".join(lines[:-2]), "do not fit"), (before[:-5], "do not fit|is not whole")):
                    part.write_bytes(keep)
                    done = run(CLASSIFY, "merge", *parts, "-o", folder / "bad", status=4)
                    self.assertRegex(done.stderr, message)
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

    def check_too_large(self, size, *arguments):
        """A run that may write no file of more than `size` bytes, as on a full disk. It says so, and
        nothing that looks like success."""
        done = subprocess.run([str(part) for part in (CLASSIFY, *arguments)], capture_output=True,
                              text=True, check=False,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                                                    (size, size)))
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertRegex(done.stderr,
                         r"^(intaglio-classify: .*\n)*intaglio-classify: /.*: cannot write: "
                         r"File too large\n$")
        self.assertEqual(done.stdout, "")

    def test_the_largest_size_of_a_file(self):
        """Part of the rows fit, half a row too; few rows are written at the end only, but before
        their tensors."""
        for images, size, status in ((self.list, 100_001, 1), (self.samples[0], 10, 0)):
            output = self.new_folder() / "out.jsonl"
            logits = output.with_name("logits")
            arguments = (self.model, images, "--json", "--output", output, "--resume",
                         *([] if status else ["--logits", logits]))
            self.check_too_large(size, *arguments)
            self.assertEqual(output.stat().st_size, size)
            self.assertEqual([output], list(output.parent.iterdir()))
            run(CLASSIFY, *arguments, status=status)
            self.assertEqual(len(list(output.parent.glob("logits*"))), 1 - status)
            self.assertEqual(output.read_text(encoding="utf-8"),
                             self.classify(images, "--json", status=status).stdout)

    def test_the_largest_size_of_a_merged_file(self):
        folder = self.new_folder()
        parts = [folder / f"part{i}" for i in range(2)]
        for i, part in enumerate(parts):
            self.classify(self.list, "--json", "--output", part, "--shard", f"{i}/2", status=1)
        before = contents(folder)
        arguments = ("merge", *parts, "--output", folder / "merged")
        size = max(part.stat().st_size for part in parts)
        # Not 0: ThreadSanitizer writes a file of its own before main, and a write of which nothing
        # fits ends the program while SIGXFSZ is not ignored yet.
        for too_small in (1, size, len(self.whole("--json")) - 1):
            self.check_too_large(too_small, *arguments)
            self.assertEqual(contents(folder), before)
            self.assertFalse((folder / "merged.part").exists())
        # What was merged before stays.
        (folder / "merged").write_text("before", encoding="utf-8")
        self.check_too_large(size, *arguments, "--overwrite")
        self.assertEqual(contents(folder), {**before, "merged": b"before"})
        run(CLASSIFY, *arguments, "--overwrite")
        self.assertEqual((folder / "merged").read_bytes(), self.whole("--json"))

    def test_a_missing_part(self):
        """Where the numbers still fit, merge cannot see it: the list can."""
        folder = self.new_folder()
        images = self.samples[:6]
        parts = [folder / f"part{i}" for i in range(3)]
        for i, part in enumerate(parts):
            self.classify(*images, "--csv", "--output", part, "--shard", f"{i}/3")
        check = (*images, "--csv", "--resume", "--output")
        for number, present in enumerate((parts[1:], parts[::2], parts[:2], parts[::-1])):
            merged = folder / f"merged{number}"
            run(CLASSIFY, "merge", *present, "--output", merged)
            self.assertRegex(self.classify(*check, merged, status=2).stderr,
                             r"merged\d, image [123]: the list has")
        run(CLASSIFY, "merge", *parts, "--output", folder / "merged")
        whole = (folder / "merged").read_bytes()
        self.assertIn("6 images, 5 of an earlier run", self.classify(*check, folder / "merged").stderr)
        self.assertEqual((folder / "merged").read_bytes(), whole)

    def test_closed_pipe(self):
        process = subprocess.Popen([CLASSIFY, self.model, self.list, "--json"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(), 3)
        self.assertIn("standard output: cannot write: Broken pipe", error)

    def test_interrupted(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            output = self.new_folder() / "out.jsonl"
            arguments = [CLASSIFY, self.model, self.list, "--json", "--output", output]
            # As slowly as it goes: it must not be done before the signal comes.
            process = subprocess.Popen([*arguments, "--threads", "1", "--isa", "scalar"],
                                       stderr=subprocess.PIPE, text=True)
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
            done = run(*arguments, "--resume", status=1)
            self.assertRegex(done.stderr, r"[1-9]\d* of an earlier run")
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


if __name__ == "__main__":
    main()

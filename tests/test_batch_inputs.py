#!/usr/bin/env python3
"""What intaglio-classify takes and gives besides rows: lists, patterns, pipes, archives, hostile and
damaged ones; features; bounded memory.

usage: test_batch_inputs.py CONVERT CLASSIFY GLYPHS_FOLDER [SANITIZERS]
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from support.batch import CLASSIFY, SAMPLES, SANITIZERS, BatchCase, main
from support.programs import read_safetensors, run


class Inputs(BatchCase):
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
            (folder / f"{name}.TAR").write_bytes(bad)
            done = self.classify(folder / f"{name}.TAR", self.samples[0], "--json", status=1)
            self.assertIn(f"{name}.TAR: damaged", done.stderr)
            self.assertEqual(len(done.stdout.splitlines()), 2)

    def test_what_cannot_be_listed_ends_the_run(self):
        """With a row in its place all later images would belong to other shards."""
        done = self.classify(self.samples[0], "missing.tar", self.samples[1], "--json", status=3)
        self.assertIn("missing.tar: cannot read this archive", done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 1)
        folder = self.new_folder()
        for inner in ("a", "b"):
            (folder / inner).mkdir()
            shutil.copy(self.samples[0], folder / inner / "image.png")
        if os.geteuid() == 0:
            print("*** folders without permission are NOT TESTED as root", file=sys.stderr)
            return
        (folder / "a").chmod(0)
        self.assertIn("Permission denied", self.classify(folder, status=3).stderr)
        (folder / "a").chmod(0o700)

    def test_a_list_from_a_pipe_is_read_once(self):
        pipe = self.new_folder() / "pipe.lst"
        os.mkfifo(pipe)
        with subprocess.Popen([CLASSIFY, self.model, pipe, "--json"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as process:
            with open(pipe, "wb", buffering=0) as lines:
                for path in self.samples[:20]:
                    lines.write(bytes(path) + b"\n")
                    self.assertEqual(json.loads(process.stdout.readline())["path"], str(path))
            self.assertEqual(process.wait(30), 0)

    def test_names_of_patterns_are_files(self):
        folder = self.new_folder()
        shutil.copy(self.samples[0], folder / "-")
        done = subprocess.run([CLASSIFY, self.model, "?", "--json"], cwd=folder, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual(json.loads(done.stdout)["path"], "-", done.stderr)

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

    def test_accuracy_on_an_archive_is_refused(self):
        labels = self.new_folder() / "labels.csv"
        labels.write_text(f"file,label\n{self.samples[0]},0\n{self.tar},0\n", encoding="utf-8")
        self.assertIn("takes no archives", self.classify("--eval", labels, status=2).stderr)

    def test_usage_errors(self):
        one = self.samples[0]
        for arguments in (["--resume", "--json"], ["--resume", "--output", "x"],
                          ["--shard", "2/2"], ["--shard", "-1/2"], ["--shard", "1"],
                          ["--shard", "0/2x"], ["--feature", "class_token"],
                          ["--features", self.folder / "f", "--feature", "no such feature"],
                          ["--eval", SAMPLES / "labels.csv", "--shard", "0/2"],
                          ["--logits", self.folder / "f", "--rows-per-file", (1 << 16) + 1],
                          ["--logits", self.folder / "f", "--features", f"{self.folder}/./f"],
                          ["--resume", "--json", "--output", "/dev/null"]):
            self.classify(one, *arguments, status=2)

    # Speed and memory.

    def peak_kilobytes(self, images):
        output = self.new_folder() / "out.csv"
        process = subprocess.Popen([CLASSIFY, self.model, "-", "--csv", "--top-k", "1", "--threads",
                                    "2", "--output", output], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
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
    main()

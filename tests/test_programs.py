#!/usr/bin/env python3
"""The two programs as their users run them: output, files, exit statuses.

usage: test_programs.py CONVERT CLASSIFY GLYPHS_FOLDER
"""

import csv
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support.programs import read_safetensors, run

CONVERT, CLASSIFY, GLYPHS = (Path(arg).resolve() for arg in sys.argv[1:4])
CHECKPOINT = GLYPHS / "glyphs.safetensors"
LABELS = GLYPHS / "labels.txt"
SAMPLES = GLYPHS / "samples"
SWIN = Path(__file__).resolve().parent / "golden" / "swin_micro" / "model.safetensors"


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.model = cls.folder / "glyphs.intg"
        run(CONVERT, "import", CHECKPOINT, "--labels", LABELS, "-o", cls.model)
        with open(SAMPLES / "labels.csv", newline="", encoding="utf-8") as file:
            cls.samples = list(csv.DictReader(file))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def classify(self, *arguments, **options):
        return run(CLASSIFY, self.model, *arguments, **options)

    def test_import_is_deterministic_and_small(self):
        again = self.folder / "again.intg"
        run(CONVERT, "import", CHECKPOINT, "--labels", LABELS, "-o", again)
        self.assertEqual(again.read_bytes(), self.model.read_bytes())
        self.assertLess(self.model.stat().st_size, 3_000_000)

    def test_import_errors_leave_nothing_behind(self):
        output = self.folder / "none.intg"
        cases = [
            (["missing.safetensors"], 3, "cannot open"),
            ([LABELS], 4, "safetensors"),
            ([self.model], 4, "fqvit-calibrated"),
            ([CHECKPOINT, "--labels", SAMPLES / "labels.csv"], 4, "expected 32 labels"),
            ([CHECKPOINT, "--labels", "missing.txt"], 3, "cannot read the labels"),
            ([CHECKPOINT, "--attention-codes", "8"], 2, "attention-codes"),
        ]
        for arguments, status, message in cases:
            done = run(CONVERT, "import", *arguments, "-o", output, status=status)
            self.assertIn(message, done.stderr)
            self.assertFalse(output.exists())
        run(CONVERT, "import", CHECKPOINT, "-o", self.folder / "no" / "folder.intg", status=3)
        run(CONVERT, "import", CHECKPOINT, status=2)
        run(CONVERT, status=2)
        # A failed import keeps the model that was there.
        before = self.model.read_bytes()
        run(CONVERT, "import", LABELS, "-o", self.model, status=4)
        self.assertEqual(self.model.read_bytes(), before)

    def test_help_and_version(self):
        for program in (CONVERT, CLASSIFY):
            self.assertIn("--help", run(program, "--help").stdout)
            self.assertRegex(run(program, "--version").stdout, r"^\d+\.\d+\.\d+")
        self.assertIn("--labels", run(CONVERT, "import", "--help").stdout)

    def test_inspect(self):
        text = run(CONVERT, "inspect", self.model).stdout
        for piece in ("blocks.0.attn.qkv", "layernorm", "GMAC", "k0:", "s16[65x512]"):
            self.assertIn(piece, text)
        facts = json.loads(run(CONVERT, "inspect", self.model, "--json").stdout)
        self.assertEqual(facts["classes"], 32)
        self.assertEqual(facts["macs"], sum(op["macs"] for op in facts["ops"]))
        run(CONVERT, "inspect", CHECKPOINT, status=4)

    def test_swin(self):
        """One program for all kinds of networks: the file tells which."""
        model = self.folder / "swin.intg"
        done = run(CONVERT, "import", SWIN, "-o", model)
        self.assertIn("swin.intg: 2+2 blocks, 32/64 channels, 1/2 heads, windows of 7x7, "
                      "56x56 pixels, 10 classes", done.stdout)
        text = run(CONVERT, "inspect", model).stdout
        lines = text.splitlines()
        for piece in ("u8[14x14x96]", "mean_rows", "u8[1x64]", "layers.0.downsample.norm"):
            self.assertIn(piece, text)
        # Columns stand under each other, whatever the length of a layer's name.
        head = next(line for line in lines if line.startswith("operation"))
        for line in lines[lines.index(head) + 1 : -1]:
            self.assertEqual(line[head.index("kind") - 1], " ", line)
        facts = json.loads(run(CONVERT, "inspect", model, "--json").stdout)
        self.assertEqual(facts["input"], [56, 56, 3])
        self.assertEqual(facts["provenance"]["arch"], "swin")
        classified = run(CLASSIFY, model, SAMPLES / self.samples[0]["file"], "--top-k", 1)
        self.assertIn("1 image", classified.stdout)

    def test_json_and_evaluation(self):
        done = self.classify("--eval", SAMPLES / "labels.csv", "--json", "--top-k", 3)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        images, summary = lines[:-1], lines[-1]
        self.assertEqual(len(images), len(self.samples))
        right = 0
        for image, sample in zip(images, self.samples):
            self.assertEqual(Path(image["path"]), SAMPLES / sample["file"])
            self.assertEqual(len(image["top"]), 3)
            logits = [entry["logit"] for entry in image["top"]]
            self.assertEqual(logits, sorted(logits, reverse=True))
            self.assertTrue(all(0 <= entry["probability"] <= 1 for entry in image["top"]))
            right += image["top"][0]["index"] == int(sample["label"])
        self.assertEqual(set(summary), {"images", "failed", "top1", "top5", "seconds"})
        self.assertEqual((summary["images"], summary["failed"]), (len(self.samples), 0))
        self.assertAlmostEqual(summary["top1"], 100 * right / len(self.samples))
        self.assertGreaterEqual(summary["top1"], 97)

    def test_results_do_not_depend_on_threads_or_instruction_set(self):
        expected = self.classify("--json", "--isa", "scalar", "--threads", 1, SAMPLES).stdout
        self.assertEqual(len(expected.splitlines()), len(self.samples))
        for threads in (2, 5):
            self.assertEqual(self.classify("--json", "--threads", threads, SAMPLES).stdout, expected)
        one = SAMPLES / self.samples[0]["file"]
        self.assertEqual(self.classify("--json", "--threads", 4, one).stdout,
                         self.classify("--json", "--threads", 1, one).stdout)

    def test_csv(self):
        one = SAMPLES / self.samples[0]["file"]
        rows = list(csv.DictReader(io.StringIO(self.classify("--csv", "--top-k", 2, one).stdout)))
        self.assertEqual([row["rank"] for row in rows], ["1", "2"])
        self.assertEqual(rows[0]["path"], str(one))

    def test_an_unreadable_image_does_not_stop_the_others(self):
        broken = self.folder / "broken.jpg"
        broken.write_bytes((SAMPLES / "A_0.jpg").read_bytes()[:300])
        good = SAMPLES / "A_1.png"
        done = self.classify("--json", broken, "missing.png", good, status=1)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([("top" in row, "error" in row) for row in rows],
                         [(False, True), (False, True), (True, False)])
        self.assertIn("broken.jpg", done.stderr)
        self.assertIn("missing.png", done.stderr)

    def test_folders_lists_and_class_folders(self):
        tree = self.folder / "tree"
        for sample in self.samples[:6]:
            label = LABELS.read_text(encoding="utf-8").splitlines()[int(sample["label"])]
            (tree / label / "deeper").mkdir(parents=True, exist_ok=True)
            shutil.copy(SAMPLES / sample["file"], tree / label / "deeper")
        (tree / "notes.txt").write_text("no image")
        done = self.classify("--eval", tree, "--json")
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["images"], 6)
        self.assertEqual(len(self.classify("--json", tree).stdout.splitlines()), 6)
        paths = "\n".join(str(SAMPLES / sample["file"]) for sample in self.samples[:4]) + "\n"
        self.assertEqual(len(self.classify("--json", "-", stdin=paths).stdout.splitlines()), 4)
        (tree / "no such class").mkdir()
        shutil.copy(SAMPLES / "A_0.jpg", tree / "no such class")
        self.assertIn("no such class", self.classify("--eval", tree, status=4).stderr)

    def test_logits(self):
        output = self.folder / "logits-00000.safetensors"
        done = self.classify("--json", "--logits", self.folder / "logits", SAMPLES / "A_0.jpg", "missing.png",
                             SAMPLES / "A_1.png", status=1)
        header, data = read_safetensors(output)
        self.assertEqual((header["logits"]["dtype"], header["logits"]["shape"]), ("I32", [3, 32]))
        metadata = header["__metadata__"]
        self.assertGreater(float(metadata["logit_scale"]), 0)
        self.assertEqual(json.loads(metadata["failed"]), [1])
        self.assertEqual(len(json.loads(metadata["paths"])), 3)
        logits = struct.unpack("<96i", data)
        top = json.loads(done.stdout.splitlines()[0])["top"][0]
        self.assertEqual(max(logits[:32]), top["logit"])
        self.assertEqual(logits.index(top["logit"]), top["index"])

    def test_usage_errors(self):
        self.classify(status=2)
        self.classify("--json", "--csv", SAMPLES, status=2)
        self.classify("--isa", "mmx", SAMPLES, status=2)
        self.classify("--top-k", 0, SAMPLES, status=2)
        self.classify("--threads", -1, SAMPLES, status=2)
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        self.classify(empty, status=2)
        run(CLASSIFY, self.folder / "missing.intg", SAMPLES, status=3)
        run(CLASSIFY, LABELS, SAMPLES, status=4)
        run(CLASSIFY, CHECKPOINT, SAMPLES, status=4)
        bad = self.folder / "bad.csv"
        bad.write_text("file,label\na.png,99\n")
        self.assertIn("line 2", self.classify("--eval", bad, status=4).stderr)
        bad.write_text("name,class\n")
        self.assertIn("'file' and 'label'", self.classify("--eval", bad, status=4).stderr)
        # Images outside the list have no label.
        listed = self.folder / "listed.csv"
        listed.write_text("file,label\n%s,10\n" % (SAMPLES / "A_0.jpg"))
        self.classify(SAMPLES / "A_0.jpg", "--eval", listed)
        self.classify(SAMPLES / "A_1.png", "--eval", listed, status=2)

    def test_damaged_models_are_refused(self):
        data = bytearray(self.model.read_bytes())
        damaged = self.folder / "damaged.intg"
        for at in (0, 9, 2000, len(data) // 2, len(data) - 1):
            data[at] ^= 0x10
            damaged.write_bytes(data)
            self.assertNotEqual(run(CLASSIFY, damaged, SAMPLES, status=4).stderr, "")
            data[at] ^= 0x10
        damaged.write_bytes(data[: len(data) // 2])
        run(CLASSIFY, damaged, SAMPLES, status=4)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([CLASSIFY, self.model, SAMPLES], stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=600)
        self.assertEqual(done.returncode, 3)
        self.assertIn("standard output", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

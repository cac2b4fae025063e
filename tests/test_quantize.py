#!/usr/bin/env python3
"""intaglio-convert quantize as its users run it.

usage: test_quantize.py CONVERT CLASSIFY GLYPHS_FOLDER SHARED_FOLDER
"""

import csv
import json
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from support.checkpoints import float_glyphs, write_safetensors
from support.programs import run

CONVERT, CLASSIFY, GLYPHS, SHARED = (Path(arg).resolve() for arg in sys.argv[1:5])
SAMPLES = GLYPHS / "samples"
LABELS = GLYPHS / "labels.txt"


class RandomTensors:
    """Layers that nothing but names and shapes describes."""

    def __init__(self):
        self.numbers, self.tensors = random.Random(1), {}

    def add(self, name, *shape, scale=0.2, offset=0.0):
        values = [offset + scale * self.numbers.gauss(0, 1) for _ in range(math.prod(shape))]
        self.tensors[name] = (list(shape), struct.pack(f"<{len(values)}f", *values))

    def linear(self, name, n, *k, bias=True):
        self.add(name + ".weight", n, *k)
        if bias:
            self.add(name + ".bias", n)

    def norm(self, name, dim):
        self.add(name + ".weight", dim, offset=1.0), self.add(name + ".bias", dim)

    def block(self, name, dim, hidden):
        self.norm(name + "norm1", dim), self.norm(name + "norm2", dim)
        self.linear(name + "attn.qkv", 3 * dim, dim), self.linear(name + "attn.proj", dim, dim)
        self.linear(name + "mlp.fc1", hidden, dim), self.linear(name + "mlp.fc2", dim, hidden)


def random_vit(path, dim=64, patch=8, grid=4, hidden=48, classes=5):
    """A ViT of one block."""
    made = RandomTensors()
    made.add("cls_token", 1, 1, dim), made.add("pos_embed", 1, 1 + grid * grid, dim)
    made.linear("patch_embed.proj", dim, 3, patch, patch)
    made.block("blocks.0.", dim, hidden)
    made.norm("norm", dim), made.linear("head", classes, dim)
    write_safetensors(path, made.tensors, {})


def random_swin(path, dim=16, patch=4, depths=(2, 1), window=3, classes=5):
    """A Swin with timm's present names; of no classes, one with norms of its stages and no other."""
    made = RandomTensors()
    made.linear("patch_embed.proj", dim, 3, patch, patch), made.norm("patch_embed.norm", dim)
    for i, depth in enumerate(depths):
        if i > 0:
            merge = f"layers.{i}.downsample."
            made.norm(merge + "norm", 2 * dim)
            made.linear(merge + "reduction", dim, 2 * dim, bias=False)
        for j in range(depth):
            block = f"layers.{i}.blocks.{j}."
            made.block(block, dim, 2 * dim)
            made.add(block + "attn.relative_position_bias_table", (2 * window - 1)**2, 2**i)
        if classes == 0:
            made.norm(f"norm{i}", dim)
        dim *= 2
    if classes > 0:
        made.norm("norm", dim // 2), made.linear("head.fc", classes, dim // 2)
    write_safetensors(path, made.tensors, {})


class Quantize(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.glyphs = cls.folder / "glyphs_float.safetensors"
        cls.vit = cls.folder / "vit.safetensors"
        cls.swin = cls.folder / "swin.safetensors"
        float_glyphs(GLYPHS, cls.glyphs)
        random_vit(cls.vit)
        random_swin(cls.swin)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def setUp(self):
        self.outputs = Path(tempfile.mkdtemp(dir=self.folder))
        self.model = self.outputs / "model.intg"

    def quantize(self, *arguments, checkpoint=None, images=SAMPLES, **options):
        images = () if images is None else ("--images", images)
        return run(CONVERT, "quantize", checkpoint or self.glyphs, *images, "-o", self.model,
                   *arguments, **options)

    def facts(self, *arguments, **options):
        return json.loads(self.quantize("--json", *arguments, **options).stdout)

    def test_every_observer_and_the_default_keep_the_accuracy(self):
        methods = [("fqvit", "--observer", name) for name in ("minmax", "ema", "percentile", "omse")]
        sizes = set()
        for method in [("default",), ("fqvit",), *methods]:
            facts = self.facts("--method", *method, "--labels", LABELS,
                               "--eval", SAMPLES / "labels.csv")
            accuracy = facts["accuracy"]
            self.assertEqual((accuracy["images"], accuracy["failed"]), (160, 0))
            self.assertGreaterEqual(accuracy["float_top1"], 97)
            self.assertGreaterEqual(accuracy["integer_top1"], 95, method)
            self.assertGreaterEqual(accuracy["agreement"], 95, method)
            self.assertGreater(accuracy["logit_rmse"], 0)
            self.assertLess(accuracy["logit_rmse"], 1)
            # The file that was written is the model that was measured.
            lines = run(CLASSIFY, self.model, "--eval", SAMPLES / "labels.csv", "--json").stdout
            self.assertAlmostEqual(json.loads(lines.splitlines()[-1])["top1"],
                                   accuracy["integer_top1"])
            self.assertEqual(facts["model"]["bytes"], self.model.stat().st_size)
            sizes.add(self.model.read_bytes())
        self.assertGreaterEqual(len(sizes), 4)

    def test_json_tells_everything(self):
        facts = self.facts("--method", "fqvit", "--observer", "omse", "--limit", 20, "--batch", 8)
        self.assertEqual(facts["architecture"]["classes"], 32)
        self.assertEqual(facts["architecture"]["image_size"], 32)
        self.assertIn("config", facts["architecture"]["heads_source"])
        self.assertIn("metadata", facts["preprocessing"]["source"])
        self.assertEqual(facts["checkpoint"]["scheme"], "timm")
        self.assertEqual(facts["method"], {"name": "fqvit", "observer": "omse",
                                           "attention_bits": 4, "attention_codes": 17})
        self.assertEqual([facts["images"][key] for key in ("found", "used", "batch")], [160, 20, 8])
        self.assertEqual(len(facts["images"]["paths"]), 20)
        self.assertEqual(set(facts["seconds"]), {"read", "decode", "calibrate", "lower", "write"})
        self.assertNotIn("accuracy", facts)
        provenance = json.loads(run(CONVERT, "inspect", self.model, "--json").stdout)["provenance"]
        self.assertIn("omse", provenance["method"])
        self.assertIn("20 images", provenance["calibration"])

    def test_text_tells_what_was_chosen(self):
        done = self.quantize("--method", "fqvit", "--attention-codes", 16)
        for piece in ("names of timm", "heads (", "shorter side", "from metadata", "128 of 160",
                      "observer minmax", "16 codes", "MB in"):
            self.assertIn(piece, done.stdout)
        self.assertEqual(done.stderr, "")  # no bar, no warning

    def test_order_of_a_list_is_kept_and_results_do_not_depend_on_threads(self):
        with open(SAMPLES / "labels.csv", newline="", encoding="utf-8") as file:
            names = [row["file"] for row in csv.DictReader(file)][:40]
        order = SAMPLES.parent / "samples"
        (self.outputs / "samples").symlink_to(order)
        listed = self.outputs / "order.txt"
        listed.write_text("".join(f"samples/{name}\n" for name in names))
        options = ("--method", "fqvit", "--observer", "ema", "--batch", 8)
        facts = self.facts(*options, images=listed)
        self.assertEqual([Path(path).name for path in facts["images"]["paths"]], names)
        first = self.model.read_bytes()
        self.facts(*options, "--threads", 1, images=listed)
        self.assertEqual(self.model.read_bytes(), first)
        self.facts(*options, images="-", stdin="".join(f"{order / name}\n" for name in names))
        self.assertEqual(self.model.read_bytes(), first)
        listed.write_text("".join(f"samples/{name}\n" for name in reversed(names)))
        self.facts(*options, images=listed)
        self.assertNotEqual(self.model.read_bytes(), first)  # a moving average tells the order

    def test_limits(self):
        self.assertEqual(self.facts()["images"]["used"], 128)
        used = self.facts("--limit", 150)["images"]["paths"]
        self.assertEqual(used[:20], self.facts("--limit", 20)["images"]["paths"])
        done = self.quantize("--limit", 3, checkpoint=self.vit)
        self.assertIn("warning: only 3 images", done.stderr)

    def test_sizes_heads_and_preprocessing_can_be_told(self):
        facts = self.facts("--img-size", 48, "--heads", 4, "--mean", "0.1,0.2,0.3",
                           "--std", "0.4,0.5,0.6", "--crop-pct", 0.75, "--interpolation",
                           "bilinear", checkpoint=self.vit)
        self.assertEqual(facts["architecture"]["image_size"], 48)
        self.assertEqual((facts["architecture"]["heads"], facts["architecture"]["heads_source"]),
                         (4, "option"))
        chosen = facts["preprocessing"]
        self.assertEqual((chosen["mean"], chosen["std"]), ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
        self.assertEqual((chosen["resize"], chosen["interpolation"]), (64, "bilinear"))
        self.assertTrue(any("resampled" in note for note in facts["notes"]))
        run(CLASSIFY, self.model, SAMPLES / "A_0.jpg")
        facts = self.facts("--preset", "imagenet", checkpoint=self.vit)
        self.assertEqual(facts["architecture"]["heads_source"], "assumed")
        self.assertIn("imagenet", facts["preprocessing"]["source"])

    def test_swin(self):
        labels = self.outputs / "labels.csv"
        images = [SAMPLES / name for name in ("1_2.jpg", "A_3.png")]
        labels.write_text("file,label\n" + "".join(f"{image},0\n" for image in images))
        for method in ("default", "fqvit"):
            # Maps of 6 and 3 tokens; of 13 and 7, from a patch beyond the image; of 10 x 18 and 5 x 9.
            for size, height, width in ((24, 24, 24), (50, 50, 50), ("40x72", 40, 72)):
                report = self.outputs / "report.json"
                facts = self.facts("--method", method, "--img-size", size, "--limit", 24,
                                   "--eval", labels, "--report-json", report, checkpoint=self.swin)
                expected = {"family": "swin", "image_size": [height, width], "blocks": [2, 1],
                            "heads": [1, 2], "windows": [3, 3], "hidden": [32, 64], "dim": 16}
                self.assertEqual({key: facts["architecture"][key] for key in expected}, expected)
                chosen = facts["preprocessing"]
                self.assertIn("preset swin", chosen["source"])
                self.assertEqual([chosen[key] for key in ("height", "width", "resize")],
                                 [height, width, int(max(height, width) / 0.9)])
                tensors = json.loads(report.read_text())["tensors"]
                self.assertEqual(sum(t["kind"] == "attention" for t in tensors), 3)
                for tensor in tensors:
                    self.assertGreater(tensor["snr_db"], 8, tensor["name"])
                classified = run(CLASSIFY, self.model, SAMPLES / "A_0.jpg", "--json").stdout
                self.assertEqual(len(json.loads(classified.splitlines()[0])["top"]), 5)
        text = self.quantize("--limit", 16, checkpoint=self.swin).stdout
        for piece in ("2+1 blocks, 16/32 channels, 1/2 heads, windows of 3x3", "names of timm",
                      "nothing tells the size of images; assumed 224 pixels", "centre of 224x224"):
            self.assertIn(piece, text)

    def test_swin_without_a_classifier(self):
        backbone = self.folder / "backbone.safetensors"
        random_swin(backbone, classes=0)
        options = ("--img-size", "40x72", "--limit", 24)
        for method in ("default", "fqvit"):
            report = self.outputs / "report.json"
            facts = self.facts("--method", method, "--report-json", report, *options,
                               checkpoint=backbone)
            self.assertEqual(facts["architecture"]["classes"], 0)
            tensors = {t["name"]: t for t in json.loads(report.read_text())["tensors"]}
            self.assertGreater(tensors["logits"]["snr_db"], 15, method)
            prefix = self.outputs / "features"
            run(CLASSIFY, self.model, SAMPLES / "A_0.jpg", "--logits", prefix, "--overwrite")
            data = Path(f"{prefix}-00000.safetensors").read_bytes()
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            self.assertEqual(header["logits"]["shape"], [1, 32])
        text = self.quantize(*options, checkpoint=backbone).stdout
        self.assertIn("no classifier: 32 pooled features instead of logits", text)

    def test_errors_leave_nothing_behind(self):
        broken = self.folder / "broken.jpg"
        broken.write_bytes((SAMPLES / "A_0.jpg").read_bytes()[:300])
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        fqvit = ("--method", "fqvit")
        cases = [
            (("--observer", "ema"), 2, "--observer is a choice of --method fqvit"),
            (("--attention-bits", 4), 2, "--attention-bits is a choice"),
            (("--attention-codes", 16), 2, "--attention-codes is a choice"),
            ((*fqvit, "--observer", "median"), 2, "observer"),
            ((*fqvit, "--attention-bits", 5), 2, "attention-bits"),
            (("--method", "magic"), 2, "method"),
            (("--mean", "1,2"), 2, "mean"),
            (("--limit", 0), 2, "limit"),
            (("--batch", 0), 2, "batch"),
            (("--img-size", 50), 2, "multiple"),
            (("--img-size", "48x64"), 2, "expected a square"),
            (("--img-size", "48x"), 2, "--img-size: expected pixels of a side, or HEIGHTxWIDTH"),
            (("--img-size", "-48"), 2, "HEIGHTxWIDTH"),
            (("--img-size", "48x48x48"), 2, "HEIGHTxWIDTH"),
            (("--preset", "none"), 2, "preset"),
            (("--heads", 7), 2, "heads"),
            (("--labels", SAMPLES / "labels.csv"), 4, "expected 32 labels"),
            (("--eval", "missing.csv"), 3, "missing.csv"),
            (("--config", "missing.json"), 3, "missing.json"),
            (("--images", "missing.png"), 3, "missing.png"),
            (("--images", "missing.lst"), 3, "missing.lst"),
            (("--images", broken), 4, "broken.jpg"),
        ]
        for arguments, status, message in cases:
            # Files named come before those of folders, so that broken ones are used.
            done = self.quantize(*arguments, status=status)
            self.assertIn(message, done.stderr)
            self.assertEqual(list(self.outputs.iterdir()), [], arguments)
        self.assertIn("no images", self.quantize(images=empty, status=2).stderr)
        self.quantize(images=None, status=2)
        self.quantize(checkpoint="missing.safetensors", status=3)
        self.quantize(checkpoint=LABELS, status=4)
        self.assertEqual(list(self.outputs.iterdir()), [])
        for output in (self.outputs / "no" / "folder.intg", self.outputs):
            run(CONVERT, "quantize", self.glyphs, "--images", SAMPLES, "-o", output, status=3)
        before = self.glyphs.read_bytes()
        run(CONVERT, "quantize", self.glyphs, "--images", SAMPLES, "-o", self.glyphs, status=2)
        self.assertEqual(self.glyphs.read_bytes(), before)

    def test_an_unreadable_image_of_the_evaluation_is_told(self):
        labels = self.outputs / "labels.csv"
        labels.write_text(f"file,label\n{SAMPLES / 'A_0.jpg'},10\nmissing.png,1\n")
        done = self.quantize("--json", "--eval", labels, status=1)
        self.assertIn("missing.png", done.stderr)
        accuracy = json.loads(done.stdout)["accuracy"]
        self.assertEqual((accuracy["images"], accuracy["failed"]), (1, 1))
        self.assertTrue(self.model.exists())

    def test_an_interrupt_leaves_nothing_or_all(self):
        self.quantize("--method", "fqvit")
        whole = self.model.read_bytes()
        self.model.unlink()
        command = [CONVERT, "quantize", self.glyphs, "--images", SAMPLES, "-o", self.model,
                   "--method", "fqvit"]
        interrupted = 0
        delay = 0.01
        while True:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            status = process.wait(timeout=600)
            left = [path.name for path in self.outputs.iterdir()]
            if left:
                self.assertEqual(left, ["model.intg"])
                self.assertEqual(self.model.read_bytes(), whole)
            if status == 0:
                break
            self.assertEqual(status, -signal.SIGINT)
            interrupted += 1
            delay *= 1.5
            self.model.unlink(missing_ok=True)
        self.assertGreater(interrupted, 2)

    def test_deit_tiny(self):
        weights = SHARED / "weights" / "deit_tiny_patch16_224.safetensors"
        if not weights.exists():
            print(f"SKIPPED (no shared data): test_deit_tiny: {weights}", file=sys.stderr)
            self.skipTest("no shared data")
        results = json.loads((SHARED / "golden" / "deit_tiny" / "results.json").read_text())
        photos = self.outputs / "calibration.lst"
        photos.write_text("".join(f"{SHARED / 'images' / name}\n"
                                  for name in results["calibration"]))
        facts = self.facts("--method", "fqvit", checkpoint=weights, images=photos)
        seconds = facts["seconds"]
        print("DeiT-Tiny, 128 photos:", {k: round(v, 2) for k, v in seconds.items()},
              file=sys.stderr)
        self.assertEqual((facts["images"]["used"], facts["architecture"]["heads"]), (128, 3))
        # On an idle machine of two cores 5 to 10 s.
        self.assertLess(sum(seconds.values()), 45 * max(1.0, os.getloadavg()[0]))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

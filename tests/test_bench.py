#!/usr/bin/env python3
"""intaglio-bench as its users run it. Speed is not tested: only that what is reported fits together.

usage: test_bench.py BENCH CONVERT SOURCE_FOLDER
"""

import csv
import io
import json
import shutil
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

from support.programs import run

BENCH, CONVERT, SOURCE = (Path(arg).resolve() for arg in sys.argv[1:4])
GLYPHS = SOURCE / "converters" / "glyphs"
QUICK = ("--seconds", 0.02)


def bench(*arguments, **options):
    return run(BENCH, *QUICK, *arguments, **options)


def rows_of(*arguments):
    return [json.loads(line) for line in bench("--json", *arguments).stdout.splitlines()]


class Bench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.model = cls.folder / "glyphs.intg"
        run(CONVERT, "import", GLYPHS / "glyphs.safetensors", "-o", cls.model)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_a_row_has_all_figures_and_they_fit_together(self):
        (row,) = rows_of("--arch", "vit_micro")
        for field in ("model", "isa", "threads", "batch", "images_per_s", "load_ms", "peak_rss_mb",
                      "macs", "floor_ms", "ratio", "latency_ms", "peak_gmac_s", "spread", "cpu",
                      "clock_ghz", "compiler", "commit", "date", "noisy", "steps"):
            self.assertIn(field, row)
        self.assertEqual((row["model"], row["threads"], row["batch"]), ("vit_micro", 1, 1))
        latency = row["latency_ms"]
        self.assertEqual(set(latency), {"min", "median", "p90", "p99"})
        self.assertTrue(0 < latency["min"] <= latency["median"] <= latency["p90"] <= latency["p99"])
        self.assertAlmostEqual(row["images_per_s"], 1000 / latency["median"], delta=1e-6 * row["images_per_s"])
        self.assertAlmostEqual(row["floor_ms"], row["macs"] / row["peak_gmac_s"] / 1e6)
        self.assertAlmostEqual(row["ratio"], latency["median"] / row["floor_ms"])
        self.assertGreater(row["load_ms"], 0)
        self.assertGreater(row["peak_rss_mb"], 1)
        # 16 patches and a class token, 64 channels, 2 blocks, 10 classes.
        block = 17 * 64 * (3 * 64 + 64 + 2 * 256) + 2 * 17 * 17 * 64
        self.assertEqual(row["macs"], 16 * 192 * 64 + 2 * block + 64 * 10)

    def test_steps(self):
        (grouped,) = rows_of("--arch", "vit_micro")
        (every,) = rows_of("--arch", "vit_micro", "--steps", "all")
        (none,) = rows_of("--arch", "vit_micro", "--steps", "none")
        self.assertEqual(none["steps"], [])
        for row in (grouped, every):
            self.assertEqual(sum(step["macs"] for step in row["steps"]), row["macs"])
            self.assertAlmostEqual(sum(step["share"] for step in row["steps"]), 1)
            self.assertTrue(all(step["ms"] > 0 and step["bytes"] > 0 for step in row["steps"]))
        qkv = [step for step in grouped["steps"] if step["name"] == "blocks.*.attn.qkv"]
        self.assertEqual([step["count"] for step in qkv], [2])
        self.assertIn("blocks.1.attn.qkv", [step["name"] for step in every["steps"]])
        self.assertEqual(len(every["steps"]), sum(step["count"] for step in grouped["steps"]))

    def test_swin(self):
        rows = rows_of("--arch", "swin_micro", "--isa", "all")
        # 40 pixels in patches of 2; maps that windows of 4 do not divide are padded.
        macs = 400 * 12 * 32
        for stage, (side, padded) in enumerate([(20, 20), (10, 12), (5, 8), (3, 4)]):
            dim = 32 << stage
            macs += 2 * (side**2 * 12 * dim**2 + 2 * padded**2 * 16 * dim)
            macs += (side + 1) // 2 * ((side + 1) // 2) * 8 * dim**2 if stage < 3 else dim * 10
        for row in rows:
            self.assertEqual(row["macs"], macs)
            self.assertEqual(sum(step["macs"] for step in row["steps"]), macs)
            if len(rows) > 1:
                self.assertIn(row["checked_against"], {r["isa"] for r in rows} - {row["isa"]})
        counts = {step["name"]: step["count"] for step in rows[0]["steps"]}
        self.assertEqual(counts["layers.*.blocks.*.attn"], 8)
        self.assertEqual(counts["layers.*.downsample.reduction"], 3)

    def test_sweeps_make_every_combination_once(self):
        rows = rows_of("--arch", "vit_micro", self.model, "--threads", "1,2", "--batch", "1,3",
                       "--steps", "none")
        keys = [(row["model"], row["threads"], row["batch"]) for row in rows]
        self.assertEqual(keys, [(model, threads, batch) for model in (str(self.model), "vit_micro")
                                for threads in (1, 2) for batch in (1, 3)])
        for row in rows:
            self.assertAlmostEqual(row["images_per_s"],
                                   1000 * row["batch"] / row["latency_ms"]["median"],
                                   delta=1e-6 * row["images_per_s"])
        self.assertAlmostEqual(rows[1]["floor_ms"], 3 * rows[0]["floor_ms"])

    def test_levels(self):
        rows = rows_of("--arch", "vit_micro", "--isa", "all", "--steps", "none")
        levels = [row["isa"] for row in rows]
        self.assertEqual(levels[0], "scalar")
        self.assertEqual(len(set(levels)), len(levels))
        best = rows_of("--arch", "vit_micro", "--steps", "none")[0]
        self.assertEqual(best["isa"], levels[-1])
        if len(levels) > 1:  # each is held against another, even alone
            for row in rows + [best]:
                self.assertIn(row["checked_against"], set(levels) - {row["isa"]})
        self.assertEqual(rows[0]["peak_gmac_s"], rows[-1]["peak_gmac_s"])

    def test_text_and_csv(self):
        text = bench("--arch", "vit_micro", "--batch", "1,2").stdout
        for piece in ("images/s", "floor ms", "GMAC/s", "blocks.*.mlp.fc1", "batch 2", "commit"):
            self.assertIn(piece, text)
        table = list(csv.DictReader(io.StringIO(
            bench("--csv", "--arch", "vit_micro", "--batch", "1,2").stdout)))
        self.assertEqual([row["batch"] for row in table], ["1", "2"])
        self.assertGreater(float(table[0]["latency_ms_median"]), 0)
        self.assertEqual(table[0]["model"], "vit_micro")

    def test_trace(self):
        path = self.folder / "trace.json"
        (row,) = rows_of("--arch", "vit_micro", "--steps", "all", "--trace", path)
        trace = json.loads(path.read_text(encoding="utf-8"))
        spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
        self.assertEqual([span["name"] for span in spans], [step["name"] for step in row["steps"]])
        ends = [span["ts"] + span["dur"] for span in spans]
        for begin, end in zip([span["ts"] for span in spans[1:]], ends):
            self.assertGreaterEqual(begin + 1e-6, end)

    def test_image_size(self):
        small, large = (rows_of("--arch", "vit_micro", "--img-size", size, "--steps", "none")[0]
                        for size in (16, 64))
        self.assertEqual(small["model"], "vit_micro@16")
        self.assertGreater(large["macs"], 8 * small["macs"])
        odd, smallest = (rows_of("--arch", "swin_micro", "--img-size", size, "--steps", "none")[0]
                         for size in (57, 1))
        self.assertGreater(odd["macs"], smallest["macs"])

    def test_roofline(self):
        lines, svg = self.folder / "rows.json", self.folder / "roofline.svg"
        lines.write_text(bench("--json", "--arch", "vit_micro", "--isa", "all").stdout)
        run(sys.executable, "-B", SOURCE / "bench" / "roofline.py", lines, "-o", svg)
        self.assertEqual(xml.etree.ElementTree.parse(svg).getroot().tag,
                         "{http://www.w3.org/2000/svg}svg")
        run(sys.executable, "-B", SOURCE / "bench" / "roofline.py", lines, "--row", 99, "-o", svg,
            status=2)

    def test_errors(self):
        cases = [
            ([], 2, "no model"),
            (["--arch", "resnet"], 2, "deit_tiny"),
            (["--arch", "deit_tiny", "--img-size", 225], 2, "multiple of the patch"),
            (["--arch", "vit_micro", "--threads", "1,two"], 2, "two"),
            (["--arch", "vit_micro", "--threads", -1], 2, "--threads"),
            (["--arch", "vit_micro", "--batch", 0], 2, "--batch"),
            (["--arch", "vit_micro", "--isa", "best,mmx"], 2, "mmx"),
            (["--arch", "vit_micro", "--json", "--csv"], 2, "--csv"),
            (["missing.intg"], 3, "missing.intg"),
            ([GLYPHS / "labels.txt"], 4, "safetensors"),
            (["--arch", "vit_micro", "--trace", self.folder / "no" / "trace.json"], 3, "trace.json"),
        ]
        for arguments, status, message in cases:
            self.assertIn(message, bench(*arguments, status=status).stderr)
        self.assertIn("--trace", run(BENCH, "--help").stdout)
        self.assertRegex(run(BENCH, "--version").stdout, r"^\d+\.\d+\.\d+")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

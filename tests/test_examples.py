#!/usr/bin/env python3
"""The programs of docs/examples, as they are built here.

usage: test_examples.py CONVERT_PROGRAM EXAMPLES_BUILD_FOLDER GLYPHS_FOLDER
"""

import sys
import tempfile
import unittest
from pathlib import Path

from support.programs import run

CONVERT, EXAMPLES, GLYPHS = (Path(arg).resolve() for arg in sys.argv[1:4])
SAMPLES = [GLYPHS / "samples" / name for name in ("A_0.jpg", "7_1.png", "R_3.png")]


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.model = cls.folder / "glyphs.intg"
        run(CONVERT, "import", GLYPHS / "glyphs.safetensors", "--labels", GLYPHS / "labels.txt",
            "-o", cls.model)

    def example(self, name, *args, status=0):
        done = run(EXAMPLES / name, *args, status=status)
        self.assertEqual(done.stderr == "", status == 0)
        return done.stdout if status == 0 else done.stderr

    def test_classify_in_cpp_and_c(self):
        told = self.example("classify", self.model, *SAMPLES)
        self.assertRegex(told.splitlines()[1], r"^ +[89]\d\.\d %  A$")
        self.assertEqual(self.example("classify_c", self.model, *SAMPLES), told)

    def test_server(self):
        lines = self.example("server", self.model, *SAMPLES).splitlines()
        self.assertEqual(lines[:3], [f"{path}  {path.name[0]}" for path in SAMPLES])
        self.assertRegex("\n".join(lines[3:]),
                         r"^192 requests, 16 threads, newer models taken [1-9]\d* times$")

    def test_similarity(self):
        query, *others = (GLYPHS / "samples" / name for name in ("A_0.jpg", "A_2.jpg", "7_1.png", "A_0.jpg"))
        lines = self.example("similarity", self.model, query, *others).splitlines()
        self.assertEqual([Path(line.split()[1]).name for line in lines],
                         ["A_0.jpg", "A_2.jpg", "7_1.png"])
        self.assertEqual(lines[0].split()[0], "1.000")
        self.assertLess(float(lines[2].split()[0]), float(lines[1].split()[0]))

    def test_opencv(self):
        if not (EXAMPLES / "opencv").exists():
            print("NOT TESTED: docs/examples/opencv.cpp, as there is no libopencv-imgcodecs-dev")
            self.skipTest("no OpenCV")
        photos = [path for path in SAMPLES if path.suffix == ".png"]  # JPEG decoders differ
        self.assertEqual(self.example("opencv", self.model, *photos),
                         self.example("classify", self.model, *photos))
        self.assertIn("width is 0", self.example("opencv", self.model, "nowhere", status=1))

    def test_errors(self):
        for name in ("classify", "classify_c", "server"):
            self.assertIn("usage", self.example(name, status=2))
            self.assertIn("nowhere", self.example(name, "nowhere", SAMPLES[0], status=1))
            self.assertIn("nowhere", self.example(name, self.model, "nowhere", status=1))
        self.assertIn("nowhere", self.example("similarity", self.model, *SAMPLES, "nowhere", status=1))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

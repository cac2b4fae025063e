"""What the tests of intaglio-classify on many images share. The arguments of the program are
CONVERT CLASSIFY GLYPHS_FOLDER [SANITIZERS].
"""

import os
import random
import shutil
import sys
import tarfile
import tempfile
import time
import unittest
from pathlib import Path

from support.programs import run

CONVERT, CLASSIFY, GLYPHS = (Path(arg).resolve() for arg in sys.argv[1:4])
SANITIZERS = "".join(sys.argv[4:5])
SAMPLES = GLYPHS / "samples"
SEED = int(os.environ.get("INTAGLIO_SEED", random.SystemRandom().randrange(1 << 32)))


def contents(folder):
    """Everything in a folder, by name; what killed runs leave beside it does not count."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()
            if path.suffix != ".part"}


class BatchCase(unittest.TestCase):
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

    def whole(self, *arguments, status=1):
        """An undisturbed output."""
        output = self.new_folder() / "whole"
        self.classify(self.list, *arguments, "--output", output, status=status)
        return output.read_bytes()

    def wait_for(self, condition):
        for _ in range(3000):
            if condition():
                return
            time.sleep(0.01)
        self.fail("nothing happened within 30 s")


def main():
    """Runs the tests of the program; the seed repeats them."""
    print(f"INTAGLIO_SEED={SEED}", file=sys.stderr)
    unittest.main(argv=sys.argv[:1])

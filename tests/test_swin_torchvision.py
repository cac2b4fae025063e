#!/usr/bin/env python3
"""The float network against torchvision's Swin-T, S and B with random weights: logits at 224 pixels,
and at a size whose maps no window and no merge divides.

usage: test_swin_torchvision.py FLOAT_LOGITS
Exits with 77 where torch or torchvision is absent.
"""

import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

try:
    import numpy as np
    import torch
    import torchvision
except ImportError as error:
    print(f"*** SKIPPED: test_swin_torchvision needs numpy, torch and torchvision: {error}",
          file=sys.stderr)
    sys.exit(77)

FLOAT_LOGITS = Path(sys.argv.pop(1)).resolve()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_RELATIVE_ERROR = 1e-4
MODULES = [("norm1", "norm1"), ("attn.qkv", "attn.qkv"), ("attn.proj", "attn.proj"),
           ("norm2", "norm2"), ("mlp.0", "mlp.fc1"), ("mlp.3", "mlp.fc2")]


def timm_name(name):
    """timm's name of one of torchvision's parameters."""
    if not name.startswith("features."):
        return name
    _, index, rest = name.split(".", 2)
    index = int(index)
    if index == 0:
        return "patch_embed." + rest.replace("0.", "proj.", 1).replace("2.", "norm.", 1)
    stage = f"layers.{(index - 1) // 2}."
    if index % 2 == 0:
        return stage + "downsample." + rest
    for theirs, timms in MODULES:
        if f".{theirs}." in rest:
            rest = rest.replace(f".{theirs}.", f".{timms}.")
            break
    return stage + "blocks." + rest


def randomize(model):
    """Values for which every parameter matters."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name or name.startswith("features.0.2"):
                p.normal_(1.0 if name.endswith("weight") else 0.0, 0.2)
            elif "table" in name:
                p.normal_(0.0, 1.0)
            elif name.endswith("bias"):
                p.normal_(0.0, 0.2)
            else:
                p.normal_(0.0, p[0].numel() ** -0.5)


def write_npz(path, model):
    # NumPy's archives take no time to write.
    np.savez(path, **{timm_name(name): p.detach().numpy() for name, p in model.named_parameters()})


class Torchvision(unittest.TestCase):
    def compare(self, make, sizes):
        torch.manual_seed(1)
        with mock.patch("torch.nn.init.trunc_normal_"):  # takes longer than all the rest
            model = make(weights=None).eval()
        randomize(model)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint, pixels, logits = (Path(folder) / name for name in
                                          ("model.npz", "pixels", "logits"))
            write_npz(checkpoint, model)
            for height, width in sizes:
                start = time.monotonic()
                images = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8)
                pixels.write_bytes(images.numpy().tobytes())
                x = images.float().permute(0, 3, 1, 2) / 255
                x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
                with torch.no_grad():
                    expected = model(x).numpy()
                done = subprocess.run([FLOAT_LOGITS, checkpoint, pixels, str(height), str(width),
                                       logits], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                found = np.fromfile(logits, "<f4").reshape(expected.shape)
                error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
                print(f"{make.__name__} {height}x{width}: relative error {error:.1e}, "
                      f"{time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
                self.assertLess(error, MAX_RELATIVE_ERROR)
                self.assertGreater(np.std(expected), 0.1)

    def test_tiny(self):
        self.compare(torchvision.models.swin_t, [(224, 224), (248, 200), (28, 356)])

    def test_small(self):
        self.compare(torchvision.models.swin_s, [(200, 248)])

    def test_base(self):
        self.compare(torchvision.models.swin_b, [(224, 224)])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

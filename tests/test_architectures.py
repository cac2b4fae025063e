#!/usr/bin/env python3
"""Checkpoints of all published sizes, with random weights, through intaglio-convert quantize and
intaglio-classify: facts, accuracy of the logits and of every layer of a Swin, peak memory.

usage: test_architectures.py CONVERT CLASSIFY GLYPHS_FOLDER FEATURES
Exits with 77 where numpy is absent.
"""

import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile
import zlib
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("*** SKIPPED: test_architectures needs numpy, which this Python does not have",
          file=sys.stderr)
    sys.exit(77)

CONVERT, CLASSIFY, GLYPHS, FEATURES = (Path(arg).resolve() for arg in sys.argv[1:5])
SAMPLES = GLYPHS / "samples"  # any pictures do
# Not among those of the calibration: the last layers see one row per image, and fit few too well.
EVALUATION = [SAMPLES / "1_2.jpg", SAMPLES / "A_3.png"]
IMAGENET = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]
HALVES = [[0.5] * 3, [0.5] * 3]
PATCH, GRID, CLASSES = 16, 14, 1000
MAX_RELATIVE_RMSE = 0.15
MIN_SNR_DB = 10
WINDOW = 7
MAX_BYTES_OF_LARGE = 8 << 30


@dataclasses.dataclass(frozen=True)
class Architecture:
    dim: int
    heads: int
    depth: int = 12
    distilled: bool = False

    def facts(self, image_size):
        return {"image_size": image_size, "patch": PATCH, "blocks": self.depth, "dim": self.dim,
                "hidden": 4 * self.dim, "heads": self.heads, "classes": CLASSES,
                "prefix_tokens": 2 if self.distilled else 1}


@dataclasses.dataclass(frozen=True)
class Swin:
    dim: int
    heads: int  # of the first stage
    depths: tuple

    def facts(self, image_size):
        per_stage = [2**i for i in range(len(self.depths))]
        sides = image_size if isinstance(image_size, tuple) else (image_size, image_size)
        return {"family": "swin", "image_size": list(sides), "patch": 4, "dim": self.dim,
                "blocks": list(self.depths), "heads": [self.heads * n for n in per_stage],
                "hidden": [4 * self.dim * n for n in per_stage],
                "windows": [WINDOW] * len(per_stage), "classes": CLASSES}


SWIN_TINY = Swin(96, 3, (2, 2, 6, 2))
SWIN_SMALL = Swin(96, 3, (2, 2, 18, 2))
SWIN_BASE = Swin(128, 4, (2, 2, 18, 2))


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Its values are made when they are written: this process stays small, because the peak memory
    of a child counts what its parent had when it was started."""
    name: str
    shape: tuple
    values: object  # () -> array of `shape`


@functools.lru_cache(maxsize=1)  # the parts of one tensor are asked for one after another
def random_values(name, shape, deviation, mean):
    """The same for the same name."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    values *= np.float32(deviation)
    values += np.float32(mean)
    return values


class Tensors(list):
    """Layers that nothing but names and shapes describes."""

    def add(self, name, *shape, deviation=0.02, mean=0.0):
        make = functools.partial(random_values, name, shape, deviation, mean)
        self.append(Tensor(name, shape, make))

    def linear(self, name, n, *inputs, bias=True):
        self.add(name + ".weight", n, *inputs, deviation=np.prod(inputs) ** -0.5)
        if bias:
            self.add(name + ".bias", n)

    def norm(self, name, dim):
        self.add(name + ".weight", dim, deviation=0.1, mean=1.0)
        self.add(name + ".bias", dim, deviation=0.1)

    def block(self, name, dim):
        self.norm(name + "norm1", dim)
        self.linear(name + "attn.qkv", 3 * dim, dim)
        self.linear(name + "attn.proj", dim, dim)
        self.norm(name + "norm2", dim)
        self.linear(name + "mlp.fc1", 4 * dim, dim)
        self.linear(name + "mlp.fc2", dim, 4 * dim)


def timm(a):
    made = Tensors()
    tokens = ["cls_token"] + ["dist_token"] * a.distilled
    for token in tokens:
        made.add(token, 1, 1, a.dim)
    made.add("pos_embed", 1, len(tokens) + GRID**2, a.dim)
    made.linear("patch_embed.proj", a.dim, 3, PATCH, PATCH)
    for i in range(a.depth):
        made.block(f"blocks.{i}.", a.dim)
    made.norm("norm", a.dim)
    for head in ["head"] + ["head_dist"] * a.distilled:
        made.linear(head, CLASSES, a.dim)
    return made


def microsoft(a):
    """A Swin."""
    made, dim = Tensors(), a.dim
    made.linear("patch_embed.proj", dim, 3, 4, 4), made.norm("patch_embed.norm", dim)
    for i, depth in enumerate(a.depths):
        stage = f"layers.{i}."
        if i > 0:
            merge = f"layers.{i - 1}.downsample."
            made.norm(merge + "norm", 4 * dim)
            made.linear(merge + "reduction", 2 * dim, 4 * dim, bias=False)
            dim *= 2
        for j in range(depth):
            block = f"{stage}blocks.{j}."
            made.block(block, dim)
            made.add(block + "attn.relative_position_bias_table", (2 * WINDOW - 1)**2,
                     a.heads * 2**i, deviation=0.5)
    made.norm("norm", dim), made.linear("head", CLASSES, dim)
    return made


def changed(tensor, name, change=lambda values: values):
    """`change` must tell the shape of its result from strides alone."""
    shape = change(np.broadcast_to(np.float32(0), tensor.shape)).shape
    return Tensor(name, shape, lambda: change(tensor.values()))


def renamed(name, pairs):
    for old, new in pairs:
        name = name.replace(old, new)
    return name


def with_parts(tensors):
    """(tensor, which third of its rows); queries, keys and values become tensors of their own."""
    for tensor in tensors:
        thirds = range(3) if ".attn.qkv." in tensor.name else (None,)
        yield from ((tensor, third) for third in thirds)


HUGGING_FACE = [
    ("cls_token", "vit.embeddings.cls_token"), ("pos_embed", "vit.embeddings.position_embeddings"),
    ("patch_embed.proj", "vit.embeddings.patch_embeddings.projection"),
    ("blocks.", "vit.encoder.layer."), ("norm1", "layernorm_before"), ("norm2", "layernorm_after"),
    ("attn.proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"), ("norm.", "vit.layernorm."), ("head.", "classifier."),
]
PARTS = ("query", "key", "value")


def hugging_face(a):
    for tensor, third in with_parts(timm(a)):
        name = renamed(tensor.name, HUGGING_FACE)
        if third is None:
            yield changed(tensor, name)
            continue
        rows = slice(third * a.dim, (third + 1) * a.dim)
        yield changed(tensor, name.replace("attn.qkv", f"attention.attention.{PARTS[third]}"),
                      lambda values, rows=rows: values[rows])


JAX = [
    ("cls_token", "cls"), ("pos_embed", "Transformer/posembed_input/pos_embedding"),
    ("patch_embed.proj", "embedding"), ("blocks.", "Transformer/encoderblock_"),
    ("norm1.weight", "LayerNorm_0/scale"), ("norm2.weight", "LayerNorm_2/scale"),
    ("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2"),
    ("attn.", "MultiHeadDotProductAttention_1/"), ("Attention_1/proj", "Attention_1/out"),
    ("mlp.fc1", "MlpBlock_3/Dense_0"), ("mlp.fc2", "MlpBlock_3/Dense_1"),
    ("norm.weight", "Transformer/encoder_norm/scale"), ("norm.", "Transformer/encoder_norm/"),
    ("weight", "kernel"), (".", "/"),
]


def jax(a):
    """Inputs before outputs; the channels of attention as [heads, channels of a head]."""
    split = (a.heads, a.dim // a.heads)
    for tensor, third in with_parts(timm(a)):
        name = renamed(tensor.name, JAX)
        if third is not None:
            rows = slice(third * a.dim, (third + 1) * a.dim)
            yield changed(tensor, name.replace("qkv", PARTS[third]), lambda values, rows=rows:
                          values[rows].T.reshape(*values.shape[1:], *split))
        elif name.endswith("out/kernel"):
            yield changed(tensor, name, lambda values: values.T.reshape(*split, a.dim))
        elif len(tensor.shape) == 4:
            yield changed(tensor, name, lambda values: values.transpose(2, 3, 1, 0))
        elif len(tensor.shape) == 2:
            yield changed(tensor, name, lambda values: values.T)
        else:
            yield changed(tensor, name)


def write_safetensors(path, tensors, dtype="F32"):
    numbers = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}[dtype]
    tensors, header, end = list(tensors), {}, 0
    for tensor in tensors:
        begin, end = end, end + int(np.prod(tensor.shape)) * numbers.itemsize
        header[tensor.name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            file.write(np.ascontiguousarray(tensor.values(), numbers).data)


def write_npz(path, tensors):
    with zipfile.ZipFile(path, "w") as archive:
        for tensor in tensors:
            with archive.open(tensor.name + ".npy", "w") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(tensor.values()))


def read_logits(path):
    """Real logits [images, classes]."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        codes = np.frombuffer(file.read(), "<i4").reshape(header["logits"]["shape"])
    return float(header["__metadata__"]["logit_scale"]) * codes


@dataclasses.dataclass(frozen=True)
class Finished:
    output: str
    seconds: float
    peak_bytes: int


def run(*command):
    """Fails the test unless the program ends with status 0."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.monotonic()
        child = subprocess.Popen([str(part) for part in command], stdout=output, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        output.seek(0), errors.seek(0)
        if child.returncode != 0:
            raise AssertionError(f"{command}: status {child.returncode}\n{errors.read()}")
        return Finished(output.read(), seconds, usage.ru_maxrss << 10)


class Architectures(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.eval = self.folder / "labels.csv"
        self.eval.write_text("file,label\n" + "".join(f"{path},0\n" for path in EVALUATION))

    def check(self, a, checkpoint, scheme, normalization, *options, image_size=PATCH * GRID,
              images=8):
        """Quantizes and classifies; what quantize used, and the real logits of EVALUATION."""
        model = self.folder / "model.intg"
        made = run(CONVERT, "quantize", checkpoint, "--images", SAMPLES, "--limit", images, "-o",
                   model, "--eval", self.eval, "--json", *options)
        facts = json.loads(made.output)
        expected = a.facts(image_size)
        self.assertEqual({key: facts["architecture"][key] for key in expected}, expected)
        self.assertEqual(facts["checkpoint"]["scheme"], scheme)
        self.assertEqual(facts["method"]["name"], "default")
        self.assertEqual([facts["preprocessing"][key] for key in ("mean", "std")], normalization)
        self.assertEqual(facts["images"]["used"], images)
        self.assertTrue(set(facts["images"]["paths"]).isdisjoint(map(str, EVALUATION)))
        accuracy = facts["accuracy"]
        self.assertEqual((accuracy["images"], accuracy["failed"]), (len(EVALUATION), 0))
        logits, classified = self.classify(model)
        # The float logits, which are told nowhere, spread over the classes less by the error at
        # most.
        spread = np.sqrt(np.mean(np.var(logits, axis=1)))
        relative = accuracy["logit_rmse"] / (spread - accuracy["logit_rmse"])
        print(f"{checkpoint.name:33} {image_size} px: quantize {made.seconds:5.1f} s, "
              f"{made.peak_bytes / 1e6:5.0f} MB; classify {classified.seconds:4.1f} s, "
              f"{classified.peak_bytes / 1e6:5.0f} MB; model {model.stat().st_size / 1e6:5.1f} MB; "
              f"RMSE of logits {100 * relative:.1f} %", file=sys.stderr, flush=True)
        self.assertGreater(relative, 0)
        self.assertLess(relative, MAX_RELATIVE_RMSE)
        self.assertFalse(np.array_equal(logits[0], logits[1]))
        return made, logits

    def classify(self, model):
        prefix = self.folder / "logits"
        done = run(CLASSIFY, model, *EVALUATION, "--json", "--logits", prefix, "--overwrite")
        lines = [json.loads(line) for line in done.output.splitlines()]
        self.assertEqual([line["path"] for line in lines], [str(path) for path in EVALUATION])
        found = read_logits(f"{prefix}-00000.safetensors")
        self.assertEqual(found.shape, (len(EVALUATION), CLASSES))
        for line, row in zip(lines, found):
            self.assertEqual(len(line["top"]), 5)
            self.assertEqual(line["top"][0]["index"], int(np.argmax(row)))
        return found, done

    def test_deit_tiny(self):
        a = Architecture(192, 3)
        checkpoint = self.folder / "deit_tiny_patch16_224.safetensors"
        write_safetensors(checkpoint, timm(a))
        self.check(a, checkpoint, "timm", IMAGENET)

    def test_deit_tiny_distilled(self):
        a = Architecture(192, 3, distilled=True)
        checkpoint = self.folder / "tiny_distilled.safetensors"
        write_safetensors(checkpoint, timm(a))
        self.check(a, checkpoint, "timm", IMAGENET)

    def test_deit_small_by_two_names(self):
        a = Architecture(384, 6)
        checkpoint = self.folder / "deit_small_patch16_224.safetensors"
        write_safetensors(checkpoint, timm(a))
        _, expected = self.check(a, checkpoint, "timm", IMAGENET)
        config = {"num_attention_heads": a.heads, "hidden_size": a.dim, "layer_norm_eps": 1e-6,
                  "image_size": PATCH * GRID}
        (self.folder / "config.json").write_text(json.dumps(config))
        checkpoint = self.folder / "hugging_face.safetensors"
        write_safetensors(checkpoint, hugging_face(a))
        # Without a processor's config, these names mean a recipe that is not DeiT's.
        _, logits = self.check(a, checkpoint, "Hugging Face ViT", IMAGENET, "--preset", "deit")
        self.assertTrue(np.array_equal(logits, expected))

    def test_deit_base(self):
        a = Architecture(768, 12)
        checkpoint = self.folder / "deit_base_patch16_224.safetensors"
        write_safetensors(checkpoint, timm(a))
        self.check(a, checkpoint, "timm", IMAGENET)

    def test_vit_base_by_two_names_and_at_another_size(self):
        a = Architecture(768, 12)
        checkpoint = self.folder / "vit_base_patch16_224.safetensors"
        write_safetensors(checkpoint, timm(a))
        _, expected = self.check(a, checkpoint, "timm", HALVES)
        self.check(a, checkpoint, "timm", HALVES, "--img-size", 384, image_size=384, images=4)
        checkpoint.unlink()
        checkpoint = self.folder / "ViT-B_16.npz"
        write_npz(checkpoint, jax(a))
        _, logits = self.check(a, checkpoint, "JAX", HALVES)
        self.assertTrue(np.array_equal(logits, expected))

    def test_vit_large(self):
        a = Architecture(1024, 16, depth=24)
        checkpoint = self.folder / "vit_large_patch16_224.safetensors"
        write_safetensors(checkpoint, timm(a), "F16")
        made, _ = self.check(a, checkpoint, "timm", HALVES)
        self.assertLess(made.peak_bytes, MAX_BYTES_OF_LARGE)

    def check_swin(self, a, checkpoint, *options, **sizes):
        """With the accuracy of every layer."""
        report = self.folder / "report.json"
        self.check(a, checkpoint, "timm", IMAGENET, "--report-json", report, *options, **sizes)
        tensors = json.loads(report.read_text())["tensors"]
        self.assertEqual(sum(t["kind"] == "attention" for t in tensors), sum(a.depths))
        for tensor in tensors:
            self.assertGreater(tensor["snr_db"], MIN_SNR_DB, tensor["name"])

    def check_features(self, a, height, width):
        """Those of a larger image than the model was made for."""
        lines = run(FEATURES, self.folder / "model.intg").output.splitlines()
        self.assertEqual(len(lines), len(a.depths) + 1)
        for i, line in enumerate(lines[:-1]):
            number = r"(-?[0-9.]+)"  # no nan, no inf
            found = re.fullmatch(rf"stage{i + 1} +s16 \[(\d+), (\d+), (\d+)\]  scale .*  "
                                 rf"{number} to {number}", line)
            self.assertIsNotNone(found, line)
            stride = 4 * 2**i
            shape = [-(-height // stride), -(-width // stride), a.dim * 2**i]
            self.assertEqual([int(n) for n in found.groups()[:3]], shape)
            low, high = (float(n) for n in found.groups()[3:])
            self.assertLess(low, high)
        self.assertTrue(lines[-1].startswith(f"{height} x {width} pixels"), lines[-1])

    def check_swin_sizes(self, name, a):
        """Made for two sizes, and run at a detector's."""
        checkpoint = self.folder / f"swin_{name}_patch4_window7_224.safetensors"
        write_safetensors(checkpoint, microsoft(a))
        self.check_swin(a, checkpoint, images=4)
        self.check_features(a, 800, 1216)
        self.check_swin(a, checkpoint, "--img-size", 384, image_size=384, images=2)
        return checkpoint

    def test_swin_tiny(self):
        """And made for a detector's size, which takes larger ones minutes."""
        checkpoint = self.check_swin_sizes("tiny", SWIN_TINY)
        self.check_swin(SWIN_TINY, checkpoint, "--img-size", "800x1216", image_size=(800, 1216),
                        images=2)

    def test_swin_small(self):
        self.check_swin_sizes("small", SWIN_SMALL)

    def test_swin_base(self):
        self.check_swin_sizes("base", SWIN_BASE)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

#!/usr/bin/env python3
"""Checkpoints of all published sizes, with random weights, through intaglio-convert quantize and
intaglio-classify: facts, accuracy of the logits, peak memory.

usage: test_architectures.py CONVERT CLASSIFY GLYPHS_FOLDER
Exits with 77 where numpy is absent.
"""

import dataclasses
import functools
import json
import os
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

CONVERT, CLASSIFY, GLYPHS = (Path(arg).resolve() for arg in sys.argv[1:4])
SAMPLES = GLYPHS / "samples"  # any pictures do
# Not among those of the calibration: the last layers see one row per image, and fit few too well.
EVALUATION = [SAMPLES / "1_2.jpg", SAMPLES / "A_3.png"]
IMAGENET = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]
HALVES = [[0.5] * 3, [0.5] * 3]
PATCH, GRID, CLASSES = 16, 14, 1000
MAX_RELATIVE_RMSE = 0.15
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


def timm(a):
    tensors = []

    def add(name, *shape, deviation=0.02, mean=0.0):
        make = functools.partial(random_values, name, shape, deviation, mean)
        tensors.append(Tensor(name, shape, make))

    def linear(name, n, *inputs):
        add(name + ".weight", n, *inputs, deviation=np.prod(inputs) ** -0.5)
        add(name + ".bias", n)

    def norm(name):
        add(name + ".weight", a.dim, deviation=0.1, mean=1.0)
        add(name + ".bias", a.dim, deviation=0.1)

    tokens = ["cls_token"] + ["dist_token"] * a.distilled
    for token in tokens:
        add(token, 1, 1, a.dim)
    add("pos_embed", 1, len(tokens) + GRID**2, a.dim)
    linear("patch_embed.proj", a.dim, 3, PATCH, PATCH)
    for i in range(a.depth):
        block = f"blocks.{i}."
        norm(block + "norm1")
        linear(block + "attn.qkv", 3 * a.dim, a.dim)
        linear(block + "attn.proj", a.dim, a.dim)
        norm(block + "norm2")
        linear(block + "mlp.fc1", 4 * a.dim, a.dim)
        linear(block + "mlp.fc2", a.dim, 4 * a.dim)
    norm("norm")
    for head in ["head"] + ["head_dist"] * a.distilled:
        linear(head, CLASSES, a.dim)
    return tensors


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
        logits = self.folder / "logits.safetensors"
        done = run(CLASSIFY, model, *EVALUATION, "--json", "--logits", logits)
        lines = [json.loads(line) for line in done.output.splitlines()]
        self.assertEqual([line["path"] for line in lines], [str(path) for path in EVALUATION])
        found = read_logits(logits)
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


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

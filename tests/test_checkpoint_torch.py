"""Float checkpoints as PyTorch and NumPy themselves write them, listed by intaglio-convert tensors.

Run: python3 tests/test_checkpoint_torch.py CONVERT. Exits with 77 where torch is absent.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zlib

try:
    import numpy
    import torch
except ImportError:
    print("*** SKIPPED: test_checkpoint_torch needs torch and numpy, which this Python does not have",
          file=sys.stderr)
    sys.exit(77)

CONVERT = pathlib.Path(sys.argv.pop(1)).resolve()
FLOATS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
OTHERS = {torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
          torch.uint8: "U8", torch.bool: "BOOL"}


def crc32(array):
    return zlib.crc32(numpy.ascontiguousarray(array, dtype="<f4").tobytes())


class CheckpointTest(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "checkpoint"

    def convert(self, *arguments, status=0):
        done = subprocess.run([CONVERT, "tensors", self.path, *arguments], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def listed(self, *arguments):
        content = json.loads(self.convert("--json", *arguments).stdout)
        return content["container"], {entry.pop("name"): entry for entry in content["tensors"]}

    def saved(self, content, *arguments, **options):
        torch.save(content, self.path, **options)
        return self.listed(*arguments)

    def refused(self, message, *arguments, status=4):
        self.assertRegex(self.convert(*arguments, status=status).stderr, message)

    def check(self, tensors, expected):
        """`tensors` as listed are `expected`, bit for bit."""
        self.assertEqual(list(tensors), sorted(expected))
        for name, tensor in expected.items():
            entry = tensors[name]
            self.assertEqual(entry["shape"], list(tensor.shape), name)
            self.assertEqual(entry["type"], (FLOATS | OTHERS)[tensor.dtype], name)
            if tensor.dtype not in FLOATS:
                self.assertNotIn("crc32", entry)
                continue
            values = tensor.detach().to(torch.float32).numpy()
            self.assertEqual(entry["crc32"], crc32(values), name)
            if values.size:
                self.assertEqual((entry["min"], entry["max"]), (values.min(), values.max()), name)
                self.assertAlmostEqual(entry["mean"], values.mean(dtype="f8"), places=12, msg=name)

    def state(self):
        storage = torch.randn(1000)
        state = {
            "plain": torch.randn(3, 4, 5),
            "parameter": torch.nn.Parameter(torch.randn(7)),
            "transposed": torch.randn(5, 6).t(),
            "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "shared.a": storage[10:20],
            "shared.b": storage.view(10, 100)[::3, 5::7],
            "column": torch.randn(8, 9)[:, 4],
            "scalar": torch.tensor(0.25),
            "empty": torch.zeros(3, 0),
            "one_expanded": torch.arange(5.0).expand(1, -1),
            "count": torch.tensor(12),
            "flags": torch.tensor([True, False]),
        }
        for dtype, name in FLOATS.items():
            state[f"kind.{name}"] = (torch.randn(4, 100) * 1e-3).to(dtype)
        state["tiny"] = torch.tensor([2.0**-24, 2.0**-15, -0.0, 65504.0]).half()
        for dtype, name in OTHERS.items():
            state[f"kind.{name}"] = torch.ones(3, dtype=dtype)
        return state

    def test_all_kinds_of_tensors(self):
        for protocol in range(2, 6):
            state = self.state()
            container, tensors = self.saved(state, pickle_protocol=protocol)
            self.assertEqual(container, "PyTorch (top level)")
            self.check(tensors, state)

    def test_a_module(self):
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4), torch.nn.BatchNorm2d(8))
        self.check(self.saved(model.state_dict())[1], dict(model.state_dict()))
        parallel = torch.nn.DataParallel(model)
        self.check(self.saved(parallel.state_dict())[1], dict(model.state_dict()))

    def test_a_training_checkpoint(self):
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        averaged = collections.OrderedDict((k, v + 1) for k, v in model.state_dict().items())
        content = {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 299,
            "args": argparse.Namespace(lr=1e-3, layers=[1, 2], path=pathlib.Path("x")),
            "loss": numpy.float64(0.5), "history": numpy.arange(5), "big": 2**80, "set": {1, 2},
            "device": torch.device("cpu"), "dtype": torch.float16, "size": torch.ones(2).shape,
        }
        container, tensors = self.saved(content)
        self.assertEqual(container, "PyTorch (model)")
        self.check(tensors, dict(model.state_dict()))
        container, tensors = self.saved(content | {"model_ema": averaged})
        self.assertEqual(container, "PyTorch (model_ema)")
        self.check(tensors, averaged)
        container, tensors = self.listed("--key", "model")
        self.assertEqual(container, "PyTorch ('model')")
        self.check(tensors, dict(model.state_dict()))
        self.refused("dictionary of tensors under 'args'.*'argparse.Namespace'", "--key", "args",
                     status=2)

    def test_what_is_refused(self):
        torch.save({"w": torch.ones(2)}, self.path, _use_new_zipfile_serialization=False)
        self.refused("a bare pickle, as PyTorch before 1.6 wrote")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(self.path))
        self.refused("a TorchScript program")
        torch.save(torch.nn.Linear(2, 2), self.path)
        self.refused("found an object of 'torch.nn.modules.linear.Linear'")

    def test_what_is_not_finite(self):
        torch.save({"good": torch.ones(2), "bad": torch.tensor([1.0, float("nan")])}, self.path)
        self.assertRegex(self.convert(status=1).stdout, "tensor 'bad': .*found NaN as element 1")

    def test_the_table(self):
        torch.save({"a.weight": torch.tensor([[0.5, -1.0]]), "n": torch.tensor(3)}, self.path)
        self.assertEqual([line.split() for line in self.convert().stdout.splitlines()],
                         [["PyTorch", "(top", "level)"],
                          ["a.weight", "F32", "[1,", "2]", "min", "-1", "max", "0.5", "mean",
                           "-0.25", "crc32", f"{crc32([[0.5, -1.0]]):08x}"],
                          ["n", "I64", "[]"]])

    def test_numpy(self):
        generator = numpy.random.default_rng(1)
        arrays = {
            "plain": generator.random((3, 4), dtype="f4"),
            "fortran": numpy.asfortranarray(generator.random((3, 4, 5), dtype="f4")),
            "block/half": generator.random(7).astype("f2"),
            "double": generator.random((2, 2)),
            "scalar": numpy.float32(3.5),
            "empty": numpy.zeros((0, 3), "f4"),
        }
        for save in numpy.savez, numpy.savez_compressed:
            with open(self.path, "wb") as file:
                save(file, **arrays, whole=numpy.arange(3), big=numpy.ones(2, ">f4"),
                     text=numpy.array("x"), fields=numpy.zeros(2, "i4,f4"))
            container, tensors = self.listed()
            self.assertEqual(container, "NumPy archive")
            self.assertEqual(tensors.pop("whole"), {"type": "I64", "shape": [3]})
            self.assertEqual(tensors.pop("big"), {"type": ">f4", "shape": [2]})
            self.assertEqual(tensors.pop("text"), {"type": "<U1", "shape": []})
            self.assertIn("<i4", tensors.pop("fields")["type"])
            self.assertEqual(set(tensors), set(arrays))
            for name, array in arrays.items():
                self.assertEqual(tensors[name]["shape"], list(array.shape), name)
                self.assertEqual(tensors[name]["crc32"], crc32(array), name)


if __name__ == "__main__":
    unittest.main()

"""converters/fqvit_export.py on a stand-in for a calibrated FQ-ViT model, read back independently.

Run: python3 tests/test_fqvit_export.py [intaglio-convert]. With the program, it imports the file.
Exits with 77 where torch is absent.
"""

import json
import os
import pathlib
import stat
import struct
import subprocess
import sys
import tempfile
import unittest

try:
    import torch
except ImportError:
    print("*** SKIPPED: test_fqvit_export needs torch, which this Python does not have",
          file=sys.stderr)
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden/vit_micro/model.safetensors"
HAS_CONVERT = len(sys.argv) > 1 and pathlib.Path(sys.argv[1]).is_file()
CONVERT = pathlib.Path(sys.argv.pop(1)) if HAS_CONVERT else None
sys.path.insert(0, str(ROOT / "converters"))

import fqvit_export  # noqa: E402: found by the path above

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 1,
          "num_classes": 10, "input_quant": True}
ARGUMENTS = {"arch": "vit", "mean": MEAN, "std": STD, "img_size": 64, "config": CONFIG,
             "quant_method": "minmax"}


class Uniform:
    """As in the authors' code: a plain object, None before calibration."""

    def __init__(self):
        self.scale = None
        self.zero_point = None


class Log2:
    """Has neither scale nor zero point."""


class QAct(torch.nn.Module):
    def __init__(self, channels=None):
        super().__init__()
        self.channels = channels
        self.quantizer = Uniform()

    def calibrate(self):
        shape = [] if self.channels is None else [self.channels]
        self.quantizer.scale = 0.01 * 2.0 ** torch.randint(0, 4, shape)
        self.quantizer.zero_point = torch.tensor(128.0)  # the authors' observers give floats


class Weighted:
    """Mixed into layers: one scale per output channel, symmetric."""

    def calibrate(self):
        self.quantizer.scale = self.weight.detach().flatten(1).abs().amax(1) / 127.5
        self.quantizer.zero_point = torch.zeros_like(self.quantizer.scale, dtype=torch.int64)


class QLinear(Weighted, torch.nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.quantizer = Uniform()


class QConv2d(Weighted, torch.nn.Conv2d):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.quantizer = Uniform()


class QSoftmax(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.quantizer = Log2()


class Attention(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.proj = QLinear(dim, 3 * dim), QLinear(dim, dim)
        self.qact1, self.qact2, self.qact3, self.qact_attn1 = QAct(), QAct(), QAct(), QAct()
        self.log_int_softmax = QSoftmax()


class Mlp(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = QLinear(dim, 4 * dim), QLinear(4 * dim, dim)
        self.qact1, self.qact2 = QAct(), QAct()


class Block(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(dim)
        self.attn, self.mlp = Attention(dim), Mlp(dim)
        self.qact1, self.qact2, self.qact3, self.qact4 = QAct(), QAct(dim), QAct(), QAct(dim)


class PatchEmbed(torch.nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = QConv2d(3, dim, kernel_size=16, stride=16)
        self.qact = QAct()


class Vit(torch.nn.Module):
    """The modules of vit_micro, without their arithmetic."""

    def __init__(self, dim=64, calibrated=True):
        super().__init__()
        self.cls_token = torch.nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = torch.nn.Parameter(torch.randn(1, 17, dim))
        self.qact_input, self.qact_embed, self.qact_pos = QAct(), QAct(), QAct()
        self.patch_embed = PatchEmbed(dim)
        self.qact1, self.qact2, self.act_out = QAct(dim), QAct(), QAct()
        self.blocks = torch.nn.ModuleList(Block(dim) for _ in range(2))
        self.norm, self.head = torch.nn.LayerNorm(dim), QLinear(dim, 10)
        for module in self.modules() if calibrated else ():
            if hasattr(module, "calibrate"):
                module.calibrate()


def read(path):
    """Metadata, and tensors as (dtype, shape, list of numbers)."""
    content = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + length])
    metadata, data, tensors, end = header.pop("__metadata__"), content[8 + length:], {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = entry["data_offsets"]
        assert begin == end, name
        end = stop
        code = {"F32": "f", "I32": "i"}[entry["dtype"]]
        numbers = struct.unpack(f"<{(stop - begin) // 4}{code}", data[begin:stop])
        tensors[name] = entry["dtype"], entry["shape"], list(numbers)
    assert end == len(data)
    return metadata, tensors


class ExportTest(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.path = self.folder / "model.safetensors"

    def export(self, model, **changes):
        fqvit_export.export(model, self.path, **(ARGUMENTS | changes))
        return read(self.path)

    def refused(self, message, model, **changes):
        with self.assertRaisesRegex(fqvit_export.ExportError, message):
            self.export(model, **changes)
        self.assertEqual(os.listdir(self.folder), [])

    def test_same_entries_as_the_reference(self):
        metadata, tensors = self.export(Vit())
        expected_metadata, expected = read(GOLDEN)
        self.assertEqual({name: t[:2] for name, t in tensors.items()},
                         {name: t[:2] for name, t in expected.items()})
        self.assertEqual(metadata, expected_metadata)

    def test_values(self):
        model = Vit()
        _, tensors = self.export(model)
        for name, tensor in model.state_dict().items():
            self.assertEqual(tensors[name][2], tensor.flatten().tolist(), name)
        self.assertEqual(tensors["blocks.1.qact4.quantizer.scale"][2],
                         model.blocks[1].qact4.quantizer.scale.tolist())
        self.assertEqual(tensors["head.quantizer.scale"][2], model.head.quantizer.scale.tolist())
        self.assertEqual(tensors["qact1.quantizer.zero_point"], ("I32", [], [128]))

    def test_metadata(self):
        metadata, _ = self.export(Vit(), arch="deit_tiny_patch16_224", config=None, ptf=False,
                                  lis=False, crop_pct=0.9, interpolation="bicubic",
                                  quant_method=None)
        self.assertEqual(metadata, {
            "format": "fqvit-calibrated", "arch": "deit_tiny_patch16_224", "img_size": "64",
            "mean": "[0.485, 0.456, 0.406]", "std": "[0.229, 0.224, 0.225]", "ptf": "False",
            "lis": "False", "crop_pct": "0.9", "interpolation": "bicubic"})

    def test_memory_layout_does_not_matter(self):
        model = Vit()
        plain = self.export(model)
        model.head.weight = torch.nn.Parameter(model.head.weight.detach().t().contiguous().t())
        self.assertFalse(model.head.weight.is_contiguous())
        self.assertEqual(self.export(torch.nn.DataParallel(model)), plain)
        _, tensors = self.export(Vit().half())
        self.assertEqual(tensors["head.weight"][:2], ("F32", [10, 64]))

    def test_derived_buffers_are_left_out(self):
        model = Vit()
        attention = model.blocks[0].attn
        attention.register_buffer("relative_position_index", torch.zeros(4, 4, dtype=torch.int64))
        attention.register_buffer("attn_mask", torch.full((4, 4), -100.0))
        attention.relative_position_bias_table = torch.nn.Parameter(torch.zeros(9, 1))
        _, tensors = self.export(model)
        self.assertFalse([name for name in tensors if name.endswith(("index", "mask"))])
        self.assertIn("blocks.0.attn.relative_position_bias_table", tensors)

    def test_uncalibrated_models_are_refused(self):
        self.refused("not calibrated", Vit(calibrated=False))
        model = Vit()
        model.blocks[1].mlp.qact1.quantizer.zero_point = None
        self.refused(r"^blocks\.1\.mlp\.qact1: the quantizer is not calibrated", model)
        self.refused("no quantizers", torch.nn.Linear(2, 2))

    def test_impossible_values_are_refused(self):
        def changed(module, **values):
            model = Vit()
            vars(model.get_submodule(module).quantizer).update(values)
            return model
        self.refused(r"^blocks\.0\.qact2\.quantizer\.scale: expected positive",
                     changed("blocks.0.qact2", scale=torch.zeros(64)))
        self.refused(r"^qact2\.quantizer\.scale: a value is not finite",
                     changed("qact2", scale=torch.tensor(float("nan"))))
        for zero_point in (0.5, float("inf"), 2.0**31):
            self.refused(r"^qact2\.quantizer\.zero_point: expected integers",
                         changed("qact2", zero_point=torch.tensor(zero_point)))
        model = Vit()
        model.norm.bias.data[3] = float("inf")
        self.refused(r"^norm\.bias: a value is not finite", model)
        model = Vit()
        model.norm.register_buffer("steps", torch.tensor(7))
        self.refused(r"^norm\.steps: expected floating-point", model)

    def test_impossible_arguments_are_refused(self):
        self.refused("mean: expected three numbers", Vit(), mean=(0.5, 0.5))
        self.refused("std: expected three numbers", Vit(), std=(0.5, 0.5, float("nan")))
        self.refused("needs a config", Vit(), config=None)

    def test_file_is_replaced_whole_or_not_at_all(self):
        self.path.write_text("old")
        umask = os.umask(0o027)
        self.export(Vit())
        os.umask(umask)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)
        self.assertEqual(os.listdir(self.folder), [self.path.name])
        target = self.folder / "folder"
        target.mkdir()
        with self.assertRaises(OSError):
            fqvit_export.export(Vit(), target, **ARGUMENTS)
        with self.assertRaises(OSError):
            fqvit_export.export(Vit(), self.folder / "none/x", **ARGUMENTS)
        self.assertEqual(sorted(os.listdir(self.folder)), ["folder", self.path.name])

    @unittest.skipIf(CONVERT is None, "no intaglio-convert given")
    def test_the_importer_takes_it(self):
        model = Vit()
        model.qact_embed.quantizer = model.patch_embed.qact.quantizer
        self.export(model)
        command = [CONVERT, "import", self.path, "-o", self.folder / "model.intg"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 blocks, 64 channels, 1 heads, 64x64 pixels, 10 classes", done.stdout)


if __name__ == "__main__":
    unittest.main()

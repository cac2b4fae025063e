#!/usr/bin/python3
"""Calibrates the trained weights for FQ-ViT (minmax ranges, powers-of-two factors for the inputs of LayerNorm, Log-Int-Softmax),
checks the accuracy of the quantized network in a simulation, and writes the calibrated checkpoint.

Method: Lin et al., "FQ-ViT: Post-Training Quantization for Fully Quantized Vision Transformer", IJCAI 2022. The simulation
rounds where the integer network rounds, but computes LayerNorm, GELU and biases in float.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model import MEAN, STD, FloatPoints, VisionTransformer, accuracy, load_safetensors, save_safetensors

SMALLEST_SCALE = 2.0**-23
Quantizer = tuple[Tensor, Tensor]  # scale, zero point: scalars, or one scale per channel


def is_layernorm_input(name: str) -> bool:
    """The residual stream: the model's qact1, every block's qact2 and qact4."""
    return name == "qact1" or (name.startswith("blocks.") and name.count(".") == 2 and name.endswith(("qact2", "qact4")))


def minmax_quantizer(low: Tensor, high: Tensor) -> Quantizer:
    scale = ((high - low) / 255).clamp(min=SMALLEST_SCALE)
    return scale, torch.round(-low / scale).clamp(0, 255)


def ptf_quantizer(low: Tensor, high: Tensor, x: Tensor) -> Quantizer:
    """Per channel of x [..., dim] the factor 1, 2, 4 or 8 with the least squared error; the largest is the minmax scale."""
    whole, zero_point = minmax_quantizer(low, high)
    rows = x.flatten(0, -2)
    factors = 2.0 ** torch.arange(4)
    errors = torch.stack([(rows - fake_quantize(rows, whole / 8 * f, zero_point, 0, 255)).square().mean(0) for f in factors])
    return whole / 8 * factors[errors.argmin(0)], zero_point


def weight_quantizer(w: Tensor) -> Quantizer:
    """One scale per output channel, w [out, ...]."""
    scale = (w.flatten(1).abs().amax(1) / 127.5).clamp(min=SMALLEST_SCALE)
    return scale, torch.zeros_like(scale)


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, lowest: int, highest: int) -> Tensor:
    """To codes (rounded half to even, clamped) and back."""
    return (torch.round(x / scale + zero_point).clamp(lowest, highest) - zero_point) * scale


def log_int_softmax(scores: Tensor, scale: Tensor) -> Tensor:
    """Softmax whose results are powers of two, 2^0 to 2^-15, or zero; exp is a second-order polynomial on the scores' grid."""
    x = (scores / scale).double()
    x = x - x.amax(-1, keepdim=True)
    s = scale.double()
    ln2, b, c = torch.floor(-0.6931 / s), torch.floor(2.70733 / s), torch.floor(2.79212 / s**2)
    x = torch.maximum(x, 30 * ln2)
    q = torch.floor(x / ln2)
    r = x - q * ln2
    e = torch.floor((r * (r + b) + c) * 2 ** (30 - q))
    mantissa, exponent = torch.frexp(torch.round(e.sum(-1, keepdim=True) / e.clamp(min=1)))  # mantissa in [0.5, 1)
    code = exponent - 1 + (mantissa >= 0.75)
    return torch.where((code < 16) & (e > 0), torch.exp2(-code.double()), 0.0).float()


class Observer(FloatPoints):
    """Sees the float network's activations batch by batch; in the last batch it fixes every quantizer."""

    def __init__(self) -> None:
        self.last = False
        self.ranges: dict[str, tuple[Tensor, Tensor]] = {}
        self.quantizers: dict[str, Quantizer] = {}

    def activation(self, name: str, x: Tensor) -> Tensor:
        low, high = x.min(), x.max()
        if name in self.ranges:
            low, high = torch.minimum(low, self.ranges[name][0]), torch.maximum(high, self.ranges[name][1])
        self.ranges[name] = low, high
        if self.last:
            self.quantizers[name] = ptf_quantizer(low, high, x) if is_layernorm_input(name) else minmax_quantizer(low, high)
        return x

    def weight(self, name: str, w: Tensor) -> Tensor:
        self.quantizers[name] = weight_quantizer(w)
        return w

    def softmax(self, name: str, scores: Tensor) -> Tensor:
        """In the last batch the scores have their scale, and the authors' code uses it at once."""
        return log_int_softmax(scores, self.quantizers[name][0]) if self.last else scores.softmax(-1)


class QuantizedPoints(FloatPoints):
    """Rounds weights, activations and the attention map to their grids."""

    def __init__(self, quantizers: dict[str, Quantizer]) -> None:
        self.quantizers = quantizers

    def activation(self, name: str, x: Tensor) -> Tensor:
        if name == "act_out":  # classes are ranked before the logits are rounded, which would make ties
            return x
        return fake_quantize(x, *self.quantizers[name], 0, 255)

    def weight(self, name: str, w: Tensor) -> Tensor:
        scale, zero_point = (v.reshape(-1, *[1] * (w.dim() - 1)) for v in self.quantizers[name])
        return fake_quantize(w, scale, zero_point, -128, 127)

    def softmax(self, name: str, scores: Tensor) -> Tensor:
        return log_int_softmax(scores, self.quantizers[name][0])


@torch.no_grad()
def calibrate(model: VisionTransformer, images: Tensor, batch: int) -> dict[str, Quantizer]:
    """Quantizers by module name, from images [count, 32, 32, 3] u8."""
    observer = Observer()
    batches = images.split(batch)
    for number, pixels in enumerate(batches):
        observer.last = number == len(batches) - 1
        model(pixels, observer)
    return observer.quantizers


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn trained float weights into a calibrated FQ-ViT checkpoint.")
    parser.add_argument("--weights", type=Path, required=True, help="float weights from train.py")
    parser.add_argument("--calibration", type=Path, required=True, help=".npz of the split calibration")
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], help=".npz files of images to check with")
    parser.add_argument("--out", type=Path, required=True, help="the calibrated checkpoint, safetensors")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    weights, provenance = load_safetensors(args.weights)
    model = VisionTransformer(json.loads(provenance["config"]))
    model.load_state_dict(weights)
    model.eval()
    images = torch.from_numpy(np.load(args.calibration)["images"])
    quantizers = calibrate(model, images, args.batch)
    metadata = {"format": "fqvit-calibrated", "arch": "vit", **provenance, "quant_method": "minmax", "ptf": "True", "lis": "True"}
    metadata |= {"img_size": str(model.config["img_size"]), "mean": json.dumps(MEAN), "std": json.dumps(STD)}
    metadata |= {"crop_pct": "1.0", "interpolation": "bicubic", "calibration_images": str(len(images))}
    for data in args.held_out:
        share = f"{accuracy(model, data, QuantizedPoints(quantizers)):.4f}"
        metadata[f"quantized_accuracy_{data.stem}"] = share
        print(f"accuracy on {data.stem}: float {provenance.get(f'float_accuracy_{data.stem}', '?')}, quantized {share}", flush=True)
    tensors = dict(weights)
    for name, (scale, zero_point) in quantizers.items():
        tensors[f"{name}.quantizer.scale"] = scale
        tensors[f"{name}.quantizer.zero_point"] = zero_point.int()
    save_safetensors(args.out, tensors, metadata)


if __name__ == "__main__":
    main()

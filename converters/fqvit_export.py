"""Writes the calibrated checkpoint of a PyTorch FQ-ViT model, for `intaglio-convert import`.

A calibrated model has no file of its own: its quantizers live as attributes of Python modules. Call
export() where they are alive. In the authors' test_quant.py, that is behind the calibration:

    model.model_close_calibrate()
    model.model_quant()

    from fqvit_export import export
    export(model, "deit_tiny.safetensors", arch="deit_tiny_patch16_224",
           mean=mean, std=std, img_size=224, crop_pct=crop_pct, interpolation="bicubic",
           quant_method=args.quant_method, ptf=args.ptf, lis=args.lis)

A model that is none of the published ones says what it is by the arguments of its constructor:

    export(model, "mine.safetensors", arch="vit", mean=mean, std=std, img_size=64,
           config={"patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 1,
                   "num_classes": 10, "input_quant": True})

What is read: model.state_dict(), and of model.named_modules() every attribute `quantizer` with a
scale and a zero_point. The file holds

    <parameter>                       float32, under its PyTorch name
    <module>.quantizer.scale          float32, scalar or one per channel
    <module>.quantizer.zero_point     int32, likewise

and the arguments as metadata. docs/file_format.md describes it. Needs torch, nothing else, and no
Python newer than the authors' code does.
"""

import ctypes
import json
import math
import os
import struct

import torch

# Buffers that follow from the sizes of the model.
_DERIVED = ("relative_position_index", "attn_mask")
_QUANTIZER = (".quantizer.scale", ".quantizer.zero_point")
_DTYPES = {torch.float32: "F32", torch.int32: "I32"}
_ALIGNMENT = 64


class ExportError(ValueError):
    """The model cannot be written as a calibrated checkpoint; the message names the place."""


def export(model, path, *, arch, mean, std, img_size, config=None, quant_method=None, ptf=True,
           lis=True, crop_pct=None, interpolation=None):
    """Writes `model` to `path`: the whole file, or nothing. Raises ExportError or OSError.

    arch: "deit_tiny_patch16_224" and the like; or "vit" or "swin" with the constructor's arguments
    as `config`. mean, std: of RGB / 255. The rest tells how the model was calibrated and how its
    images are prepared.
    """
    if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        model = model.module
    metadata = _metadata(arch, mean, std, img_size, config)
    metadata.update(ptf=str(bool(ptf)), lis=str(bool(lis)))
    optional = {"quant_method": quant_method, "crop_pct": crop_pct, "interpolation": interpolation}
    metadata.update((key, str(value)) for key, value in optional.items() if value is not None)
    _replace(path, _serialize({**_parameters(model), **_quantizers(model)}, metadata))


def _metadata(arch, mean, std, img_size, config):
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not all(math.isfinite(v) for v in values):
            raise ExportError(f"{name}: expected three numbers, found {values!r}")
    if arch in ("vit", "swin") and config is None:
        raise ExportError(f"arch {arch!r} needs a config: the arguments of the model's constructor")
    metadata = {"format": "fqvit-calibrated", "arch": arch, "img_size": str(int(img_size)),
                "mean": json.dumps([float(v) for v in mean]),
                "std": json.dumps([float(v) for v in std])}
    if config is not None:
        metadata["config"] = json.dumps(config)
    return metadata


def _parameters(model):
    """All of the state, float32, but for what is derived and what _quantizers() reads."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.split(".")[-1] in _DERIVED or name.endswith(_QUANTIZER):
            continue
        if not tensor.is_floating_point():
            raise ExportError(f"{name}: expected floating-point numbers, found {tensor.dtype}")
        tensors[name] = _finite(name, tensor.detach().to(torch.float32))
    return tensors


def _quantizers(model):
    """Scales and zero points of all uniform quantizers. Log2 quantizers have neither."""
    tensors = {}
    for name, module in model.named_modules():
        quantizer = getattr(module, "quantizer", None)
        if not hasattr(quantizer, "scale"):
            continue
        scale, zero_point = quantizer.scale, getattr(quantizer, "zero_point", None)
        if not torch.is_tensor(scale) or not torch.is_tensor(zero_point):
            raise ExportError(f"{name}: the quantizer is not calibrated (no scale, no zero point); "
                              "run the calibration before the export")
        scale = _finite(f"{name}.quantizer.scale", scale.detach().to(torch.float32))
        if not bool((scale > 0).all()):
            raise ExportError(f"{name}.quantizer.scale: expected positive numbers")
        tensors[f"{name}.quantizer.scale"] = scale
        tensors[f"{name}.quantizer.zero_point"] = _integers(f"{name}.quantizer.zero_point",
                                                            zero_point.detach())
    if not tensors:
        raise ExportError("the model has no quantizers; is it an FQ-ViT model?")
    return tensors


def _finite(name, tensor):
    if not bool(torch.isfinite(tensor).all()):
        raise ExportError(f"{name}: a value is not finite")
    return tensor


def _integers(name, tensor):
    """The authors keep some zero points as floats; their values are integers all the same."""
    wide = tensor.to(torch.float64)
    if not bool(((wide == wide.round()) & (wide.abs() < 2**31)).all()):
        raise ExportError(f"{name}: expected integers of 32 bits")
    return tensor.to(torch.int32)


def _bytes(tensor):
    tensor = tensor.cpu().contiguous()
    size = tensor.numel() * tensor.element_size()
    return ctypes.string_at(tensor.data_ptr(), size) if size else b""


def _serialize(tensors, metadata):
    """A safetensors file: length of the header, header, data without holes."""
    header, data, end = {"__metadata__": metadata}, [], 0
    for name, tensor in sorted(tensors.items()):
        data.append(_bytes(tensor))
        begin, end = end, end + len(data[-1])
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return b"".join([struct.pack("<Q", len(text)), text, *data])


def _replace(path, content):
    """Whoever opens `path` finds the old file or the whole new one."""
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
